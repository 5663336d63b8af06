// This file turns the library's errors into endings: whatever is not the
// peer's FIN is an error that says what happened.

package quic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/tlsconfig"
)

// Codes of RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE: the application's
// error codes of RFC 9000 section 20.2.
const (
	codeDone     = 0x0 // nothing is missing on either side
	codeAbort    = 0x1 // the sender gives up
	codeClosed   = 0x2 // the sender reads no more
	codeProtocol = 0x3 // the other side breaks the mapping
	codeBusy     = 0x4 // the listener has no room, or is closed
)

// codeNames say them in errors.
var codeNames = map[uint64]string{
	codeDone: "done", codeAbort: "aborted", codeClosed: "closed", codeProtocol: "protocol error", codeBusy: "no room",
}

func codeName(code uint64) string {
	if n, ok := codeNames[code]; ok {
		return n
	}
	return fmt.Sprintf("code %#x", code)
}

// A carrierError is an error of the library without its chain: all of those
// match net.ErrClosed, which here means that we have closed.
type carrierError struct {
	msg    string
	err    error
	closed bool // the peer had ended before: what it sent is complete
}

// Error says what the library said.
func (e *carrierError) Error() string { return e.msg }

// Is matches syscall.EPIPE, as a write to a socket does whose peer has ended
// and gone: that does not make its end a false one.
func (e *carrierError) Is(target error) bool { return e.closed && target == syscall.EPIPE }

// As finds the library's error.
func (e *carrierError) As(target any) bool { return errors.As(e.err, target) }

// fault is the error of a read or a write that the carrier ended.
func fault(op, addr string, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	var (
		ours  *anysock.Error
		str   *quicgo.StreamError
		app   *quicgo.ApplicationError
		idle  *quicgo.IdleTimeoutError
		reset *quicgo.StatelessResetError
		te    *quicgo.TransportError
	)
	e := &anysock.Error{Op: op, Addr: addr, Kind: anysock.KindTruncated, Err: &carrierError{msg: "the QUIC connection broke: " + err.Error(), err: err}}
	say := func(kind anysock.Kind, msg string) error {
		e.Kind, e.Err = kind, &carrierError{msg: msg, err: err}
		return e
	}
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &str) && str.Remote:
		return say(anysock.KindReset, "the peer reset the stream: "+codeName(uint64(str.ErrorCode)))
	case errors.As(err, &str):
		return net.ErrClosed
	case errors.As(err, &app) && !app.Remote && app.ErrorCode == codeProtocol:
		return say(anysock.KindTruncated, "the peer breaks the protocol: "+app.ErrorMessage)
	case errors.As(err, &app) && !app.Remote:
		return net.ErrClosed
	case errors.As(err, &app) && app.ErrorCode == codeDone:
		return say(anysock.KindTruncated, "the peer closed the connection before the end of the stream")
	case errors.As(err, &app):
		return say(anysock.KindReset, "the peer closed the connection: "+codeName(uint64(app.ErrorCode)))
	case errors.As(err, &idle):
		e.Hint = "the peer or the path to it is gone, or keep-alive is off on both sides"
		return say(anysock.KindLost, "nothing was heard of the peer for the idle timeout")
	case errors.As(err, &reset):
		return say(anysock.KindReset, "the peer does not know the connection any more: it was restarted, or has given up")
	case errors.As(err, &te) && te.Remote && isCrypto(te):
		// TLS 1.3 lets a client finish before the server has judged it.
		e.Hint = tlsconfig.AlertHint(uint8(te.ErrorCode - cryptoErrors))
		return say(anysock.KindAuth, "the peer ended the handshake: "+te.Error())
	case errors.Is(err, quicgo.ErrTransportClosed):
		return say(anysock.KindTruncated, "the UDP socket failed: "+err.Error())
	}
	return e
}

// isDone reports whether the peer closed the connection saying that nothing is
// missing.
func isDone(err error) bool {
	var app *quicgo.ApplicationError
	return errors.As(err, &app) && app.Remote && app.ErrorCode == codeDone
}

// TLS alerts as QUIC carries them (RFC 9001 section 4.8), and the one that a
// side without a protocol in common sends (RFC 7301).
const (
	cryptoErrors          = 0x100
	noApplicationProtocol = cryptoErrors + 120
)

func isCrypto(e *quicgo.TransportError) bool {
	return e.ErrorCode >= cryptoErrors && e.ErrorCode < cryptoErrors+0x100
}

// dialError is the error of a handshake.
func dialError(ctx context.Context, addr string, refused, err error, lc bool) error {
	var (
		te *quicgo.TransportError
		vn *quicgo.VersionNegotiationError
		ht *quicgo.HandshakeTimeoutError
		it *quicgo.IdleTimeoutError
		ae *quicgo.ApplicationError
		se *quicgo.StreamError
	)
	e := &anysock.Error{Op: anysock.OpConnect, Addr: addr, Err: &carrierError{msg: err.Error(), err: err}}
	switch {
	case refused != nil:
		return &anysock.Error{Op: anysock.OpConnect, Addr: addr, Kind: anysock.KindRefused, Err: refused, Hint: "nothing listens on that UDP port: is the server started, and does it speak QUIC?"}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &te) && te.ErrorCode == noApplicationProtocol && lc:
		e.Op, e.Kind, e.Hint = anysock.OpHandshake, anysock.KindAuth, "the peer does not speak lc: leave lc and require out of the address, or turn it on at the other side"
	case errors.As(err, &te) && isCrypto(te):
		e.Op, e.Kind, e.Hint = anysock.OpHandshake, anysock.KindAuth, tlsconfig.Hint(err)
		if e.Hint == "" {
			e.Hint = tlsconfig.AlertHint(uint8(te.ErrorCode - cryptoErrors))
		}
	case errors.As(err, &te) && te.ErrorCode == quicgo.ConnectionRefused:
		e.Kind, e.Hint = anysock.KindRefused, "the server is closing, or has too many handshakes at work: try again later"
	case errors.As(err, &vn):
		e.Op, e.Kind = anysock.OpHandshake, anysock.KindAuth
	case errors.As(err, &ht), errors.As(err, &it):
		e.Kind, e.Hint = anysock.KindTimeout, "nothing answers there: a firewall may drop UDP, or the server is not started"
	case errors.As(err, &ae) && ae.Remote && ae.ErrorCode == codeProtocol, errors.As(err, &se) && se.Remote && se.ErrorCode == codeProtocol:
		e.Op, e.Kind = anysock.OpHandshake, anysock.KindAuth
	case errors.As(err, &ae) && ae.Remote, errors.As(err, &se) && se.Remote:
		e.Kind, e.Hint = anysock.KindRefused, "the server is closing, or too many connections wait to be accepted: try again later"
	default:
		return err
	}
	return e
}
