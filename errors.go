package anysock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// A Kind says what sort of failure an Error is, for programs that decide by
// it: a retry, an exit status, a message.
type Kind int

// The kinds of failure.
const (
	KindOther       Kind = iota
	KindAddress          // the address cannot be parsed, or nothing registered serves it
	KindState            // the call makes no sense in the socket's state
	KindClosed           // the socket was closed on our side; matches net.ErrClosed
	KindCanceled         // the context was cancelled; matches context.Canceled
	KindTimeout          // a deadline passed; matches os.ErrDeadlineExceeded or context.DeadlineExceeded
	KindName             // the host name was not found
	KindRefused          // nobody listens there
	KindUnreachable      // no route to there
	KindInUse            // the local address is in use
	KindPermission       // the kernel or the file system forbids it
	KindLimit            // out of descriptors, buffers or memory
	KindUnsupported      // the transport or platform cannot; matches errors.ErrUnsupported
	KindReset            // the peer aborted
	KindTruncated        // the carrier was cut: data may be missing
	KindLost             // the peer or the path went silent
	KindHop              // a proxy or another hop refused
	KindAuth             // a handshake or an authentication failed
	kindCount
)

var kindNames = [kindCount]string{
	"other", "address", "state", "closed", "canceled", "timeout", "name", "refused", "unreachable",
	"in-use", "permission", "limit", "unsupported", "reset", "truncated", "lost", "hop", "auth",
}

// String is the kind's name in lower case.
func (k Kind) String() string {
	if k < 0 || k >= kindCount {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// An Error is the one error type of this package, except io.EOF, which always
// comes bare. It says which step failed, on what address, and why; Unwrap
// leads to the cause: an errno, net.ErrClosed, os.ErrDeadlineExceeded, the
// context's error, errors.ErrUnsupported.
type Error struct {
	Op       string    // the step: "bind", "connect", "read", ... as in Event.Op
	Addr     string    // the address the step was about; may be empty
	Kind     Kind      // what sort of failure
	Err      error     // the cause; nil only where Kind says all
	Hint     string    // what to try; may be empty
	Attempts []Attempt // for "connect": every attempt, in the order they started
}

// An Attempt is one try to connect to one address.
type Attempt struct {
	Round    int           // 1, or higher after a retry
	Addr     string        // the address tried
	Started  time.Duration // since Dial was called
	Duration time.Duration
	Err      error // why it failed; context.Canceled if another attempt won
}

// Error is one line: the step, the address, the cause, and each attempt if
// there was more than one.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Addr != "" {
		b.WriteString(" " + e.Addr)
	}
	switch {
	case len(e.Attempts) > 1:
		fmt.Fprintf(&b, ": all %d attempts failed", len(e.Attempts))
		for i, a := range e.Attempts {
			sep := "; "
			if i == 0 {
				sep = ": "
			}
			fmt.Fprintf(&b, "%s%s after %s: %v", sep, a.Addr, a.Duration.Round(100*time.Microsecond), a.Err)
		}
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	default:
		b.WriteString(": " + e.Kind.String())
	}
	return b.String()
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the errors that a Kind stands for, whatever the cause: see the
// kinds.
func (e *Error) Is(target error) bool {
	switch target {
	case net.ErrClosed:
		return e.Kind == KindClosed
	case errors.ErrUnsupported:
		return e.Kind == KindUnsupported
	case io.ErrUnexpectedEOF:
		return e.Kind == KindTruncated
	}
	return false
}

// Timeout makes Error a net.Error: true for KindTimeout and for KindLost.
func (e *Error) Timeout() bool { return e.Kind == KindTimeout || e.Kind == KindLost }

// Temporary makes Error a net.Error, as older servers still ask: true for
// KindTimeout and KindLimit, after which the same call may succeed.
func (e *Error) Temporary() bool { return e.Kind == KindTimeout || e.Kind == KindLimit }

var _ net.Error = (*Error)(nil)

// kindOf classifies a cause.
func kindOf(err error) Kind {
	var (
		e   *Error
		dns *net.DNSError
		ne  net.Error
		ae  *AddressError
		ce  *causeError
		nae *net.AddrError
	)
	switch {
	case err == nil:
		return KindOther
	case errors.As(err, &e):
		return e.Kind
	case errors.As(err, &ae):
		return KindAddress
	case errors.As(err, &ce):
		return ce.kind
	case errors.Is(err, context.Canceled):
		return KindCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return KindTimeout
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return KindClosed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return KindTruncated
	case errors.As(err, &nae):
		return KindName // a name without an address that suits
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return KindTimeout
		}
		return KindName
	}
	switch sys.ClassOf(err) {
	case sys.Reset:
		return KindReset
	case sys.TimedOut:
		return KindLost
	case sys.Unreachable, sys.NotLocal:
		return KindUnreachable
	case sys.Refused:
		return KindRefused
	case sys.InUse:
		return KindInUse
	case sys.Denied:
		return KindPermission
	case sys.Exhausted:
		return KindLimit
	case sys.Unsupported:
		return KindUnsupported
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return KindUnsupported
	}
	if errors.As(err, &ne) && ne.Timeout() {
		return KindTimeout
	}
	return KindOther
}

// opError wraps err once: the step, the address, the kind.
func opError(op, addr string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	k := kindOf(err)
	return &Error{Op: op, Addr: addr, Kind: k, Err: err, Hint: hintFor(op, addr, k, err)}
}

// stateError is a call in the wrong order; msg says what is missing.
func stateError(op, addr, msg string) *Error {
	return &Error{Op: op, Addr: addr, Kind: KindState, Err: errors.New(msg)}
}

// closedError is a call after our own Close.
func closedError(op, addr string) *Error {
	return &Error{Op: op, Addr: addr, Kind: KindClosed, Err: net.ErrClosed}
}

// unsupported is a capability that the transport or the platform lacks.
func unsupported(op, addr, msg string) *Error {
	return &Error{Op: op, Addr: addr, Kind: KindUnsupported, Err: fmt.Errorf("%s: %w", msg, errors.ErrUnsupported)}
}

// hintFor says what to try after the failures whose cure is known.
func hintFor(op, addr string, k Kind, err error) string {
	switch k {
	case KindInUse:
		if strings.HasPrefix(addr, "unix:") {
			return "see who holds it with 'ss -lxp', or choose another path"
		}
		return "another socket holds " + addr + ": see it with 'ss -lnp', or choose port 0 to get a free one"
	case KindRefused:
		return "nothing listens on " + addr + ": is the server started, and is the port right?"
	case KindUnreachable:
		if sys.ClassOf(err) == sys.NotLocal {
			return addr + " is not an address of this machine: see 'ip addr', or leave the host empty for all addresses"
		}
		return "there is no route to " + addr + ": see 'ip route get', or try the other address family"
	case KindPermission:
		if op == "bind" {
			return "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE), a Unix path needs a writable directory: choose another"
		}
		return "a firewall or the file's mode forbids it"
	case KindName:
		return "check the spelling of the host name and the resolver ('getent hosts NAME')"
	case KindLimit:
		return "raise the limit of open files ('ulimit -n') or close some connections"
	}
	return ""
}
