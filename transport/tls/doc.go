// Package tls is TLS 1.2 and 1.3 (RFC 8446, RFC 5246) over any connection
// below, by crypto/tls. Import it to register the layer:
//
//	tls://db:5432?ca=file:/etc/ca.pem            over TCP
//	tls+unix:/run/db.sock?sni=db                 over a Unix socket
//	tls+ws+tls://edge:443/t                      inside a WebSocket
//	socks5://proxy:1080,tls://db:5432            through a proxy
//	tls://:5432?cert=file:db.pem&key=file:db.key to listen
//
// Servers are verified: by the system's authorities or those of ca=, for the
// host of the address or the name of sni=. Where the address has no host name
// (unix, mem, a program) sni= must be given. insecure=skip-verify turns the
// verification off, and a warning is logged once for each address. A server
// with clientca= demands certificates of its clients, and clientname= says
// which may connect: exact subject alternative names, or * for all.
//
// Files are read once, when Dial or Listen is called.
//
// # What endings are
//
//	ours             on the wire                              theirs
//	CloseWrite       close_notify, and no FIN below           io.EOF
//	Abort            what the carrier's is: a RST on tcp      KindReset
//	                 FIN without close_notify                 KindTruncated
//	                 an alert that is not close_notify        KindReset
//	                 a record that is not genuine             KindTruncated
//
// A carrier that ends without close_notify is never an end of file, also where
// the bytes before it are whole records: crypto/tls itself takes that for an
// end. A peer that closes carelessly is therefore truncated here; nginx does so
// when we end first, since it does not answer a close_notify. A peer that closes
// as soon as it has sent its own has no use for ours: that is an orderly end.
//
// In TLS 1.3 a server judges our certificate after our handshake. Its refusal is
// the error of the first Read or Write then, KindAuth with the alert's name.
//
// Capabilities: halfclose, cutdetect and deadline are added. The others are
// those of the connection below; an acknowledgement is that of the encrypted
// bytes, so that the counts are a little higher than those of Write. A passed
// deadline or a cancelled call never breaks the connection (internal/deadline).
//
// Session tickets are not issued, and none are used: each connection is a
// full handshake. A client that does not read until the end would otherwise
// turn its close into a reset, because of tickets that it has not read.
//
// A handshake is bounded by anysock.DefaultHandshake, its messages by
// crypto/tls: 64 KiB each, 256 KiB for certificates, RSA keys of 8192 bits.
//
// With lc over it the layer demands ALPN anysock-lc/1 of the other side, and
// without lc it never speaks it.
//
// Use crypto/tls itself where no lifecycle is wanted.
package tls
