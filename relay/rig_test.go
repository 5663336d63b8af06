package relay_test

// The rig of the tests: a client, the two legs and a server, on any transport.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// patience is what a test waits for what must happen; not what it measures.
const patience = 20 * time.Second

// combination is the networks of the two legs.
type combination struct {
	in, out string
	onLoops bool // by a Relay on event loops, where a rig would Join
}

func (c combination) String() string {
	if c.onLoops {
		return c.in + " to " + c.out + " on loops"
	}
	return c.in + " to " + c.out
}

var combinations = []combination{
	{"tcp", "tcp", false},
	{"tcp", "unix", false},
	{"unix", "tcp", false},
	{"unix", "unix", false},
	{"mem", "mem", false},
	{"tcp", "mem", false},
	{"mem", "unix", false},
}

// onAll runs f for every combination.
func onAll(t *testing.T, f func(t *testing.T, c combination)) {
	for _, c := range combinations {
		t.Run(c.String(), func(t *testing.T) { f(t, c) })
	}
}

// joinedOnAll is onAll for the tests of joining: what Join keeps, a Relay on
// event loops keeps too.
func joinedOnAll(t *testing.T, f func(t *testing.T, c combination)) {
	onAll(t, f)
	if !haveLoops {
		return
	}
	for _, c := range combinations[:4] {
		c.onLoops = true
		t.Run(c.String(), func(t *testing.T) { f(t, c) })
	}
}

// engines are the ways to join two tcp connections.
func engines() []combination {
	cs := []combination{{"tcp", "tcp", false}}
	if haveLoops {
		cs = append(cs, combination{"tcp", "tcp", true})
	}
	return cs
}

// loops is the Loops of the Relays that tests make.
var loops int

// onEngines runs f for a Relay with goroutines and one with event loops.
func onEngines(t *testing.T, f func(t *testing.T)) {
	t.Run("goroutines", func(t *testing.T) {
		loops = -1
		f(t)
	})
	loops = 0
	if haveLoops {
		t.Run("loops", f)
	}
}

// needsBackend skips a test where sockets stand on package net: no splice, no
// acknowledgements, and a leg that nobody reads cannot be watched.
func needsBackend(t *testing.T) {
	t.Helper()
	s, err := anysock.NewSelector()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this platform has no back end of its own")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

var names atomic.Int64

// address is a free address of the network to listen on.
func address(t *testing.T, network string) string {
	switch network {
	case "tcp":
		return "tcp://127.0.0.1:0"
	case "tcp6":
		return "tcp://[::1]:0"
	case "unix":
		return "unix:" + filepath.Join(t.TempDir(), "s")
	case "mem":
		return fmt.Sprintf("mem:relay-test-%d", names.Add(1))
	}
	t.Fatalf("no address for %s", network)
	return ""
}

func listen(t *testing.T, lc anysock.ListenConfig, addr string) *anysock.Listener {
	t.Helper()
	ln, err := lc.Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dialable is the address of ln for Dial.
func dialable(ln *anysock.Listener) string {
	switch n := ln.Network(); n {
	case "tcp":
		return "tcp://" + ln.Addr().String()
	default:
		return n + ":" + ln.Addr().String()
	}
}

// connect makes a connection: the end that dialed, and the one accepted.
func connect(t *testing.T, network string, opts anysock.Options) (dialed, accepted *anysock.Conn) {
	t.Helper()
	ln := listen(t, anysock.ListenConfig{Options: opts}, address(t, network))
	defer ln.Close()
	type result struct {
		c   *anysock.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := ln.AcceptContext(t.Context())
		got <- result{c, err}
	}()
	d := anysock.Dialer{Options: opts}
	dialed, err := d.Dial(t.Context(), dialable(ln))
	if err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { dialed.Abort(); r.c.Abort() })
	return dialed, r.c
}

// A rig is a Join at work between a client and a server.
type rig struct {
	t                 *testing.T
	client, server    *anysock.Conn
	inbound, outbound *anysock.Conn // nil on event loops
	cancel            context.CancelCauseFunc
	relay             *relay.Relay // on event loops
	canceled          error        // what the record says after cancel, where that is not its reason
	done              chan relay.Record
}

func newRig(t *testing.T, c combination, opts relay.Options) *rig {
	t.Helper()
	return newRigWith(t, c, opts, anysock.Options{})
}

func newRigWith(t *testing.T, c combination, opts relay.Options, conn anysock.Options) *rig {
	t.Helper()
	r := &rig{t: t}
	if c.onLoops {
		r.serve(c, opts, conn, conn)
		return r
	}
	r.client, r.inbound = connect(t, c.in, conn)
	r.outbound, r.server = connect(t, c.out, conn)
	r.join(opts)
	return r
}

// serve starts a Relay on an event loop, with one connection. The options are
// those of both ends of a leg.
func (r *rig) serve(c combination, opts relay.Options, in, out anysock.Options) {
	r.t.Helper()
	target := listen(r.t, anysock.ListenConfig{Options: out}, address(r.t, c.out))
	front := listen(r.t, anysock.ListenConfig{Options: in}, address(r.t, c.in))
	done := make(chan relay.Record, 1)
	rel := &relay.Relay{
		Target: anysock.MustParseAddress(dialable(target)), Dialer: anysock.Dialer{Options: out},
		Options: opts, Loops: 1, OnEnd: func(rec relay.Record) { done <- rec }, Drain: -1,
	}
	r.relay, r.done, r.canceled = rel, done, relay.ErrDrainDeadline
	served := make(chan error, 1)
	go func() { served <- rel.Serve(context.Background(), front) }()
	var shutdown sync.Once
	r.cancel = func(error) {
		shutdown.Do(func() {
			if _, err := rel.Shutdown(context.Background()); err != nil {
				r.t.Errorf("Shutdown: %v", err)
			}
			if err := <-served; err != nil {
				r.t.Errorf("Serve: %v", err)
			}
		})
	}
	r.t.Cleanup(func() { r.cancel(nil) })
	d := anysock.Dialer{Options: in}
	var err error
	if r.client, err = d.Dial(r.t.Context(), dialable(front)); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.client.Abort() })
	if r.server, err = target.AcceptContext(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.server.Abort() })
}

// reason is what the record says after a cancel for that reason.
func (r *rig) reason(given error) error {
	if r.canceled != nil {
		return r.canceled
	}
	return given
}

// passedIn is how many bytes the client was sent.
func (r *rig) passedIn() int64 {
	if r.relay != nil {
		return r.relay.Stats().ToInbound
	}
	return r.inbound.Sent()
}

// join starts the Join; the test's end waits for it.
func (r *rig) join(opts relay.Options) {
	ctx, cancel := context.WithCancelCause(context.Background())
	r.cancel, r.done = cancel, make(chan relay.Record, 1)
	go func() { r.done <- relay.Join(ctx, r.inbound, r.outbound, opts) }()
	done := r.done
	r.t.Cleanup(func() {
		cancel(errors.New("the test is over"))
		if r.done != nil {
			<-done
		}
	})
}

// record waits for the end of the Join.
func (r *rig) record() relay.Record {
	r.t.Helper()
	select {
	case rec := <-r.done:
		r.done = nil
		if s := rec.String(); strings.Contains(s, "\n") {
			r.t.Errorf("the record is not one line: %q", s)
		}
		return rec
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		r.t.Fatalf("Join does not return\n%s", buf[:runtime.Stack(buf, true)])
		return relay.Record{}
	}
}

// peers are the two ends in the roles of sender and receiver.
func (r *rig) peers(upward bool) (from, to *anysock.Conn, source relay.Leg) {
	if upward {
		return r.client, r.server, relay.Inbound
	}
	return r.server, r.client, relay.Outbound
}

// bothWays runs f from the client to the server and the other way round.
func bothWays(t *testing.T, f func(t *testing.T, upward bool)) {
	t.Run("client to server", func(t *testing.T) { f(t, true) })
	t.Run("server to client", func(t *testing.T) { f(t, false) })
}

// text is n bytes that do not repeat soon.
func text(n int) []byte {
	p := make([]byte, n)
	x := uint32(n)*2654435761 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
	return p
}

func write(t *testing.T, c *anysock.Conn, p []byte) {
	t.Helper()
	if n, err := c.Write(p); err != nil {
		t.Fatalf("write: %d of %d bytes: %v", n, len(p), err)
	}
}

func closeWrite(t *testing.T, c *anysock.Conn) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Fatalf("half-close: %v", err)
	}
}

// read expects exactly want, and more to come or an end.
func read(t *testing.T, c *anysock.Conn, want []byte) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read: %d of %d bytes: %v", n, len(want), err)
	}
	if string(got) != string(want) {
		t.Fatalf("%d bytes were read, but not those that were written", len(got))
	}
}

// readEnd expects the end of file and nothing before it.
func readEnd(t *testing.T, c *anysock.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("want the end of file, got %d bytes, %v", n, err)
	}
}

// readPrefix reads to the ending, which must not be a clean one, and requires
// what came before it to be a prefix of sent.
func readPrefix(t *testing.T, c *anysock.Conn, sent []byte) error {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if !strings.HasPrefix(string(sent), string(got)) {
		t.Fatalf("%d bytes were read that were never written", len(got))
	}
	if err == nil && len(got) > len(sent) {
		t.Fatalf("more bytes than were written")
	}
	return err
}

// nextError is how an aborted connection fails: its read, or its write where
// the end was read before.
func nextError(t *testing.T, c *anysock.Conn) error {
	t.Helper()
	if c.State() != anysock.StateReadEnded {
		_, err := io.ReadAll(c)
		return err
	}
	var err error
	until(t, "an error", func() bool {
		_, err = c.Write(text(1))
		return err != nil
	})
	return err
}

func kindOf(err error) anysock.Kind {
	var e *anysock.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return anysock.KindOther
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// linger leaves time for what must not happen.
func linger(d time.Duration) { <-time.After(d) }

func disconnect(t *testing.T, c *anysock.Conn) anysock.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	end, err := c.Disconnect(ctx)
	if err != nil {
		t.Fatalf("disconnect: %v", err)
	}
	return end
}
