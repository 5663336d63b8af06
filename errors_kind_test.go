package anysock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

type timeoutError struct{}

func (timeoutError) Error() string   { return "late" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// TestKindOf: which kind a cause has, however deep it is wrapped.
func TestKindOf(t *testing.T) {
	for _, tt := range []struct {
		cause error
		want  Kind
	}{
		{nil, KindOther},
		{errors.New("anything"), KindOther},
		{io.EOF, KindOther},
		{&Error{Kind: KindHop}, KindHop},
		{&AddressError{}, KindAddress},
		{badAddress(errors.New("bad")), KindAddress},
		{context.Canceled, KindCanceled},
		{context.DeadlineExceeded, KindTimeout},
		{os.ErrDeadlineExceeded, KindTimeout},
		{timeoutError{}, KindTimeout},
		{net.ErrClosed, KindClosed},
		{os.ErrClosed, KindClosed},
		{io.ErrUnexpectedEOF, KindTruncated},
		{&net.DNSError{IsNotFound: true}, KindName},
		{&net.DNSError{IsTimeout: true}, KindTimeout},
		{errors.ErrUnsupported, KindUnsupported},
		{syscall.ECONNRESET, KindReset},
		{syscall.EPIPE, KindReset},
		{syscall.ETIMEDOUT, KindLost},
		{syscall.EHOSTUNREACH, KindUnreachable},
		{syscall.ENETUNREACH, KindUnreachable},
		{syscall.EADDRNOTAVAIL, KindUnreachable},
		{syscall.ECONNREFUSED, KindRefused},
		{syscall.EADDRINUSE, KindInUse},
		{syscall.EACCES, KindPermission},
		{syscall.EPERM, KindPermission},
		{syscall.EMFILE, KindLimit},
		{syscall.ENFILE, KindLimit},
		{syscall.ENOBUFS, KindLimit},
		{syscall.ENOMEM, KindLimit},
		{syscall.EAFNOSUPPORT, KindUnsupported},
		{syscall.ENOTCONN, KindOther},
	} {
		wraps := []error{tt.cause}
		if tt.cause != nil {
			wraps = append(wraps, fmt.Errorf("wrapped: %w", tt.cause), errors.Join(errors.New("other"), tt.cause))
			if errno, ok := tt.cause.(syscall.Errno); ok { //nolint:errorlint // the table's own value
				wraps = append(wraps, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}, &fs.PathError{Op: "open", Err: errno})
			}
		}
		for _, err := range wraps {
			if got := kindOf(err); got != tt.want {
				t.Errorf("%v (%T) is %v, want %v", err, err, got, tt.want)
			}
		}
	}
}

// TestOpErrorWrapsOnce: an Error stays the Error it is.
func TestOpErrorWrapsOnce(t *testing.T) {
	first := opError(OpRead, "tcp:h:1", syscall.ECONNRESET)
	if again := opError(OpConnect, "elsewhere", fmt.Errorf("more: %w", first)); again != first {
		t.Errorf("wrapped twice: %v", again)
	}
	for op, err := range map[string]error{
		OpBind: syscall.EADDRINUSE, OpConnect: syscall.ECONNREFUSED, OpResolve: &net.DNSError{IsNotFound: true},
		OpSocket: syscall.EMFILE, OpOption: syscall.EPERM,
	} {
		if e := opError(op, "tcp:h:1", err); e.Hint == "" || strings.Contains(e.Error(), e.Hint) {
			t.Errorf("%v: the hint is %q", e, e.Hint)
		}
	}
}
