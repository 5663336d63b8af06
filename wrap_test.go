package anysock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// netPair is a connected pair of package net.
func netPair(t testing.TB, network, addr string) (dialed, accepted net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, addr)
	must(t, "listen", err)
	defer ln.Close()
	dialed, err = net.Dial(network, ln.Addr().String())
	must(t, "dial", err)
	accepted, err = ln.Accept()
	must(t, "accept", err)
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed, accepted
}

// TestWrapKernelConn: a connection of package net gets everything that tcp and
// unix have.
func TestWrapKernelConn(t *testing.T) {
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": t.TempDir() + "/s"} {
		t.Run(network, func(t *testing.T) {
			a, b := netPair(t, network, addr)
			local, remote := a.LocalAddr().String(), a.RemoteAddr().String()
			c, peer := anysock.Wrap(a, anysock.Options{}), anysock.Wrap(b, anysock.Options{})
			native := capsOfAddress(t, map[bool]string{true: "unix:/x", false: "tcp://h:1"}[network == "unix"])
			if c.Caps() != native {
				t.Errorf("the caps are %v, those of %s %v", c.Caps(), network, native)
			}
			if c.LocalAddr().String() != local || c.RemoteAddr().String() != remote {
				t.Errorf("the addresses are %v and %v", c.LocalAddr(), c.RemoteAddr())
			}
			if _, err := c.Write(make([]byte, 250)); err != nil {
				t.Fatal(err)
			}
			must(t, "CloseWrite", c.CloseWrite())
			if r, err := peer.Wait(soon(t), anysock.Readable, 250); err != nil || r&anysock.Readable == 0 {
				t.Errorf("Wait = %v, %v", r, err)
			}
			if n, err := peer.ReadAtLeast(soon(t), make([]byte, 1000), 250); n != 250 || err != nil {
				t.Errorf("ReadAtLeast = %d, %v", n, err)
			}
			// Half-closed, the reply comes a while later.
			if _, err := peer.Write([]byte("reply")); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := peer.Disconnect(soon(t))
				ended <- err
			}()
			if s := readAll(t, c); s != "reply" {
				t.Errorf("read %q", s)
			}
			end, err := c.Disconnect(soon(t))
			if err != nil || end.How != anysock.Graceful {
				t.Errorf("Disconnect = %v, %v", end, err)
			}
			must(t, "the peer's Disconnect", await(t, "the peer", ended))
			if acked := network != "unix" && acksKnown(t); acked != (end.AckedBy == anysock.AckedKernel) {
				t.Errorf("acknowledged by %v", end.AckedBy)
			}
			// The net.Conn went with it.
			if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the net.Conn is open: %v", err)
			}
		})
	}
}

func capsOfAddress(t testing.TB, addr string) anysock.Caps {
	t.Helper()
	c, err := anysock.AddressCaps(anysock.MustParseAddress(addr))
	must(t, addr, err)
	return c
}

// TestWrapAbort: what is wrapped resets as tcp does.
func TestWrapAbort(t *testing.T) {
	a, b := netPair(t, "tcp", "127.0.0.1:0")
	c, peer := anysock.Wrap(a, anysock.Options{}), anysock.Wrap(b, anysock.Options{})
	must(t, "Abort", c.Abort())
	peer.SetReadDeadline(time.Now().Add(tooLong))
	_, err := peer.Read(make([]byte, 1))
	wantErrorKind(t, "the peer's read", err, anysock.KindReset)
	if end := c.End(); end.How != anysock.AbortedByUs {
		t.Errorf("the end is %v", end)
	}
}

// TestWrapIsNoDoubleWrap: a Conn stays itself.
func TestWrapIsNoDoubleWrap(t *testing.T) {
	c, _ := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	if w := anysock.Wrap(c, anysock.Options{}); w != c {
		t.Errorf("Wrap of a Conn is another one")
	}
}

// TestWrapWithoutOptionalMethods: a net.Conn that has nothing more: what is
// missing says so, and what is left works.
func TestWrapWithoutOptionalMethods(t *testing.T) {
	for name, pair := range map[string]func(t *testing.T) (a, b net.Conn){
		"net.Pipe": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
		"tcp that hides its methods": func(t *testing.T) (net.Conn, net.Conn) {
			a, b := netPair(t, "tcp", "127.0.0.1:0")
			return plainConn{a}, b
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			defer b.Close()
			c := anysock.Wrap(a, anysock.Options{})
			defer func() { _ = c.Abort() }()
			if c.Caps() != anysock.CapDeadline {
				t.Errorf("the caps are %v", c.Caps())
			}
			for what, err := range map[string]error{
				"CloseWrite":  c.CloseWrite(),
				"SyscallConn": func() error { _, err := c.SyscallConn(); return err }(),
				"Wait for room": func() error {
					_, err := c.Wait(soon(t), anysock.Writable, 1)
					return err
				}(),
				"Wait for failure": func() error { _, err := c.Wait(soon(t), 0, 1); return err }(),
			} {
				wantErrorKind(t, what, err, anysock.KindUnsupported)
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: %v does not match ErrUnsupported", what, err)
				}
			}
			// CloseWrite has changed nothing.
			echoed := make(chan error, 1)
			go func() {
				buf := make([]byte, 5)
				_, err := io.ReadFull(b, buf)
				if err == nil {
					_, err = b.Write(buf)
				}
				echoed <- err
			}()
			if n, err := c.Write([]byte("hello")); n != 5 || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			// Wait reads ahead, and the read gets what it took.
			if r, err := c.Wait(soon(t), anysock.Readable, 5); err != nil || r != anysock.Readable {
				t.Errorf("Wait = %v, %v", r, err)
			}
			buf := make([]byte, 10)
			if n, err := c.Peek(soon(t), buf[:2]); n != 2 || err != nil {
				t.Errorf("Peek = %d, %v", n, err)
			}
			if n, err := c.Read(buf); string(buf[:n]) != "hello" || err != nil {
				t.Errorf("Read = %q, %v", buf[:n], err)
			}
			must(t, "the echo", await(t, "the echo", echoed))

			// Deadlines and contexts leave it usable.
			c.SetReadDeadline(time.Now().Add(-time.Second))
			if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a read past its deadline: %v", err)
			}
			c.SetReadDeadline(time.Time{})
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
			defer cancel()
			if _, err := c.ReadContext(ctx, buf); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a read past its context: %v", err)
			}

			// The peer's end is an end; ours can only be a close.
			b.Close()
			if _, err := c.Read(buf); err != io.EOF { //nolint:errorlint // EOF comes bare
				t.Errorf("Read = %v", err)
			}
			end, err := c.Disconnect(soon(t))
			if err != nil || !end.How.Complete() || end.AckedBy != anysock.AckedNone || end.Sent != 5 || end.Received != 5 {
				t.Errorf("Disconnect = %v, %v", end, err)
			}
		})
	}
}

// TestWrapAbortUnsupported: without Abort the carrier is closed, and the
// error says that the peer may take it for an end.
func TestWrapAbortUnsupported(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := anysock.Wrap(a, anysock.Options{})
	err := c.Abort()
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Abort = %v", err)
	}
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("the carrier is open")
	}
	if end := c.End(); end.How != anysock.AbortedByUs {
		t.Errorf("the end is %v", end)
	}
}

// TestWrapCloseWithoutHalfClose: with no way to end our direction, Close ends
// the carrier; nothing is waited for.
func TestWrapCloseWithoutHalfClose(t *testing.T) {
	_, _ = anysock.Wait(soon(t)) // what other tests left to the process's group
	a, b := net.Pipe()
	defer b.Close()
	c := anysock.Wrap(a, anysock.Options{})
	must(t, "Close", c.Close())
	await(t, "the ending", c.Done())
	if end := c.End(); end.How != anysock.Delivered || end.AckedBy != anysock.AckedNone {
		t.Errorf("the end is %v", end)
	}
	if _, err := b.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // net.Pipe says it bare
		t.Errorf("the peer reads %v", err)
	}
	if _, err := anysock.Wait(soon(t)); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// A scripted is a net.Conn whose reads fail as they are told to.
type scripted struct {
	net.Conn
	err error
}

func (s scripted) Read([]byte) (int, error)         { return 0, s.err }
func (s scripted) Write(p []byte) (int, error)      { return len(p) / 2, s.err }
func (s scripted) LocalAddr() net.Addr              { return nil }
func (s scripted) RemoteAddr() net.Addr             { return nil }
func (s scripted) SetReadDeadline(time.Time) error  { return nil }
func (s scripted) SetWriteDeadline(time.Time) error { return nil }
func (s scripted) Close() error                     { return nil }

// TestWrapForeignErrors: what a foreign carrier says decides the ending; what
// nobody understands is a cut, never an end.
func TestWrapForeignErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind anysock.Kind
		how  anysock.How
	}{
		{io.ErrUnexpectedEOF, anysock.KindTruncated, anysock.Truncated},
		{errors.New("the carrier's own words"), anysock.KindTruncated, anysock.Truncated},
		{syscall.ECONNRESET, anysock.KindReset, anysock.AbortedByPeer},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, anysock.KindReset, anysock.AbortedByPeer},
		{&anysock.Error{Op: "read", Kind: anysock.KindReset, Err: errors.New("code 7")}, anysock.KindReset, anysock.AbortedByPeer},
		{&anysock.Error{Op: "read", Kind: anysock.KindTruncated}, anysock.KindTruncated, anysock.Truncated},
		{syscall.ETIMEDOUT, anysock.KindLost, anysock.Lost},
	} {
		if runtime.GOOS == "windows" && errors.As(tt.err, new(syscall.Errno)) {
			continue // other numbers there
		}
		c := anysock.Wrap(scripted{err: tt.err}, anysock.Options{})
		_, err := c.Read(make([]byte, 1))
		wantErrorKind(t, tt.err.Error(), err, tt.kind)
		var ae *anysock.Error
		if !errors.Is(err, tt.err) && !errors.As(tt.err, &ae) {
			t.Errorf("%v does not lead to %v", err, tt.err)
		}
		await(t, "the ending", c.Done())
		if end := c.End(); end.How != tt.how {
			t.Errorf("%v: the end is %v, want %v", tt.err, end, tt.how)
		}
		_ = c.Abort()
	}
	// A short write without an error is one.
	c := anysock.Wrap(scripted{}, anysock.Options{})
	if n, err := c.Write(make([]byte, 10)); n != 5 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Write = %d, %v", n, err)
	}
	_ = c.Abort()
}
