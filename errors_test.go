package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// TestErrorMatches: what each kind matches, and what it says as a net.Error.
func TestErrorMatches(t *testing.T) {
	targets := map[string]error{
		"net.ErrClosed":            net.ErrClosed,
		"errors.ErrUnsupported":    errors.ErrUnsupported,
		"io.ErrUnexpectedEOF":      io.ErrUnexpectedEOF,
		"io.EOF":                   io.EOF,
		"os.ErrDeadlineExceeded":   os.ErrDeadlineExceeded,
		"context.DeadlineExceeded": context.DeadlineExceeded,
		"context.Canceled":         context.Canceled,
	}
	for _, tt := range []struct {
		kind      anysock.Kind
		cause     error
		matches   []string
		timeout   bool
		temporary bool
	}{
		{kind: anysock.KindOther},
		{kind: anysock.KindAddress},
		{kind: anysock.KindState},
		{kind: anysock.KindClosed, matches: []string{"net.ErrClosed"}},
		{kind: anysock.KindClosed, cause: errors.New("our own words"), matches: []string{"net.ErrClosed"}},
		{kind: anysock.KindCanceled, cause: context.Canceled, matches: []string{"context.Canceled"}},
		{kind: anysock.KindTimeout, cause: os.ErrDeadlineExceeded, matches: []string{"os.ErrDeadlineExceeded"}, timeout: true, temporary: true},
		{kind: anysock.KindTimeout, cause: context.DeadlineExceeded, matches: []string{"context.DeadlineExceeded"}, timeout: true, temporary: true},
		{kind: anysock.KindName},
		{kind: anysock.KindRefused, cause: syscall.ECONNREFUSED},
		{kind: anysock.KindUnreachable},
		{kind: anysock.KindInUse},
		{kind: anysock.KindPermission},
		{kind: anysock.KindLimit, cause: syscall.EMFILE, temporary: true},
		{kind: anysock.KindUnsupported, matches: []string{"errors.ErrUnsupported"}},
		{kind: anysock.KindReset, cause: syscall.ECONNRESET},
		{kind: anysock.KindTruncated, matches: []string{"io.ErrUnexpectedEOF"}},
		{kind: anysock.KindLost, cause: syscall.ETIMEDOUT, timeout: true},
		{kind: anysock.KindHop},
		{kind: anysock.KindAuth},
	} {
		e := &anysock.Error{Op: "read", Addr: "tcp:1.2.3.4:5", Kind: tt.kind, Err: tt.cause}
		// Wrapped once more, as programs do.
		var err error = fmt.Errorf("copying: %w", e)
		for name, target := range targets {
			want := false
			for _, m := range tt.matches {
				want = want || m == name
			}
			if got := errors.Is(err, target); got != want {
				t.Errorf("%v with %v matches %s: %v, want %v", tt.kind, tt.cause, name, got, want)
			}
		}
		if tt.cause != nil && !errors.Is(err, tt.cause) {
			t.Errorf("%v does not lead to its cause %v", tt.kind, tt.cause)
		}
		var ne net.Error
		if !errors.As(err, &ne) {
			t.Fatalf("%v is no net.Error", tt.kind)
		}
		if ne.Timeout() != tt.timeout {
			t.Errorf("%v: Timeout is %v", tt.kind, ne.Timeout())
		}
		if e.Temporary() != tt.temporary {
			t.Errorf("%v: Temporary is %v", tt.kind, e.Temporary())
		}
		if tt.cause == nil && !strings.HasSuffix(e.Error(), ": "+tt.kind.String()) {
			t.Errorf("without a cause it reads %q", e)
		}
	}
}

// TestKindNames: every kind has a name of its own.
func TestKindNames(t *testing.T) {
	seen := map[string]anysock.Kind{}
	for k := anysock.KindOther; k <= anysock.KindAuth; k++ {
		name := k.String()
		if other, dup := seen[name]; dup || name == "" || name != strings.ToLower(name) || strings.HasPrefix(name, "kind(") {
			t.Errorf("kind %d is called %q, as is %d", k, name, other)
		}
		seen[name] = k
	}
	for _, k := range []anysock.Kind{-1, anysock.KindAuth + 1} {
		if s := k.String(); s != fmt.Sprintf("Kind(%d)", int(k)) {
			t.Errorf("an unknown kind prints as %q", s)
		}
	}
	for h := anysock.NotEnded; h <= anysock.Refused; h++ {
		if s := h.String(); s == "" || strings.HasPrefix(s, "How(") {
			t.Errorf("how %d prints as %q", h, s)
		}
		if b, err := h.MarshalText(); string(b) != h.String() || err != nil {
			t.Errorf("how %d marshals as %q, %v", h, b, err)
		}
		if want := h == anysock.Graceful || h == anysock.Delivered; h.Complete() != want {
			t.Errorf("%v: Complete is %v", h, h.Complete())
		}
	}
	if s := anysock.How(99).String(); s != "How(99)" {
		t.Errorf("an unknown how prints as %q", s)
	}
	if s := anysock.State(99).String(); s != "State(99)" {
		t.Errorf("an unknown state prints as %q", s)
	}
}

// TestErrorText: one line that says what failed, at which step, to which
// address, and why.
func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  *anysock.Error
		want string
	}{
		{&anysock.Error{Op: "bind", Addr: "tcp::80", Kind: anysock.KindInUse, Err: syscall.EADDRINUSE}, "bind tcp::80: address already in use"},
		{&anysock.Error{Op: "read", Kind: anysock.KindReset}, "read: reset"},
		{&anysock.Error{Op: "connect", Addr: "tcp:h:1", Kind: anysock.KindRefused, Err: syscall.ECONNREFUSED, Attempts: []anysock.Attempt{
			{Round: 1, Addr: "1.2.3.4:1", Duration: time.Millisecond, Err: syscall.ECONNREFUSED},
		}}, "connect tcp:h:1: connection refused"},
		{&anysock.Error{Op: "connect", Addr: "tcp:h:1", Kind: anysock.KindRefused, Err: syscall.ECONNREFUSED, Attempts: []anysock.Attempt{
			{Round: 1, Addr: "[::1]:1", Duration: 1234567 * time.Nanosecond, Err: syscall.ENETUNREACH},
			{Round: 2, Addr: "1.2.3.4:1", Duration: time.Second, Err: syscall.ECONNREFUSED},
		}}, "connect tcp:h:1: all 2 attempts failed: [::1]:1 after 1.2ms: network is unreachable; 1.2.3.4:1 after 1s: connection refused"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestErrorOfEachCall: the errors that the calls of a connection give, by
// kind, at both kernel networks.
func TestErrorOfEachCall(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		c, peer := mustPair(t, addr, &anysock.Dialer{}, &anysock.ListenConfig{})
		past := time.Now().Add(-time.Second)
		c.SetDeadline(past)
		_, err := c.Read(make([]byte, 1))
		e := errorOfKind(t, "a read past its deadline", err, anysock.KindTimeout)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !e.Timeout() || !e.Temporary() || e.Op != anysock.OpRead {
			t.Errorf("%+v", e)
		}
		_, err = c.Write(make([]byte, 1))
		wantErrorKind(t, "a write past its deadline", err, anysock.KindTimeout)
		c.SetDeadline(time.Time{})

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, call := range map[string]func() error{
			"ReadContext":  func() error { _, err := c.ReadContext(ctx, make([]byte, 1)); return err },
			"WriteContext": func() error { _, err := c.WriteContext(ctx, make([]byte, 1)); return err },
			"ReadAtLeast":  func() error { _, err := c.ReadAtLeast(ctx, make([]byte, 1), 1); return err },
			"Peek":         func() error { _, err := c.Peek(ctx, make([]byte, 1)); return err },
			"Wait":         func() error { _, err := c.Wait(ctx, anysock.Readable, 1); return err },
			"ActiveRead":   func() error { return c.ActiveRead(ctx, func([]byte) error { return nil }) },
		} {
			err := call()
			e := errorOfKind(t, name, err, anysock.KindCanceled)
			if !errors.Is(err, context.Canceled) || e.Timeout() {
				t.Errorf("%s: %v", name, err)
			}
		}
		must(t, "CloseWrite", c.CloseWrite())
		_, err = c.Write([]byte("x"))
		wantErrorKind(t, "a write after CloseWrite", err, anysock.KindState)

		must(t, "CloseRead", c.CloseRead())
		_, err = c.Read(make([]byte, 1))
		wantErrorKind(t, "a read after CloseRead", err, anysock.KindClosed)

		_ = c.Abort()
		for name, call := range map[string]func() error{
			"Read":       func() error { _, err := c.Read(make([]byte, 1)); return err },
			"Write":      func() error { _, err := c.Write(make([]byte, 1)); return err },
			"Peek":       func() error { _, err := c.Peek(t.Context(), make([]byte, 1)); return err },
			"Wait":       func() error { _, err := c.Wait(t.Context(), anysock.Readable, 1); return err },
			"CloseWrite": c.CloseWrite,
			"CloseRead":  c.CloseRead,
			"deadline":   func() error { return c.SetDeadline(past) },
			"ReadFrom":   func() error { _, err := c.ReadFrom(strings.NewReader("x")); return err },
			"WriteTo":    func() error { _, err := c.WriteTo(io.Discard); return err },
			"Buffers":    func() error { _, err := c.WriteBuffers([][]byte{{1}}); return err },
		} {
			err := call()
			e := errorOfKind(t, name+" after Abort", err, anysock.KindClosed)
			if !errors.Is(err, net.ErrClosed) || e.Timeout() {
				t.Errorf("%s after Abort: %v", name, err)
			}
		}
		_ = peer
	})
}
