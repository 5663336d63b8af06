// Package tlsconfig makes a crypto/tls configuration of the options of an
// address, and says what to try when a handshake fails. The transports that
// speak TLS share it, so that certificates are judged the same way everywhere.
// It knows no transport: the options come through an interface, which
// anysock.Target implements. ALPN is the transports' own.
//
// The option of a file is written file:PATH, or env:NAME for a variable that
// has the contents. What certificates are verified against is decided by the
// standard library: a chain to the system's authorities or to those of ca, the
// name or address in the subject alternative names, dates, key usages.
package tlsconfig
