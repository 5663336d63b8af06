package anysock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// This file makes connected pairs for the tests of what is before and around
// a connection, and says what an error or an event should have been.

// tooLong bounds every wait of a test that should not wait at all.
const tooLong = 20 * time.Second

// soon is a context of the test that ends, too late, all the same.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	t.Cleanup(cancel)
	return ctx
}

// mustListen listens until the test is over.
func mustListen(t testing.TB, lc *anysock.ListenConfig, addr string) *anysock.Listener {
	t.Helper()
	ln, err := lc.Listen(soon(t), addr)
	if err != nil {
		t.Fatalf("listen on %s: %v", addr, err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// urlOf is the address to dial a listener with.
func urlOf(ln *anysock.Listener) string {
	if ln.Network() == "unix" {
		return "unix:" + ln.Addr().String()
	}
	return ln.Network() + "://" + ln.Addr().String()
}

// mustDial connects until the test is over.
func mustDial(t testing.TB, d *anysock.Dialer, addr string) *anysock.Conn {
	t.Helper()
	c, err := d.Dial(soon(t), addr)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	return c
}

// mustAccept accepts one connection.
func mustAccept(t testing.TB, ln *anysock.Listener) *anysock.Conn {
	t.Helper()
	c, err := ln.AcceptContext(soon(t))
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	return c
}

// A network that the tests of kernel sockets go through.
type kernelNetwork struct {
	name string
	addr func(t testing.TB) string // to listen on
}

var kernelNetworks = []kernelNetwork{
	{"tcp", func(testing.TB) string { return "tcp://127.0.0.1:0" }},
	{"unix", func(t testing.TB) string { return "unix:" + filepath.Join(t.TempDir(), "s") }},
}

// overKernelNetworks runs a test on tcp and on unix.
func overKernelNetworks(t *testing.T, f func(t *testing.T, addr string)) {
	for _, n := range kernelNetworks {
		t.Run(n.name, func(t *testing.T) { f(t, n.addr(t)) })
	}
}

// mustPair is a connected pair: the dialed and the accepted end.
func mustPair(t testing.TB, addr string, d *anysock.Dialer, lc *anysock.ListenConfig) (dialed, accepted *anysock.Conn) {
	t.Helper()
	ln := mustListen(t, lc, addr)
	dialed = mustDial(t, d, urlOf(ln))
	accepted = mustAccept(t, ln)
	return dialed, accepted
}

// wantErrorKind checks what sort of failure err is.
func wantErrorKind(t testing.TB, what string, err error, kind anysock.Kind) {
	t.Helper()
	_ = errorOfKind(t, what, err, kind)
}

// errorOfKind is wantErrorKind for tests that look closer.
func errorOfKind(t testing.TB, what string, err error, kind anysock.Kind) *anysock.Error {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: the error is %v, want a *Error of kind %v", what, err, kind)
	}
	if e.Kind != kind {
		t.Errorf("%s: the error's kind is %v, want %v: %v", what, e.Kind, kind, err)
	}
	return e
}

// readAll reads until the end.
func readAll(t testing.TB, c *anysock.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(tooLong))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("reading to the end: %v", err)
	}
	return string(b)
}

// eventually waits for a condition that no channel announces.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(tooLong); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", tooLong, what)
		}
	}
}

// await waits for a channel.
func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(tooLong):
		t.Fatalf("waited %s for: %s", tooLong, what)
		panic("unreachable")
	}
}

// A recorder is a Trace that keeps the events.
type recorder struct {
	mu     sync.Mutex
	events []anysock.Event
	notify func(anysock.Event) // may be nil
}

func (r *recorder) trace(ev anysock.Event) {
	r.mu.Lock()
	r.events = append(r.events, ev)
	r.mu.Unlock()
	if r.notify != nil {
		r.notify(ev)
	}
}

// all is every event so far that keep accepts.
func (r *recorder) all(keep func(anysock.Event) bool) []anysock.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []anysock.Event
	for _, ev := range r.events {
		if keep == nil || keep(ev) {
			out = append(out, ev)
		}
	}
	return out
}

// ops is the steps of one socket in order; 0 is every socket.
func (r *recorder) ops(socket uint64) []string {
	var ops []string
	for _, ev := range r.all(nil) {
		if socket == 0 || ev.Socket == socket {
			ops = append(ops, ev.Op)
		}
	}
	return ops
}

// isOp accepts the events of some steps.
func isOp(ops ...string) func(anysock.Event) bool {
	return func(ev anysock.Event) bool { return slices.Contains(ops, ev.Op) }
}

// freePort is a TCP port of 127.0.0.1 on which nobody listens, and nobody
// will while the test runs: it is bound.
func boundPort(t testing.TB, host string) string {
	t.Helper()
	s, err := anysock.NewSocket("tcp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Bind(net.JoinHostPort(host, "0")); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(s.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
