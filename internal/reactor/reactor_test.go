package reactor

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// A rig is a Loop at work, with an Acceptor.
type rig struct {
	t        *testing.T
	loop     *Loop
	acceptor *Acceptor
	addr     string
	accepted chan *source
}

// A source is a connection that keeps what it is told, for the test.
type source struct {
	Node
	rig   *rig
	ready func(s *source, found sys.Events)
	rang  func(s *source)
}

func (s *source) Ready(found sys.Events) {
	if s.ready != nil {
		s.ready(s, found)
	}
}

func (s *source) Expired() {
	if s.rang != nil {
		s.rang(s)
	}
}

// on runs f on the loop and waits for it.
func (r *rig) on(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.loop.Post(func() { defer close(done); f() }); err != nil {
		r.t.Fatal(err)
	}
	<-done
}

// listener is a listening socket on the loopback interface.
func listener(t *testing.T) (Handle, string) {
	t.Helper()
	s, err := sys.Open(sys.Inet4)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(sys.IPAddr(netip.MustParseAddrPort("127.0.0.1:0"))); err != nil {
		t.Fatal(err)
	}
	fd, err := s.Listen(100)
	if err != nil {
		t.Fatal(err)
	}
	addr := fd.LocalAddr().Net().String()
	h, err := Detach(fd)
	if err != nil {
		t.Fatal(err)
	}
	return h, addr
}

// newRig runs a Loop until the test ends. Accepted connections are watched for
// nothing.
func newRig(t *testing.T, a *Acceptor) *rig {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, loop: l, acceptor: a, accepted: make(chan *source, 1000)}
	h, addr := listener(t)
	r.addr = addr
	if a.Accepted == nil {
		a.Accepted = func(h Handle, _ Peer) {
			s := &source{rig: r}
			s.Source = s
			if err := l.Add(&s.Node, h, 0); err != nil {
				t.Error(err)
				return
			}
			r.accepted <- s
		}
	}
	if a.Failed == nil {
		a.Failed = func(err error) { t.Errorf("accepting failed: %v", err) }
	}
	go l.Run()
	t.Cleanup(func() {
		l.Tell(func() {
			a.Close()
			l.Stop()
		})
		<-l.Ended()
	})
	r.on(func() {
		if err := a.Start(l, h, false); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// pair is a connection, with its end on the loop.
func (r *rig) pair() (*net.TCPConn, *source) {
	r.t.Helper()
	c := r.dial()
	select {
	case s := <-r.accepted:
		return c, s
	case <-time.After(20 * time.Second):
		r.t.Fatal("nothing was accepted")
	}
	panic("unreachable")
}

var quick = Acceptor{Backoff: time.Millisecond, MaxBackoff: 8 * time.Millisecond, ShedAfter: time.Hour}

// What is posted runs in order, once, on the loop; too much is refused, and so is
// what comes after its end.
func TestPosts(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var ran []int
	const each, posters = 1000, 4
	for i := range MaxPosts {
		if err := l.Post(func() { ran = append(ran, i) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Post(func() { t.Error("it was refused, and ran") }); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	go l.Run()
	var all sync.WaitGroup
	for p := range posters {
		all.Go(func() {
			last := -1 // of this poster, on the loop
			for i := range each {
				if !l.Tell(func() {
					if i != last+1 {
						t.Errorf("poster %d: %d after %d", p, i, last)
					}
					last = i
					ran = append(ran, i)
				}) {
					t.Error("the loop has ended")
				}
			}
		})
	}
	all.Wait()
	if l.Beat() == 0 {
		t.Error("the loop has no beat")
	}
	l.Tell(l.Stop)
	<-l.Ended()
	if len(ran) != MaxPosts+posters*each || !slices.IsSorted(ran[:MaxPosts]) {
		t.Errorf("%d functions were run, in order: %v", len(ran), slices.IsSorted(ran[:MaxPosts]))
	}
	if err := l.Post(func() {}); !errors.Is(err, ErrOver) {
		t.Errorf("after the end: %v", err)
	}
	if l.Tell(func() {}) {
		t.Error("a loop that has ended was told")
	}
	if unused, err := New(); err != nil {
		t.Error(err)
	} else {
		unused.Discard()
		<-unused.Ended()
	}
}

// failAccepts makes accepting fail when fails says so; its argument counts up
// from 1.
func failAccepts(errno syscall.Errno, fails func(n int64) bool) (restore func()) {
	var n atomic.Int64
	return sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallAccept && fails(n.Add(1)) {
			return errno
		}
		return nil
	})
}

// Out of descriptors an Acceptor pauses, longer each time up to its bound, and
// forgets that when it goes well again.
func TestAcceptBackoff(t *testing.T) {
	var pauses []time.Duration
	a := quick
	a.Trouble = func(pause time.Duration, err error) {
		if !errors.Is(err, syscall.EMFILE) {
			t.Error(err)
		}
		pauses = append(pauses, pause)
	}
	r := newRig(t, &a)
	r.pair()
	defer failAccepts(syscall.EMFILE, func(n int64) bool { return n <= 6 || n == 9 })()
	r.pair()
	r.pair()
	r.pair()
	var got []time.Duration
	r.on(func() { got = pauses })
	ms := time.Millisecond
	if len(got) < 6 || !slices.Equal(got[:6], []time.Duration{ms, 2 * ms, 4 * ms, 8 * ms, 8 * ms, 8 * ms}) {
		t.Errorf("paused %v", got)
	}
	for _, again := range got[min(6, len(got)):] {
		if again != ms {
			t.Errorf("a new trouble begins with a pause of %v", again)
		}
	}
}

// When the trouble lasts, those who wait are reset with the descriptor that was
// kept in reserve.
func TestAcceptSheds(t *testing.T) {
	a := quick
	a.ShedAfter = 0
	var shed atomic.Int64
	a.Shed = func() { shed.Add(1) }
	r := newRig(t, &a)
	r.pair()
	if !AcksKnown { // it waits in accept already: that one goes well
		r.on(func() {
			accepted := a.Accepted
			a.Accepted = func(h Handle, _ Peer) {
				h.Reset()
				a.Accepted = accepted
			}
		})
	}
	// The accept of a shedding is every second one: it may succeed.
	restore := failAccepts(syscall.EMFILE, func(n int64) bool { return n%2 == 1 })
	defer restore()
	for range 4 {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("who waits in vain sees %v", err)
		}
	}
	restore()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-r.accepted
	if n := shed.Load(); n < 3 {
		t.Errorf("%d were shed", n)
	}
}

// A paused Acceptor takes nobody, and everybody afterwards; Reserve can refuse,
// too, until Resume.
func TestAcceptPauses(t *testing.T) {
	a := quick
	places := 2
	a.Reserve = func() bool {
		if places == 0 {
			return false
		}
		places--
		return true
	}
	a.Return = func() { places++ }
	r := newRig(t, &a)
	r.pair()
	r.pair()
	r.dial()
	r.on(func() {}) // the loop has looked
	r.on(func() {})
	if n := len(r.accepted); n != 0 {
		t.Errorf("%d were accepted without a place", n)
	}
	r.on(func() {
		places++
		a.Resume()
	})
	<-r.accepted
	r.on(func() {
		a.Pause()
		places = 10
	})
	r.dial()
	r.on(func() {})
	if n := len(r.accepted); n != 0 {
		t.Errorf("%d were accepted while it paused", n)
	}
	r.on(a.Resume)
	<-r.accepted
}

// Drain takes those who wait; then nobody can connect. Closing without it resets
// them.
func TestAcceptDrains(t *testing.T) {
	for _, drain := range []bool{true, false} {
		a := quick
		r := newRig(t, &a)
		r.on(a.Pause)
		var conns []*net.TCPConn
		for range 5 {
			conns = append(conns, r.dial())
		}
		taken := 0
		var err error
		r.on(func() {
			if drain {
				taken, err = a.Drain()
			} else {
				a.Close()
			}
		})
		if drain && (taken != 5 || err != nil || len(r.accepted) != 5) {
			t.Errorf("%d were taken, %v", taken, err)
		}
		if !drain {
			for _, c := range conns {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("who waited sees %v", err)
				}
			}
		}
		if c, err := net.Dial("tcp", r.addr); err == nil {
			c.Close()
			t.Error("the listener is still there")
		}
	}
}

// disconnect has the loop end s, and waits for the outcome.
func (r *rig) disconnect(s *source, b Bounds) Outcome {
	r.t.Helper()
	o := make(chan Outcome, 1)
	r.on(func() { r.loop.Disconnect(&s.Node, true, false, false, b, func(out Outcome) { o <- out }) })
	select {
	case out := <-o:
		if s.Open() {
			r.t.Error("the descriptor is still there")
		}
		return out
	case <-time.After(30 * time.Second):
		r.t.Fatal("no outcome")
	}
	panic("unreachable")
}

// The outcomes of a Disconnect.
func TestDisconnect(t *testing.T) {
	a := quick
	r := newRig(t, &a)
	long := Bounds{DrainBytes: 1 << 20, Patience: 20 * time.Second, Total: 20 * time.Second}
	short := Bounds{DrainBytes: 1 << 20, Patience: 200 * time.Millisecond, Total: time.Minute}
	send := func(s *source, n int) {
		r.on(func() {
			if m, err := r.loop.Send(&s.Node, make([]byte, n)); m != n || err != nil {
				t.Errorf("sent %d of %d, %v", m, n, err)
			}
		})
	}
	t.Run("graceful", func(t *testing.T) {
		c, s := r.pair()
		send(s, 1000)
		if _, err := c.Write(make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		go func() {
			if b, err := io.ReadAll(c); len(b) != 1000 || err != nil {
				t.Errorf("read %d, %v", len(b), err)
			}
			c.CloseWrite()
		}()
		if o := r.disconnect(s, long); !o.TheirEnd || !o.Acked || o.Drained != 500 || o.Err != nil || o.Unacked != 0 || o.EndSeen.IsZero() {
			t.Errorf("%+v", o)
		}
	})
	t.Run("silent peer", func(t *testing.T) {
		c, s := r.pair()
		send(s, 1000)
		if o := r.disconnect(s, short); o.TheirEnd || !o.Acked || o.Err != nil || o.Unacked != 0 {
			t.Errorf("%+v", o)
		}
		if b, err := io.ReadAll(c); len(b) != 1000 || err != nil {
			t.Errorf("read %d, %v", len(b), err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c, s := r.pair()
		send(s, 1000)
		go func() {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
			c.Close()
		}()
		if o := r.disconnect(s, long); !errors.Is(o.Err, syscall.ECONNRESET) || o.Acked || o.TheirEnd {
			t.Errorf("%+v", o)
		}
	})
	t.Run("flood", func(t *testing.T) {
		c, s := r.pair()
		go func() {
			for {
				if _, err := c.Write(make([]byte, 100_000)); err != nil {
					return
				}
			}
		}()
		if o := r.disconnect(s, long); o.TheirEnd || o.Drained < long.DrainBytes || o.Err != nil || !o.Acked {
			t.Errorf("%+v", o)
		}
		_, _ = io.Copy(io.Discard, c)
	})
	t.Run("nothing is discarded", func(t *testing.T) {
		_, s := r.pair()
		if o := r.disconnect(s, Bounds{DrainBytes: -1, Patience: 20 * time.Second}); o.TheirEnd || o.Drained != 0 || o.Err != nil || !o.Acked {
			t.Errorf("%+v", o)
		}
	})
	t.Run("peer that never reads", func(t *testing.T) {
		_, s := r.pair()
		r.on(func() {
			for {
				if _, err := r.loop.Send(&s.Node, make([]byte, 1<<20)); err != nil {
					if !errors.Is(err, sys.ErrWouldBlock) {
						t.Error(err)
					}
					return
				}
			}
		})
		if o := r.disconnect(s, short); o.TheirEnd || o.Acked != !AcksKnown || AcksKnown && o.Unacked == 0 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("total", func(t *testing.T) {
		_, s := r.pair()
		if o := r.disconnect(s, Bounds{DrainBytes: 1 << 20, Patience: time.Hour, Total: 100 * time.Millisecond}); o.TheirEnd || o.Err != nil {
			t.Errorf("%+v", o)
		}
	})
	t.Run("abandoned", func(t *testing.T) {
		c, s := r.pair()
		o := make(chan Outcome, 1)
		cause := errors.New("enough")
		r.on(func() {
			r.loop.Disconnect(&s.Node, true, false, false, long, func(out Outcome) { o <- out })
			if s.Owner() != Source(s) {
				t.Errorf("its owner is %T", s.Owner())
			}
			if !r.loop.Abandon(&s.Node, true, cause) || r.loop.Abandon(&s.Node, true, cause) {
				t.Error("it was to be abandoned once")
			}
		})
		if out := <-o; !errors.Is(out.Err, cause) || out.Acked {
			t.Errorf("%+v", out)
		}
		// Our end had gone out before the reset did.
		if b, err := io.ReadAll(c); len(b) != 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer reads %d bytes, %v", len(b), err)
		}
	})
}

// A Node is told by level as long as there is something, and by edge once.
func TestLevelAndEdge(t *testing.T) {
	a := quick
	r := newRig(t, &a)
	for _, edge := range []bool{false, true} {
		c, s := r.pair()
		told := make(chan sys.Events, 100)
		r.on(func() {
			s.ready = func(s *source, found sys.Events) {
				if len(told) < 5 {
					told <- found
				} else if err := r.loop.Want(&s.Node, 0); err != nil {
					t.Error(err)
				}
			}
			want := sys.EventIn
			if edge {
				want |= sys.EventEdge
			}
			if err := r.loop.Want(&s.Node, want); err != nil {
				t.Error(err)
			}
		})
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if found := <-told; found&sys.EventIn == 0 {
			t.Errorf("told of %#x", found)
		}
		if !edge {
			for range 3 { // again and again
				<-told
			}
			continue
		}
		for range 10 { // the loop goes round
			r.on(func() {})
		}
		if n := len(told); n > 0 {
			t.Errorf("told %d times more, by edge", n)
		}
		if _, err := c.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		<-told
		r.on(func() {
			b := make([]byte, 10)
			if n, err := r.loop.Recv(&s.Node, b); string(b[:n]) != "xy" || err != nil {
				t.Errorf("received %q, %v", b[:n], err)
			}
			if n, err := r.loop.Recv(&s.Node, b); n != 0 || !errors.Is(err, sys.ErrWouldBlock) {
				t.Errorf("received %d more, %v", n, err)
			}
		})
	}
}

// A timer runs out once, not before its time, and not when it was stopped; a
// loop with nothing else to do waits for it.
func TestTimers(t *testing.T) {
	a := quick
	r := newRig(t, &a)
	_, s := r.pair()
	rang := make(chan time.Time, 10)
	start := time.Now()
	const d = 50 * time.Millisecond
	r.on(func() {
		s.rang = func(*source) { rang <- time.Now() }
		r.loop.SetTimer(&s.Node, time.Millisecond)
		r.loop.SetTimer(&s.Node, d) // instead
	})
	if at := <-rang; at.Sub(start) < d {
		t.Errorf("rang after %v", at.Sub(start))
	}
	r.on(func() {
		if s.TimerSet() {
			t.Error("it is still set")
		}
		r.loop.SetTimer(&s.Node, 0)
		r.loop.StopTimer(&s.Node)
		r.loop.SetTimer(&s.Node, d)
		r.loop.Close(&s.Node)
		if s.TimerSet() {
			t.Error("closing has not stopped it")
		}
	})
	_, other := r.pair()
	over := make(chan struct{})
	r.on(func() {
		other.rang = func(*source) { close(over) }
		r.loop.SetTimer(&other.Node, 2*d)
	})
	<-over
	if n := len(rang); n != 0 {
		t.Errorf("a timer that was stopped rang %d times", n)
	}
}

// A Monitor forgets who owes nothing, and does not blame a peer that is alive and
// does not read.
func TestMonitor(t *testing.T) {
	if !AcksKnown {
		t.Skip("this back end does not know what is acknowledged")
	}
	a := quick
	r := newRig(t, &a)
	_, reads := r.pair()
	_, deaf := r.pair()
	var m *Monitor
	const bound = 400 * time.Millisecond
	r.on(func() {
		m = r.loop.NewMonitor(bound, func(*Node, time.Duration) { t.Error("somebody who is alive was called lost") })
		if _, err := r.loop.Send(&reads.Node, make([]byte, 10)); err != nil {
			t.Error(err)
		}
		for {
			if _, err := r.loop.Send(&deaf.Node, make([]byte, 1<<20)); err != nil {
				break
			}
		}
		m.Owe(&reads.Node)
		m.Owe(&deaf.Node)
	})
	for end := time.Now().Add(3 * bound); time.Now().Before(end); {
		<-time.After(bound / sys.ChecksPerBound)
	}
	r.on(func() {
		if reads.owing || !deaf.owing {
			t.Errorf("owing: %v, and the one that does not read: %v", reads.owing, deaf.owing)
		}
	})
}
