// This file says what to try after a handshake that failed.

package tlsconfig

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// Hint says what to try after a handshake that failed by the certificate or
// the options of either side, or because the other side does not speak TLS;
// "" if it failed for another reason.
func Hint(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		if c := unknown.Cert; c != nil && bytes.Equal(c.RawIssuer, c.RawSubject) {
			return "the server's certificate is self-signed: if it is the right one, trust it by " + OptionCA + "=file:PATH; " + OptionInsecure + "=" + SkipVerify + " turns the verification off"
		}
		return "if the server's certificate is of a private authority, give that authority's by " + OptionCA + "=file:PATH"
	case errors.As(err, &name):
		return "the certificate is for " + describeNames(name.Certificate) + ": connect to that name, or give the name to expect by " + OptionSNI + "=NAME"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet: renew it, or set this machine's clock"
	case errors.As(err, &invalid):
		return "the certificate cannot be used for this: see its key usages and its chain"
	case errors.As(err, &record):
		return "the other side does not speak TLS here: check the port, or leave tls out of the address"
	}
	if code, ok := Alert(err); ok {
		return AlertHint(code)
	}
	return ""
}

// Alert is the alert that the other side has ended the connection with (RFC
// 8446 section 6), if err is about that.
func Alert(err error) (code uint8, ok bool) {
	var quic tls.AlertError
	if errors.As(err, &quic) {
		return uint8(quic), true
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	// Its type is not exported; its text is that of an AlertError.
	text := op.Err.Error()
	for n := range 256 {
		if tls.AlertError(n).Error() == text {
			return uint8(n), true
		}
	}
	return 0, false
}

// Alerts of RFC 8446 section 6, for which there is something to try.
const (
	alertHandshakeFailure       = 40
	alertBadCertificate         = 42
	alertUnsupportedCertificate = 43
	alertCertificateRevoked     = 44
	alertCertificateExpired     = 45
	alertCertificateUnknown     = 46
	alertUnknownCA              = 48
	alertAccessDenied           = 49
	alertProtocolVersion        = 70
	alertInsufficientSecurity   = 71
	alertUnrecognizedName       = 112
	alertCertificateRequired    = 116
	alertNoApplicationProtocol  = 120
)

// IsAboutCertificate reports whether an alert refuses us for our certificate,
// or for the lack of one.
func IsAboutCertificate(code uint8) bool {
	switch code {
	case alertBadCertificate, alertUnsupportedCertificate, alertCertificateRevoked, alertCertificateExpired,
		alertCertificateUnknown, alertUnknownCA, alertAccessDenied, alertCertificateRequired:
		return true
	}
	return false
}

// AlertHint is Hint for an alert that the other side has sent.
func AlertHint(code uint8) string {
	switch code {
	case alertBadCertificate, alertUnsupportedCertificate, alertCertificateRevoked, alertCertificateExpired,
		alertCertificateUnknown, alertUnknownCA, alertAccessDenied:
		return "the other side does not accept our certificate: see its " + OptionCA + ", " + OptionClientCA + " and " + OptionClientName
	case alertCertificateRequired:
		return "the server wants a certificate of ours: give " + OptionCert + "=file:PATH and " + OptionKey + "=file:PATH"
	case alertProtocolVersion, alertHandshakeFailure, alertInsufficientSecurity:
		return "the two sides have no version of TLS or no cipher in common: see " + OptionMin + " at both; some servers say so when they want a certificate of ours: " + OptionCert + "=file:PATH and " + OptionKey + "=file:PATH"
	case alertUnrecognizedName:
		return "the server does not serve that name: give another by " + OptionSNI + "=NAME"
	case alertNoApplicationProtocol:
		return "the two sides have no protocol (ALPN) in common: see alpn at both"
	}
	return ""
}
