package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file makes accept(2) fail: out of descriptors or memory, connections
// that died in the queue, and errors that are the listener's own.

// failAccepts makes the next n accepts fail, or all if n is negative.
func failAccepts(n int64, err error) (restore func()) {
	var left atomic.Int64
	left.Store(n)
	return sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallAccept && (n < 0 || left.Add(-1) >= 0) {
			return err
		}
		return nil
	})
}

// TestAcceptOutOfDescriptors: accept pauses, longer each time, and goes on;
// nobody is lost.
func TestAcceptOutOfDescriptors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		t.Run(errno.Error(), func(t *testing.T) {
			overKernelNetworks(t, func(t *testing.T, addr string) {
				var events recorder
				ln := mustListen(t, &anysock.ListenConfig{Trace: events.trace}, addr)
				for range 3 {
					mustDial(t, &anysock.Dialer{}, urlOf(ln))
				}
				defer failAccepts(4, errno)()
				for range 3 {
					mustAccept(t, ln)
				}
				var pauses []string
				for _, ev := range events.all(isOp(anysock.OpAccept)) {
					if ev.Err == nil {
						continue
					}
					pauses = append(pauses, strings.TrimPrefix(ev.Detail, "pause "))
					wantErrorKind(t, "the traced error", ev.Err, anysock.KindLimit)
					if !errors.Is(ev.Err, errno) || ev.State != anysock.StateListening {
						t.Errorf("the trace has %v in state %v", ev.Err, ev.State)
					}
				}
				if want := []string{"5ms", "10ms", "20ms", "40ms"}; !slices.Equal(pauses, want) {
					t.Errorf("paused %v, want %v", pauses, want)
				}
				if failures, shed := ln.Exhausted(); failures != 4 || shed != 0 {
					t.Errorf("Exhausted = %d, %d; want 4, 0", failures, shed)
				}
			})
		})
	}
}

// TestAcceptPauseGrowsToItsBound: the pause doubles from 5 ms to 1 s, and not
// further; time passes in a bubble.
func TestAcceptPauseGrowsToItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var times []time.Duration
		done, cancel := context.WithCancel(t.Context())
		restore := sys.Inject(func(call sys.Call, _ int) error {
			if call != sys.CallAccept {
				return nil
			}
			times = append(times, time.Since(start))
			if len(times) == 12 {
				cancel()
			}
			return syscall.EMFILE
		})
		defer restore()
		ln, err := (&anysock.ListenConfig{Options: anysock.Options{LostAfter: -1}}).Listen(t.Context(), "tcp://127.0.0.1:0")
		must(t, "listen", err)
		_, err = ln.AcceptContext(done)
		wantErrorKind(t, "accept", err, anysock.KindCanceled)
		want, pause := time.Duration(0), anysock.DefaultAcceptBackoff
		for i, at := range times {
			if at != want {
				t.Errorf("try %d came after %s, want %s", i, at, want)
			}
			want += pause
			pause = min(2*pause, anysock.MaxAcceptBackoff)
		}
		must(t, "close", ln.Close())
	})
}

// TestAcceptSheds: out of descriptors for longer than DefaultShedAfter, and
// not before, waiting clients are reset, one at a time, so that they learn of
// it; a reset is no end of file. Time passes in a bubble.
func TestAcceptSheds(t *testing.T) {
	for _, addr := range []string{"tcp://127.0.0.1:0", "unix:" + t.TempDir() + "/s"} {
		synctest.Test(t, func(t *testing.T) {
			options := anysock.Options{LostAfter: -1}
			ln, err := (&anysock.ListenConfig{Options: options}).Listen(t.Context(), addr)
			must(t, "listen", err)
			defer ln.Close()
			var clients []*anysock.Conn
			defer func() {
				for _, c := range clients {
					_ = c.Abort()
				}
			}()
			for range 4 {
				c, err := (&anysock.Dialer{Options: options}).Dial(t.Context(), urlOf(ln))
				must(t, "dial", err)
				clients = append(clients, c)
			}
			// Nothing is free but the reserve, which takes part after an accept
			// has failed.
			var mu sync.Mutex
			var began, last time.Time
			shedAt := []time.Duration{}
			enough := make(chan struct{})
			restore := sys.Inject(func(call sys.Call, _ int) error {
				if call != sys.CallAccept {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				now := time.Now()
				if began.IsZero() {
					began = now
				}
				first := now.After(last)
				last = now
				if now.Sub(began) < anysock.DefaultShedAfter || first {
					return syscall.EMFILE
				}
				if shedAt = append(shedAt, now.Sub(began)); len(shedAt) == 2 {
					close(enough)
				}
				return nil
			})
			ch := accepting(t.Context(), ln)
			var got accepted
			select {
			case <-enough:
				synctest.Wait()
				restore()
				got = <-ch
			case got = <-ch:
				restore()
				_ = got.c.Abort()
				t.Fatal("accepted a client in the reserve's place")
			}
			must(t, "accept", got.err)
			defer func() { _ = got.c.Abort() }()
			for _, at := range shedAt {
				if at < anysock.DefaultShedAfter {
					t.Errorf("shed after %s", at)
				}
			}
			if failures, shed := ln.Exhausted(); shed != 2 || failures < 10 {
				t.Errorf("Exhausted = %d, %d; want two shed", failures, shed)
			}
			if addr[:3] == "tcp" {
				for _, c := range clients[:2] {
					_, err := c.Read(make([]byte, 1))
					wantErrorKind(t, "the shed client's read", err, anysock.KindReset)
				}
			}
			if peer := got.c.RemoteAddr().String(); addr[:3] == "tcp" && peer != clients[2].LocalAddr().String() {
				t.Errorf("accepted %s, want the third client, %s", peer, clients[2].LocalAddr())
			}
		})
	}
}

// TestAcceptPauseIsCutShort: what ends a wait for a connection ends a pause,
// and the listener is alive afterwards.
func TestAcceptPauseIsCutShort(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(ln *anysock.Listener, cancel func())
		kind anysock.Kind
		dead bool
	}{
		{"context", func(_ *anysock.Listener, cancel func()) { cancel() }, anysock.KindCanceled, false},
		{"deadline", func(ln *anysock.Listener, _ func()) { ln.SetDeadline(time.Now()) }, anysock.KindTimeout, false},
		{"close", func(ln *anysock.Listener, _ func()) { ln.Close() }, anysock.KindClosed, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
			mustDial(t, &anysock.Dialer{}, urlOf(ln))
			restore := failAccepts(-1, syscall.EMFILE)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ch := accepting(ctx, ln)
			eventually(t, "the pauses to grow", func() bool { n, _ := ln.Exhausted(); return n >= 4 })
			tt.cut(ln, cancel)
			wantErrorKind(t, "accept", await(t, "accept", ch).err, tt.kind)
			restore()
			if tt.dead {
				return
			}
			ln.SetDeadline(time.Time{})
			mustAccept(t, ln)
		})
	}
}

// TestAcceptSkipsTheDead: a connection that died in the queue concerns nobody
// (accept(2)); the next one is accepted without a pause.
func TestAcceptSkipsTheDead(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.ECONNABORTED, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EINTR, syscall.EPERM,
		syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EOPNOTSUPP,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			var events recorder
			ln := mustListen(t, &anysock.ListenConfig{Trace: events.trace}, "tcp://127.0.0.1:0")
			mustDial(t, &anysock.Dialer{}, urlOf(ln))
			mustDial(t, &anysock.Dialer{}, urlOf(ln))
			defer failAccepts(3, errno)()
			mustAccept(t, ln)
			mustAccept(t, ln)
			if failures, _ := ln.Exhausted(); failures != 0 {
				t.Errorf("counted %d failures", failures)
			}
			if evs := events.all(isOp(anysock.OpAccept)); len(evs) != 2 || evs[0].Err != nil || evs[1].Err != nil {
				t.Errorf("the trace has %v", evs)
			}
		})
	}
}

// TestResetFlood: clients that connect and reset at once cost nothing that
// stays; whoever comes after them is served.
func TestResetFlood(t *testing.T) {
	const flood = 1000
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	before := descriptors()
	served := make(chan error, 1)
	go func() {
		for {
			c, err := ln.AcceptContext(soon(t))
			if err != nil {
				served <- err
				return
			}
			b := make([]byte, 4)
			n, err := c.ReadAtLeast(soon(t), b, 4)
			if err == nil && string(b) == "last" {
				_, err = c.Write(b)
				_ = c.Close()
				served <- err
				return
			}
			if n > 0 || errors.Is(err, io.EOF) {
				t.Errorf("a client that reset gave %d bytes and %v", n, err)
			}
			_ = c.Close()
		}
	}()
	for range flood {
		c, err := anysock.Dial(soon(t), urlOf(ln))
		must(t, "dial", err)
		must(t, "Abort", c.Abort())
	}
	c := mustDial(t, &anysock.Dialer{}, urlOf(ln))
	if _, err := c.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadAtLeast(soon(t), make([]byte, 4), 4); err != nil {
		t.Errorf("after the flood: %v", err)
	}
	must(t, "the server", await(t, "the server", served))
	_, _ = c.Disconnect(soon(t))
	eventually(t, "the descriptors to be released", func() bool { return descriptors() <= before })
}

// TestAcceptFailsForGood: any other error is reported, by Conns as its last
// pair.
func TestAcceptFailsForGood(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	defer failAccepts(-1, syscall.EINVAL)()
	_, err := ln.Accept()
	e := errorOfKind(t, "accept", err, anysock.KindOther)
	if !errors.Is(err, syscall.EINVAL) || e.Op != anysock.OpAccept || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("the error is %v", err)
	}
	n := 0
	for c, err := range ln.Conns(soon(t)) {
		if n++; c != nil || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Conns gives %v, %v", c, err)
		}
	}
	if n != 1 {
		t.Errorf("Conns gave %d pairs, want the error and no more", n)
	}
	if conns, err := ln.Drain(); len(conns) != 0 || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Drain = %v, %v", conns, err)
	}
}

// TestDrainOutOfDescriptors: Drain takes who is queued also when descriptors
// are short for a moment.
func TestDrainOutOfDescriptors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENOBUFS, syscall.ECONNABORTED, syscall.EPROTO, syscall.EHOSTUNREACH} {
		t.Run(fmt.Sprint(errno), func(t *testing.T) {
			ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
			for range 3 {
				mustDial(t, &anysock.Dialer{}, urlOf(ln))
			}
			defer failAccepts(2, errno)()
			conns, err := ln.Drain()
			if len(conns) != 3 || err != nil {
				t.Errorf("drained %d connections, %v; want all 3", len(conns), err)
			}
			for _, c := range conns {
				_ = c.Abort()
			}
		})
	}
}

// TestListenErrors: a failed step of listening leaves nothing behind.
func TestListenErrors(t *testing.T) {
	for _, tt := range []struct {
		call  sys.Call
		errno syscall.Errno
		op    string
		kind  anysock.Kind
	}{
		{sys.CallSocket, syscall.EMFILE, anysock.OpSocket, anysock.KindLimit},
		{sys.CallSocket, syscall.ENOBUFS, anysock.OpSocket, anysock.KindLimit},
		{sys.CallSocket, syscall.EACCES, anysock.OpSocket, anysock.KindPermission},
		{sys.CallSetsockopt, syscall.ENOMEM, anysock.OpOption, anysock.KindLimit},
		{sys.CallSetsockopt, syscall.EPERM, anysock.OpOption, anysock.KindPermission},
		{sys.CallBind, syscall.EADDRINUSE, anysock.OpBind, anysock.KindInUse},
		{sys.CallBind, syscall.EACCES, anysock.OpBind, anysock.KindPermission},
		{sys.CallBind, syscall.EADDRNOTAVAIL, anysock.OpBind, anysock.KindUnreachable},
		{sys.CallListen, syscall.EADDRINUSE, anysock.OpListen, anysock.KindInUse},
		{sys.CallListen, syscall.ENOMEM, anysock.OpListen, anysock.KindLimit},
	} {
		t.Run(fmt.Sprint(tt.call, " ", tt.errno), func(t *testing.T) {
			overKernelNetworks(t, func(t *testing.T, addr string) {
				if addr[:4] == "unix" && tt.call == sys.CallSetsockopt {
					return // none is set
				}
				before := descriptors()
				restore := sys.Inject(func(call sys.Call, _ int) error {
					if call == tt.call {
						return tt.errno
					}
					return nil
				})
				ln, err := anysock.Listen(soon(t), addr)
				restore()
				if err == nil {
					ln.Close()
					t.Fatalf("%s failed with %v, and Listen did not", tt.call, tt.errno)
				}
				e := errorOfKind(t, string(tt.call), err, tt.kind)
				if addr[:4] == "unix" && tt.call == sys.CallBind && tt.errno == syscall.EADDRINUSE {
					// In the way of the file is nothing, and yet it is refused.
				} else if e.Op != tt.op || !errors.Is(err, tt.errno) {
					t.Errorf("%s %v: the error is %v (step %q, want %q)", tt.call, tt.errno, err, e.Op, tt.op)
				}
				if after := descriptors(); after > before {
					t.Errorf("%s %v: %d descriptors before, %d after", tt.call, tt.errno, before, after)
				}
				// The same address can be listened on: no file is in the way.
				ln, err = anysock.Listen(soon(t), addr)
				must(t, "listen afterwards", err)
				must(t, "close", ln.Close())
			})
		})
	}
	// An option that the platform lacks is left out, unless it was asked for.
	restore := sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallSetsockopt {
			return errors.ErrUnsupported
		}
		return nil
	})
	defer restore()
	ln, err := anysock.Listen(soon(t), "tcp://127.0.0.1:0")
	must(t, "listen without options", err)
	ln.Close()
	_, err = (&anysock.ListenConfig{ReusePort: true}).Listen(soon(t), "tcp://127.0.0.1:0")
	wantErrorKind(t, "SO_REUSEPORT where there is none", err, anysock.KindUnsupported)
	var ne net.Error
	if !errors.As(err, &ne) || ne.Timeout() {
		t.Errorf("%v is no net.Error, or a time-out", err)
	}
}
