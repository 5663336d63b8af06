// This file says what went wrong in the words of anysock.

package tls

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	"github.com/anysock/anysock/internal/tlsconfig"
)

// errTruncated is a carrier that ended without the peer's close_notify.
var errTruncated error = truncatedError{}

type truncatedError struct{}

func (truncatedError) Error() string {
	return "the connection below ended without close_notify: data may be missing"
}
func (truncatedError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// errNoLC is a peer that did not agree to speak lc.
var errNoLC = errors.New("the other side does not speak " + lcProtocol)

// demandLC is a server's look at what a client offers.
func demandLC(offered []string) error {
	if !slices.Contains(offered, lcProtocol) {
		return errNoLC
	}
	return nil
}

// agreedLC looks at what was negotiated.
func agreedLC(protocol string) error {
	if protocol != lcProtocol {
		return errNoLC
	}
	return nil
}

// The hints of handshakes that fail before the other side's certificate.
const (
	hintSilent = "the other side does not answer the TLS handshake: does it speak TLS on this port?"
	hintClosed = "the other side closed the connection in the TLS handshake: it does not speak TLS on this port, or does not like our versions or certificate"
	hintLC     = "the other side must have " + lcScheme + "+ in its address too: if it cannot, leave out " + lcScheme + "+, and require"
	hintOnlyLC = "the other side refuses without a reason; if it speaks only " + lcScheme + ", put " + lcScheme + "+ in front of the address"
)

// handshakeError is why a handshake failed. What the connection below failed
// with keeps its kind.
func handshakeError(below *anysock.Conn, t anysock.Target, err error) error {
	e := &anysock.Error{Op: anysock.OpHandshake, Addr: peerName(below), Kind: anysock.KindAuth, Err: err, Hint: tlsconfig.Hint(err)}
	var carrier *anysock.Error
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind = anysock.KindCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		e.Kind, e.Hint = anysock.KindTimeout, hintSilent
	case errors.Is(err, errNoLC):
		e.Hint = hintLC
	case errors.Is(err, deadline.ErrCut):
		e.Err, e.Hint = errors.New("the connection was closed in the handshake"), hintClosed
	case errors.As(err, &carrier):
		e.Kind = carrier.Kind
		if e.Kind == anysock.KindReset {
			e.Hint = hintClosed
		}
	}
	switch code, _ := tlsconfig.Alert(err); {
	case code == alertInternalError:
		e.Hint = hintOnlyLC
	case code == alertNoApplicationProtocol && t.Above() == lcScheme:
		e.Hint = hintLC
	}
	return e
}

// peerName is the other side in messages.
func peerName(below *anysock.Conn) string {
	a := below.RemoteAddr()
	if a == nil {
		return "tls"
	}
	return "tls with " + a.Network() + ":" + a.String()
}

// Alerts of RFC 8446 section 6.2. internal_error is what a server of ours sends
// to clients that do not speak lc: crypto/tls has no other to give there.
const (
	alertInternalError         = 80
	alertNoApplicationProtocol = 120
)

// readError is what the library's Read failed with.
func (s *stream) readError(err error) error {
	switch {
	case err == io.EOF: //nolint:errorlint // close_notify, which comes bare
		s.set(ended)
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, deadline.ErrCut):
		return errTruncated
	}
	if code, ok := tlsconfig.Alert(err); ok {
		e := &anysock.Error{Op: anysock.OpRead, Addr: peerName(s.below), Kind: anysock.KindReset, Err: err, Hint: tlsconfig.AlertHint(code)}
		if tlsconfig.IsAboutCertificate(code) {
			// In TLS 1.3 a server tells only after our handshake.
			e.Kind = anysock.KindAuth
		}
		s.refusal.Store(e)
		return e
	}
	return err
}

// writeError is what sending failed with. A peer that gave up has said why by
// an alert, if the reader finds it, and reset the connection below.
func (s *stream) writeError(op string, err error) error {
	var carrier *anysock.Error
	if err == nil || !errors.As(err, &carrier) || carrier.Kind != anysock.KindReset {
		return err
	}
	s.awaitReader()
	if refusal := s.refusal.Load(); refusal != nil {
		e := *refusal
		e.Op = op
		return &e
	}
	return err
}
