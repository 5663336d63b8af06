// This file holds the reasons for which a server says no, and what each
// protocol says then.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"

	"github.com/anysock/anysock"
)

// A reason is why a request was not granted.
type reason int

// The reasons. Of several addresses that failed for different reasons the
// later one here is told, because it says most about the target.
const (
	becauseFailure        reason = iota // of the server, or one that no code fits
	becauseNotAllowed                   // by the rules
	becauseName                         // not found
	becauseNetUnreachable               //
	becauseUnreachable                  // the host
	becauseTimeout                      // no answer
	becauseRefused                      // by the target
	becauseMalformed                    // the request
	becauseLogin                        // none, or a wrong one
	becauseCommand                      // not served
	becauseForm                         // of the address, not known
	becauseHeadTooLong                  // HTTP
	becauseMethod                       // HTTP: one that is not CONNECT
	becauseUnknownMethod                // HTTP: one that is not known at all
	becauseVersion                      // HTTP: not 1.x
)

// answers is what each protocol says. RFC 1928 section 6 has no code for a
// timeout: 6, "TTL expired", is what Tor and others send for it, and leaves 4
// for a host that is known to be out of reach and a name that nobody knows.
// SOCKS4 knows one refusal: its 92 and 93 speak of identd, which is never
// asked here, so that they would never be true.
var answers = [...]struct {
	five reply5
	four reply4
	http int
}{
	becauseFailure:        {replyFailure, reply4Rejected, http.StatusBadGateway},
	becauseNotAllowed:     {replyNotAllowed, reply4Rejected, http.StatusForbidden},
	becauseName:           {replyHostUnreachable, reply4Rejected, http.StatusBadGateway},
	becauseNetUnreachable: {replyNetUnreachable, reply4Rejected, http.StatusBadGateway},
	becauseUnreachable:    {replyHostUnreachable, reply4Rejected, http.StatusBadGateway},
	becauseTimeout:        {replyTTLExpired, reply4Rejected, http.StatusGatewayTimeout},
	becauseRefused:        {replyRefused, reply4Rejected, http.StatusBadGateway},
	becauseMalformed:      {replyFailure, reply4Rejected, http.StatusBadRequest},
	becauseLogin:          {replyNotAllowed, reply4Rejected, http.StatusProxyAuthRequired},
	becauseCommand:        {replyCommandUnsupported, reply4Rejected, http.StatusNotImplemented},
	becauseForm:           {replyFormUnsupported, reply4Rejected, http.StatusBadRequest},
	becauseHeadTooLong:    {replyFailure, reply4Rejected, http.StatusRequestHeaderFieldsTooLarge},
	becauseMethod:         {replyFailure, reply4Rejected, http.StatusMethodNotAllowed},
	becauseUnknownMethod:  {replyFailure, reply4Rejected, http.StatusNotImplemented},
	becauseVersion:        {replyFailure, reply4Rejected, http.StatusHTTPVersionNotSupported},
}

// A refusal is a request that is answered with no.
type refusal struct {
	why reason
	err error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// refuse makes a refusal from a text.
func refuse(why reason, format string, args ...any) *refusal {
	return &refusal{why, fmt.Errorf(format, args...)}
}

// requestError turns what a decoder returned into a refusal where the client
// can be told: it broke the protocol, or ended in the middle. Every other
// error is the connection's.
func requestError(err error) error {
	var wire *wireError
	var no *refusal
	switch {
	case errors.As(err, &no):
		return err
	case errors.Is(err, errHeadTooLong):
		return &refusal{becauseHeadTooLong, err}
	case errors.As(err, &wire):
		if wire.reply == replyFormUnsupported {
			return &refusal{becauseForm, err}
		}
		return &refusal{becauseMalformed, err}
	case isShort(err):
		return refuse(becauseMalformed, "the client ended in the middle of its request: %w", err)
	}
	return err
}

// isShort knows the end of file in the middle of a message, which is not the
// cut of a carrier: that matches io.ErrUnexpectedEOF too.
func isShort(err error) bool {
	var e *anysock.Error
	return errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &e)
}

// reasonOf finds out why connecting failed.
func reasonOf(err error) reason {
	var e *anysock.Error
	if !errors.As(err, &e) || len(e.Attempts) == 0 {
		return reasonOfOne(err)
	}
	why := becauseFailure
	for _, a := range e.Attempts {
		if !errors.Is(a.Err, context.Canceled) {
			why = max(why, reasonOfOne(a.Err))
		}
	}
	if why == becauseFailure {
		return reasonOfOne(err)
	}
	return why
}

// reasonOfOne is reasonOf for one attempt, whose error is an errno or what the
// Dialer has made of it.
func reasonOfOne(err error) reason {
	var e *anysock.Error
	var denied *DeniedError
	var theirs *RefusalError
	kind := anysock.KindOther
	switch {
	case errors.As(err, &theirs): // a hop of Via says what it has met
		kind = theirs.Kind
	case errors.As(err, &e):
		kind = e.Kind
	}
	switch {
	case errors.As(err, &denied):
		return becauseNotAllowed
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), kind == anysock.KindRefused, kind == anysock.KindReset:
		return becauseRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return becauseNetUnreachable
	case errors.Is(err, syscall.EHOSTUNREACH), kind == anysock.KindUnreachable:
		return becauseUnreachable
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		kind == anysock.KindTimeout, kind == anysock.KindLost:
		return becauseTimeout
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), kind == anysock.KindPermission:
		return becauseNotAllowed // by a firewall
	case kind == anysock.KindName:
		return becauseName
	}
	return becauseFailure
}
