package anysock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file holds the tests of Happy Eyeballs v2 (RFC 8305): which address is
// tried when, and what becomes of the attempts that come second.

// attempted is the addresses of the connect steps, without port.
func attempted(events []anysock.Event) []string {
	var hosts []string
	for _, ev := range events {
		if ev.Op == anysock.OpConnect {
			host, _, _ := net.SplitHostPort(ev.Peer)
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// addressesOf is the hosts of the attempts.
func addressesOf(attempts []anysock.Attempt) []string {
	var hosts []string
	for _, a := range attempts {
		host, _, _ := net.SplitHostPort(a.Addr)
		hosts = append(hosts, host)
	}
	return hosts
}

// TestDialInterleaves: the families alternate, IPv6 first, and each failure
// starts the next attempt at once, however long the stagger is.
func TestDialInterleaves(t *testing.T) {
	port := boundPort(t, "::")
	ns := newNameServer(t, map[string]*host{"many.test": {
		six:  []string{"::1", "::1", "::1"},
		four: []string{"127.0.0.2", "127.0.0.3"},
	}})
	var events recorder
	d := &anysock.Dialer{Resolver: ns.resolver(), AttemptDelay: time.Hour, Trace: events.trace}
	_, err := d.Dial(soon(t), "tcp://many.test:"+port)
	e := errorOfKind(t, "dial", err, anysock.KindRefused)
	for _, a := range e.Attempts {
		if a.Round != 1 || a.Err == nil || a.Started < 0 || a.Duration < 0 {
			t.Errorf("attempt %+v", a)
		}
	}
	// IPv6's answer may come so much earlier that it is used up before IPv4's
	// is there; whatever is there when an attempt begins alternates.
	got := addressesOf(e.Attempts)
	if len(got) != 5 || got[0] != "::1" && got[0] != "127.0.0.2" {
		t.Fatalf("tried %v", got)
	}
	if traced := attempted(events.all(nil)); !slices.Equal(traced, got) {
		t.Errorf("the trace has %v, the error %v", traced, got)
	}
	if !slices.IsSortedFunc(e.Attempts, func(a, b anysock.Attempt) int { return int(a.Started - b.Started) }) {
		t.Errorf("the attempts are not in the order of their start: %+v", e.Attempts)
	}
	for _, part := range []string{"all 5 attempts failed", "127.0.0.2:" + port, "127.0.0.3:" + port, "[::1]:" + port} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// TestDialStaggers: while the first address does not answer, the second is
// tried after the attempt delay and wins; the first is given up and leaves
// nothing behind.
func TestDialStaggers(t *testing.T) {
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			hole := blackHole(t, "127.0.0.2")
			_, port, _ := net.SplitHostPort(hole)
			ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.3:"+port)
			ns := newNameServer(t, map[string]*host{"two.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})
			var events recorder
			d := &anysock.Dialer{Resolver: ns.resolver(), AttemptDelay: delay, Trace: events.trace}
			c, err := d.Dial(soon(t), "tcp4://two.test:"+port)
			must(t, "dial", err)
			defer func() { _ = c.Abort() }()
			if got := c.RemoteAddr().String(); got != ln.Addr().String() {
				t.Errorf("connected to %s", got)
			}
			mustAccept(t, ln)
			started := events.all(isOp(anysock.OpSocket))
			if len(started) != 2 {
				t.Fatalf("%d attempts, want 2", len(started))
			}
			want := delay
			if want == 0 {
				want = anysock.DefaultAttemptDelay
			}
			if got := started[1].Time.Sub(started[0].Time); got < want {
				t.Errorf("the second attempt began %s after the first, want at least %s", got, want)
			}
			// The loser was cancelled, and that is in the trace.
			var lost []anysock.Event
			for _, ev := range events.all(isOp(anysock.OpConnect)) {
				if ev.Err != nil {
					lost = append(lost, ev)
				}
			}
			if len(lost) != 1 || lost[0].Peer != hole || !errors.Is(lost[0].Err, context.Canceled) {
				t.Errorf("the attempts that lost: %v", lost)
			}
		})
	}
}

// TestDialSequential: with a fixed local port, or with a negative delay, an
// address is tried only after the one before has failed.
func TestDialSequential(t *testing.T) {
	for _, fixed := range []bool{true, false} {
		hole := blackHole(t, "127.0.0.2")
		_, port, _ := net.SplitHostPort(hole)
		ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.3:"+port)
		ns := newNameServer(t, map[string]*host{"two.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})
		var events recorder
		d := &anysock.Dialer{Resolver: ns.resolver(), Trace: events.trace, AttemptTimeout: 60 * time.Millisecond, AttemptDelay: time.Millisecond}
		if fixed {
			s := mustSocket(t, "tcp")
			must(t, "bind", s.Bind("127.0.0.1:0"))
			d.Local = s.LocalAddr().String()
			must(t, "close", s.Close())
		} else {
			d.AttemptDelay = -1
		}
		c, err := d.Dial(soon(t), "tcp4://two.test:"+port)
		must(t, "dial", err)
		if fixed && c.LocalAddr().String() != d.Local {
			t.Errorf("connected from %s, want %s", c.LocalAddr(), d.Local)
		}
		if got := c.RemoteAddr().String(); got != ln.Addr().String() {
			t.Errorf("connected to %s", got)
		}
		var order []string
		for _, ev := range events.all(isOp(anysock.OpSocket, anysock.OpConnect)) {
			order = append(order, ev.Op)
		}
		if want := []string{"socket", "connect", "socket", "connect"}; !slices.Equal(order, want) {
			t.Errorf("the steps are %v, want %v", order, want)
		}
		_ = c.Abort()
	}
}

// TestDialUsesIPv6AtOnce: IPv6's answer is used when it comes, without
// waiting for IPv4's.
func TestDialUsesIPv6AtOnce(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://[::1]:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	never, both := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ns := newNameServer(t, map[string]*host{"slow4.test": {
		six: []string{"::1"}, sixGate: both, four: []string{"127.0.0.1"}, fourGate: never,
		asked: func(six bool) {
			if !six {
				once.Do(func() { close(both) }) // both families are asked at once
			}
		},
	}})
	c, err := (&anysock.Dialer{Resolver: ns.resolver()}).Dial(soon(t), "tcp://slow4.test:"+port)
	must(t, "dial", err)
	_ = c.Abort()
	if got := c.RemoteAddr().(*net.TCPAddr).IP.String(); got != "::1" {
		t.Errorf("connected to %s", got)
	}
	if got := ns.queries(); len(got) != 2 {
		t.Errorf("asked %v, want each family once", got)
	}
}

// TestDialWaitsTheResolutionDelay: after IPv4's answer IPv6's is awaited for
// the resolution delay, and no longer.
func TestDialWaitsTheResolutionDelay(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	var mu sync.Mutex
	var answered time.Time
	never := make(chan struct{})
	ns := newNameServer(t, map[string]*host{"slow6.test": {
		four: []string{"127.0.0.1"}, six: []string{"::1"}, sixGate: never,
		answered: func(six bool) {
			mu.Lock()
			defer mu.Unlock()
			if !six && answered.IsZero() {
				answered = time.Now()
			}
		},
	}})
	var events recorder
	c, err := (&anysock.Dialer{Resolver: ns.resolver(), Trace: events.trace}).Dial(soon(t), "tcp://slow6.test:"+port)
	must(t, "dial", err)
	_ = c.Abort()
	first := events.all(isOp(anysock.OpSocket))[0].Time
	mu.Lock()
	defer mu.Unlock()
	// The answer was noted after it was sent, hence the allowance.
	if waited := first.Sub(answered); waited < anysock.DefaultResolutionDelay-10*time.Millisecond {
		t.Errorf("the first attempt began %s after IPv4's answer, want at least %s", waited, anysock.DefaultResolutionDelay)
	}
}

// TestDialUsesLateAnswer: IPv6's answer that comes after IPv4's addresses have
// failed is still tried.
func TestDialUsesLateAnswer(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://[::1]:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	gate := make(chan struct{})
	ns := newNameServer(t, map[string]*host{"late6.test": {four: []string{"127.0.0.1"}, six: []string{"::1"}, sixGate: gate}})
	var once sync.Once
	events := recorder{notify: func(ev anysock.Event) {
		if ev.Op == anysock.OpConnect && ev.Err != nil {
			once.Do(func() { close(gate) })
		}
	}}
	c, err := (&anysock.Dialer{Resolver: ns.resolver(), Trace: events.trace}).Dial(soon(t), "tcp://late6.test:"+port)
	must(t, "dial", err)
	_ = c.Abort()
	if got := attempted(events.all(nil)); !slices.Equal(got, []string{"127.0.0.1", "::1"}) {
		t.Errorf("tried %v", got)
	}
}

// TestDialOneFamilyFails: one family without addresses does not count while
// the other has some.
func TestDialOneFamilyFails(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ns := newNameServer(t, map[string]*host{
		"only4.test": {four: []string{"127.0.0.1"}},
		"only6.test": {six: []string{"::1"}},
	})
	d := &anysock.Dialer{Resolver: ns.resolver()}
	for _, name := range []string{"only4.test", "only6.test"} {
		c, err := d.Dial(soon(t), "tcp://"+name+":"+port)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = c.Abort()
	}
}

// TestDialLoserIsClosed: of two attempts that both succeed one is returned and
// the other is closed; its events do not mix with the winner's.
func TestDialLoserIsClosed(t *testing.T) {
	needOwnSockets(t, "does not tell its descriptors")
	first := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.2:0")
	_, port, _ := net.SplitHostPort(first.Addr().String())
	second := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.3:"+port)
	ns := newNameServer(t, map[string]*host{"two.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})

	// The first attempt's success is held back until the second's is traced.
	var mu sync.Mutex
	held := -1
	won := make(chan struct{})
	restore := sys.Inject(func(call sys.Call, fd int) error {
		if call != sys.CallConnectError {
			return nil
		}
		mu.Lock()
		if held < 0 {
			held = fd
		}
		mine := held == fd
		mu.Unlock()
		if mine {
			<-won
		}
		return nil
	})
	defer restore()
	var once sync.Once
	var group anysock.Group
	events := recorder{notify: func(ev anysock.Event) {
		if ev.Op == anysock.OpConnect && ev.Err == nil {
			once.Do(func() { close(won) })
		}
	}}
	d := &anysock.Dialer{Resolver: ns.resolver(), Group: &group, AttemptDelay: time.Millisecond, Trace: events.trace}
	c, err := d.Dial(soon(t), "tcp4://two.test:"+port)
	must(t, "dial", err)
	a, b := mustAccept(t, first), mustAccept(t, second)
	winner, loser := a, b
	if c.RemoteAddr().String() == second.Addr().String() {
		winner, loser = b, a
	}
	// The server of the loser sees an end, and ends too.
	if s := readAll(t, loser); s != "" {
		t.Errorf("the loser sent %q", s)
	}
	if _, err := loser.Disconnect(soon(t)); err != nil {
		t.Errorf("the loser's server: %v", err)
	}
	if ends, err := group.Wait(soon(t)); err != nil || len(ends) != 0 {
		t.Errorf("the loser's disconnect: %v, %v", ends, err)
	}
	// The winner is alive.
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("the winner: %v", err)
	}
	if _, err := winner.ReadAtLeast(soon(t), make([]byte, 1), 1); err != nil {
		t.Errorf("the winner's server: %v", err)
	}
	_ = c.Abort()
	ends := map[uint64]int{}
	for _, ev := range events.all(nil) {
		if ends[ev.Socket] > 0 {
			t.Errorf("an event of socket %d follows its end: %v", ev.Socket, ev)
		}
		if ev.Op == anysock.OpEnd {
			ends[ev.Socket]++
		}
	}
	if len(ends) != 2 {
		t.Errorf("ends of %d sockets, want 2: %v", len(ends), ends)
	}
}

// TestDialCancelMidRace: a context that is cancelled while attempts are under
// way ends them all; the error says so and lists them.
func TestDialCancelMidRace(t *testing.T) {
	hole := blackHole(t, "127.0.0.2")
	_, port, _ := net.SplitHostPort(hole)
	other := fillQueue(t, "127.0.0.3:"+port)
	ns := newNameServer(t, map[string]*host{"two.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{}, 2)
	events := recorder{notify: func(ev anysock.Event) {
		if ev.Op == anysock.OpSocket {
			started <- struct{}{}
		}
	}}
	d := &anysock.Dialer{Resolver: ns.resolver(), AttemptDelay: time.Millisecond, Trace: events.trace}
	failed := make(chan error, 1)
	go func() {
		_, err := d.Dial(ctx, "tcp4://two.test:"+port)
		failed <- err
	}()
	await(t, "the first attempt", started)
	await(t, "the second attempt", started)
	cancel()
	err := await(t, "Dial", failed)
	e := errorOfKind(t, "dial", err, anysock.KindCanceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not match context.Canceled", err)
	}
	if got := addressesOf(e.Attempts); !slices.Equal(got, []string{"127.0.0.2", "127.0.0.3"}) {
		t.Errorf("the attempts are %v (%s, %s)", got, hole, other)
	}
	if ops := events.ops(0); slices.Contains(ops, anysock.OpEnd) {
		t.Errorf("a connection was made: %v", ops)
	}
}

// TestDialDeadline: the context's deadline bounds the resolution as well as
// the attempts.
func TestDialDeadline(t *testing.T) {
	hole := blackHole(t, "127.0.0.2")
	never := make(chan struct{})
	ns := newNameServer(t, map[string]*host{"mute.test": {fourGate: never, sixGate: never}})
	d := &anysock.Dialer{Resolver: ns.resolver()}
	for _, addr := range []string{"tcp://" + hole, "tcp://mute.test:1", "tcp6://mute.test:1"} {
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
		_, err := d.Dial(ctx, addr)
		cancel()
		e := errorOfKind(t, addr, err, anysock.KindTimeout)
		if !e.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v is no time-out that matches the context's", addr, err)
		}
	}
}

// TestDialAttemptTimeout: each address has its own bound, and a time-out of
// one is not the end of the dial.
func TestDialAttemptTimeout(t *testing.T) {
	hole := blackHole(t, "127.0.0.2")
	_, port, _ := net.SplitHostPort(hole)
	fillQueue(t, "127.0.0.3:"+port)
	ns := newNameServer(t, map[string]*host{"two.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})
	d := &anysock.Dialer{Resolver: ns.resolver(), AttemptTimeout: 40 * time.Millisecond, AttemptDelay: -1}
	_, err := d.Dial(soon(t), "tcp4://two.test:"+port)
	e := errorOfKind(t, "dial", err, anysock.KindTimeout)
	if len(e.Attempts) != 2 || e.Hint == "" || !e.Timeout() {
		t.Errorf("%+v", e)
	}
	for _, a := range e.Attempts {
		if a.Duration < d.AttemptTimeout || !strings.Contains(a.Err.Error(), "no answer within 40ms") {
			t.Errorf("attempt %+v", a)
		}
	}
}

// TestDialedConnectionsAreClean: a dial that fails leaves no descriptor: the
// same few descriptors are enough for many dials.
func TestDialedConnectionsAreClean(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	before := descriptors()
	for range 50 {
		if _, err := anysock.Dial(soon(t), "tcp://127.0.0.1:"+port); err == nil {
			t.Fatal("connected")
		}
		c, err := anysock.Dial(soon(t), urlOf(ln))
		must(t, "dial", err)
		peer := mustAccept(t, ln)
		_ = c.Abort()
		if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the peer of an abort reads %v", err)
		}
		_ = peer.Abort()
	}
	if after := descriptors(); after > before+2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
