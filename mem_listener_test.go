// Tests of dialing and listening on mem: names, the queue, retry, draining.

package anysock_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

func TestMemRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		_, err := anysock.Dial(t.Context(), name)
		wantKind(t, "nobody listens", err, anysock.KindRefused)
		var e *anysock.Error
		if errors.As(err, &e); e.Op != anysock.OpConnect || len(e.Attempts) != 1 || !strings.Contains(e.Hint, name) {
			t.Errorf("%+v", e)
		}
		l, err := anysock.Listen(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = anysock.Dial(t.Context(), name)
		wantKind(t, "a closed listener", err, anysock.KindRefused)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = anysock.Dial(ctx, name)
		wantKind(t, "a cancelled context", err, anysock.KindCanceled)
	})
}

func TestMemNameInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		l, err := anysock.Listen(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if a := l.Addr(); a.Network()+":"+a.String() != name || l.Network() != "mem" {
			t.Errorf("address %v", a)
		}
		_, err = anysock.Listen(t.Context(), name)
		wantKind(t, "a name that is taken", err, anysock.KindInUse)
		l.Close()
		again, err := anysock.Listen(t.Context(), name)
		if err != nil {
			t.Fatalf("a name that was freed: %v", err)
		}
		// The second close of the first must not free the name of the next.
		l.Close()
		c, err := anysock.Dial(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		c.Abort()
		again.Close()
	})
}

// TestMemRetry: rounds start a second apart, and one of them finds the
// listener.
func TestMemRetry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		d := anysock.Dialer{Retry: anysock.Retry{Attempts: 3}}
		_, err := d.Dial(t.Context(), name)
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindRefused || len(e.Attempts) != 3 {
			t.Fatalf("%+v", err)
		}
		for i, a := range e.Attempts {
			if a.Round != i+1 || a.Started != time.Duration(i)*anysock.DefaultRetryInterval {
				t.Errorf("attempt %+v", a)
			}
		}

		start := time.Now()
		up := make(chan *anysock.Listener, 1)
		later := time.AfterFunc(2500*time.Millisecond, func() {
			l, err := anysock.Listen(context.Background(), name)
			if err != nil {
				t.Error(err)
			}
			up <- l
		})
		defer later.Stop()
		c, err := anysock.Dial(t.Context(), name+"?retry=10&retryinterval=1s")
		if err != nil || time.Since(start) != 3*time.Second {
			t.Fatalf("%v after %s", err, time.Since(start))
		}
		c.Abort()
		(<-up).Close()

		start = time.Now()
		d.Retry = anysock.Retry{Attempts: -1, Interval: time.Minute}
		_, err = d.Dial(within(t, 90*time.Second), name)
		wantKind(t, "until the context is done", err, anysock.KindTimeout)
		if time.Since(start) != 90*time.Second {
			t.Errorf("after %s", time.Since(start))
		}
	})
}

// TestContract09BacklogIsBounded_mem: the queue takes its number, further dials
// wait for a place in their order, until their context or attempt ends.
func TestContract09BacklogIsBounded_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		l, err := anysock.Listen(t.Context(), name+"?backlog=2")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, local := range []string{"1", "2"} {
			c, err := (&anysock.Dialer{Local: local}).Dial(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Abort()
		}
		start := time.Now()
		_, err = anysock.Dial(within(t, 3*time.Second), name)
		if memKind(err) != anysock.KindTimeout || time.Since(start) != 3*time.Second {
			t.Errorf("context: %v after %s", err, time.Since(start))
		}
		start = time.Now()
		_, err = anysock.Dial(t.Context(), name)
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindTimeout || time.Since(start) != anysock.DefaultAttemptTimeout {
			t.Fatalf("attempt: %v after %s", err, time.Since(start))
		}
		if !strings.Contains(e.Hint, "backlog") {
			t.Errorf("hint: %s", e.Hint)
		}

		var wg sync.WaitGroup
		for _, local := range []string{"3", "4", "5"} {
			wg.Go(func() {
				c, err := (&anysock.Dialer{Local: local}).Dial(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				c.Abort()
			})
			synctest.Wait() // so that they queue up in this order
		}
		for _, want := range []string{"1", "2", "3", "4", "5"} {
			c, err := l.AcceptContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := c.RemoteAddr().String(); got != want {
				t.Errorf("accepted %s, want %s", got, want)
			}
			c.Abort()
		}
		wg.Wait()
	})
}

// TestMemCloseListener: what waits in the queue is reset, who waits for the
// queue is refused, who accepts is turned away.
func TestMemCloseListener(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		l, err := anysock.Listen(t.Context(), name+"?backlog=1")
		if err != nil {
			t.Fatal(err)
		}
		queued, err := anysock.Dial(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, queued, "hello")
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := anysock.Dial(t.Context(), name)
			wantKind(t, "who waits for the queue", err, anysock.KindRefused)
		})
		synctest.Wait()
		l.Close()
		wg.Wait()
		_, err = queued.Read(make([]byte, 1))
		wantKind(t, "who waits in the queue", err, anysock.KindReset)
		if end := queued.End(); end.How != anysock.AbortedByPeer || end.Unacked != 5 {
			t.Errorf("ending: %v", end)
		}
		_, err = l.Accept()
		wantKind(t, "accept after close", err, anysock.KindClosed)

		l, err = anysock.Listen(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			_, err := l.Accept()
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept when closed: %v", err)
			}
		})
		synctest.Wait()
		l.Close()
		wg.Wait()
	})
}

// TestMemDrain: what is queued is accepted and works on, what comes later is
// refused.
func TestMemDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		l, err := anysock.Listen(t.Context(), name+"?backlog=3")
		if err != nil {
			t.Fatal(err)
		}
		var dialed []*anysock.Conn
		for range 3 {
			c, err := anysock.Dial(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, c, "hello")
			dialed = append(dialed, c)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := anysock.Dial(t.Context(), name)
			wantKind(t, "who waits for the queue", err, anysock.KindRefused)
		})
		synctest.Wait()
		start := time.Now()
		conns, err := l.Drain()
		if len(conns) != 3 || err != nil || time.Since(start) != 0 {
			t.Errorf("%d connections, %v after %s", len(conns), err, time.Since(start))
		}
		wg.Wait()
		_, err = anysock.Dial(t.Context(), name)
		wantKind(t, "who comes later", err, anysock.KindRefused)
		for i, c := range conns {
			wantRead(t, c, "hello")
			mustWrite(t, c, "bye")
			wantRead(t, dialed[i], "bye")
			c.Abort()
			dialed[i].Abort()
		}
	})
}

// TestMemDrainTurnsAcceptersAway: to those who accept, a drain is a close.
func TestMemDrainTurnsAcceptersAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l, err := anysock.Listen(t.Context(), memName())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 { // one has the turn, one waits for it
			wg.Go(func() {
				if _, err := l.AcceptContext(t.Context()); !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
			})
		}
		synctest.Wait()
		if conns, err := l.Drain(); len(conns) != 0 || err != nil {
			t.Errorf("%d connections, %v", len(conns), err)
		}
		wg.Wait()
	})
}

func TestMemAcceptDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		l, err := anysock.Listen(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		start := time.Now()
		l.SetDeadline(start.Add(time.Minute))
		if _, err := l.AcceptContext(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("context: %v after %s", err, time.Since(start))
		}
		if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("deadline: %v after %s", err, time.Since(start))
		}
		l.SetDeadline(time.Time{})
		c, err := anysock.Dial(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Abort()
		a, err := l.AcceptContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a.Abort()
	})
}

// TestMemMaxConns: the next is accepted when one is closed.
func TestMemMaxConns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := memName()
		l, err := anysock.Listen(t.Context(), name+"?maxconns=1")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for range 2 {
			c, err := anysock.Dial(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Abort()
		}
		first, err := l.AcceptContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.AcceptContext(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second while one is open: %v", err)
		}
		first.Abort()
		second, err := l.AcceptContext(within(t, time.Second))
		if err != nil {
			t.Fatal(err)
		}
		second.Abort()
	})
}

// TestMemOptions: an option that has no meaning here is an error, not ignored.
func TestMemOptions(t *testing.T) {
	t.Parallel()
	for addr, ok := range map[string]bool{
		"mem:x?buffer=10&backlog=1&maxconns=3&bind=y&timeout=1s&retry=2&retryinterval=1s&closetimeout=1s&draintimeout=1s&drainbytes=5": true,
		"mem:x?lost=3s":       false,
		"mem:x?rcvbuf=1":      false,
		"mem:x?buffer=-1":     false,
		"mem:x?interface=lo":  false,
		"echo:?buffer=10":     true,
		"echo:?backlog=10":    false,
		"chargen:?nosuch=one": false,
	} {
		if err := anysock.MustParseAddress(addr).Check(); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	_, err := anysock.Dial(t.Context(), "mem:x?backlog=1")
	wantKind(t, "backlog for dialing", err, anysock.KindAddress)
	_, err = anysock.Listen(t.Context(), "mem:x?bind=y")
	wantKind(t, "bind for listening", err, anysock.KindAddress)
}

// TestMemTrace: connecting, listening and accepting are steps with numbers.
func TestMemTrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var ops []string
		trace := func(ev anysock.Event) {
			mu.Lock()
			defer mu.Unlock()
			if ev.Network != "mem" || ev.Socket == 0 {
				t.Errorf("event %v", ev)
			}
			ops = append(ops, ev.Op+" "+ev.Detail)
		}
		name := memName()
		d := anysock.Dialer{Trace: trace, Retry: anysock.Retry{Attempts: 2}}
		_, err := d.Dial(t.Context(), name)
		wantKind(t, "nobody listens", err, anysock.KindRefused)
		near, far, _ := memPair(t, anysock.Dialer{Trace: trace}, anysock.ListenConfig{Trace: trace, Backlog: 7})
		near.Abort()
		far.Abort()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"connect ", "wait retry 1 in 1s", "connect ", "listen backlog=7", "connect ", "accept ", "close ", "abort ", "end ", "abort ", "end "}
		if got := strings.Join(ops, "|"); got != strings.Join(want, "|") {
			t.Errorf("steps:\n%s, want\n%s", got, strings.Join(want, "|"))
		}
	})
}
