//go:build linux && !anysock_portable

package relay_test

// A Relay on event loops where the kernel refuses, and where many come and go.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/relay"
)

// plainEcho is a server of package net, which does not pass the switch.
func plainEcho(t *testing.T, network string) (addr string) {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				// Not io.Copy, which would splice.
				_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	if network == "unix" {
		return "unix:" + at
	}
	return "tcp://" + ln.Addr().String()
}

// plainRound sends p through the relay to an echo server and requires it back,
// with package net.
func plainRound(t *testing.T, s *station, network string, p []byte) {
	t.Helper()
	c, err := net.Dial(network, s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(p); err != nil {
			t.Errorf("write: %v", err)
		}
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	if err != nil || !bytes.Equal(got, p) {
		t.Errorf("%d of %d bytes came back, the same: %t, %v", len(got), len(p), bytes.Equal(got, p), err)
	}
}

// TestLoopsFaults: whatever the kernel refuses for a moment, or splice does not
// do at all, no byte is lost.
func TestLoopsFaults(t *testing.T) {
	every := func(n int64, call sys.Call, err error) func() sys.Fault {
		return func() sys.Fault {
			var count atomic.Int64
			return func(c sys.Call, _ int) error {
				if c == call && count.Add(1)%n == 0 {
					return err
				}
				return nil
			}
		}
	}
	for _, x := range []struct {
		name  string
		fault func() sys.Fault
	}{
		{"send ENOBUFS", every(3, sys.CallSend, syscall.ENOBUFS)},
		{"recv ENOMEM", every(3, sys.CallRecv, syscall.ENOMEM)},
		{"recv EINTR", every(2, sys.CallRecv, syscall.EINTR)},
		{"splice ENOMEM", every(3, sys.CallSplice, syscall.ENOMEM)},
		{"splice ENOBUFS", every(4, sys.CallSplice, syscall.ENOBUFS)},
		{"splice never", every(1, sys.CallSplice, syscall.EINVAL)},
		{"splice not into", every(2, sys.CallSplice, syscall.EINVAL)},
		{"splice not any more", every(7, sys.CallSplice, syscall.EINVAL)},
		{"no pipe", every(1, sys.CallPipe, syscall.EMFILE)},
		{"no pipe now and then", every(2, sys.CallPipe, syscall.ENFILE)},
		{"unacked", every(2, sys.CallUnacked, syscall.EINTR)},
		{"epoll ENOMEM", every(50, sys.CallPoll, syscall.EINTR)},
	} {
		t.Run(x.name, func(t *testing.T) {
			for _, network := range []string{"tcp", "unix"} {
				s := newStation(t, network, plainEcho(t, network), &relay.Relay{Options: relay.Options{}})
				sys.CloseIdlePipes()
				restore := sys.Inject(x.fault())
				for _, size := range []int{1, 20_000, 3_000_000} {
					plainRound(t, s, network, text(size))
				}
				restore()
				for range 3 {
					if rec := s.record(); rec.How != anysock.Graceful || rec.ToInbound.Bytes != rec.ToOutbound.Bytes {
						t.Errorf("record: %v", rec)
					}
				}
			}
		})
	}
}

// TestLoopsAcceptWithoutDescriptors: the listener stays alive, and says what
// happened.
func TestLoopsAcceptWithoutDescriptors(t *testing.T) {
	s := newStation(t, "tcp", plainEcho(t, "tcp"), &relay.Relay{})
	plainRound(t, s, "tcp", text(10))
	var n atomic.Int64
	restore := sys.Inject(func(c sys.Call, _ int) error {
		if c == sys.CallAccept && n.Add(1) <= 5 {
			return syscall.EMFILE
		}
		return nil
	})
	plainRound(t, s, "tcp", text(20))
	restore()
	if failures, _ := s.ln.Exhausted(); failures != 5 {
		t.Errorf("%d failures were counted of 5", failures)
	}
}

// TestLoopsCannotWatch: a connection that epoll does not take is reset, and the
// record says whose fault it was.
func TestLoopsCannotWatch(t *testing.T) {
	for n := range int64(2) { // the inbound leg, the outbound one
		s := newStation(t, "tcp", plainEcho(t, "tcp"), &relay.Relay{})
		plainRound(t, s, "tcp", text(10))
		s.record()
		var added atomic.Int64
		restore := sys.Inject(func(c sys.Call, fd int) error {
			if to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); c != sys.CallPoll || err != nil || !strings.HasPrefix(to, "socket:") {
				return nil
			}
			if added.Add(1) == n+1 {
				return syscall.ENOMEM
			}
			return nil
		})
		c, err := net.Dial("tcp", s.ln.Addr().String())
		if err == nil { // else the reset came before it saw that it was connected
			// The first to hear of a reset is the only one.
			if _, err = c.Write(text(100)); err == nil {
				c.SetDeadline(time.Now().Add(patience))
				_, err = c.Read(make([]byte, 1))
			}
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("leg %d: the client got %v, want a reset", n, err)
		}
		rec := s.record()
		restore()
		if rec.How != anysock.AbortedByUs || rec.By != relay.Self || kindOf(rec.Err) != anysock.KindLimit {
			t.Errorf("leg %d: %v", n, rec)
		}
	}
}

// TestLoopsAcceptFails: what cannot be cured ends Serve.
func TestLoopsAcceptFails(t *testing.T) {
	r := &relay.Relay{Target: anysock.MustParseAddress(plainEcho(t, "tcp"))}
	ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until(t, "a connection", func() bool { return r.Stats().Active == 1 })
	restore := sys.Inject(func(c sys.Call, _ int) error {
		if c == sys.CallAccept {
			return syscall.EINVAL
		}
		return nil
	})
	late, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if err := <-served; !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve: %v", err)
	}
	restore()
	// What was accepted lives on, and what was queued is taken by Shutdown.
	done := make(chan relay.Drained, 1)
	go func() {
		d, err := r.Shutdown(context.Background())
		if err != nil {
			t.Error(err)
		}
		done <- d
	}()
	for _, x := range []net.Conn{late, c} { // late is served by Shutdown, which is at work then
		x.SetDeadline(time.Now().Add(patience))
		_, _ = x.Write(text(100))
		_ = x.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(x); err != nil || len(got) != 100 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		x.Close()
	}
	if d := <-done; d != (relay.Drained{Queued: 1, Finished: 2}) {
		t.Errorf("drained: %+v", d)
	}
}

// TestLoopsListenerCloses: closing the listener ends Serve and nothing else.
func TestLoopsListenerCloses(t *testing.T) {
	r := &relay.Relay{Target: anysock.MustParseAddress(plainEcho(t, "tcp"))}
	ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()
	c, err := anysock.Dial(t.Context(), dialable(ln))
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, text(10))
	read(t, c, text(10))
	ln.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	until(t, "a closed port", func() bool {
		x, err := net.Dial("tcp", ln.Addr().String())
		if err == nil {
			x.Close()
		}
		return err != nil
	})
	write(t, c, text(20))
	read(t, c, text(20))
	disconnect(t, c)
	if _, err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLoopsServeAgain: a Serve that has ended can be followed by another.
func TestLoopsServeAgain(t *testing.T) {
	r := &relay.Relay{Target: anysock.MustParseAddress(plainEcho(t, "unix")), Loops: 3}
	ln := listen(t, anysock.ListenConfig{}, address(t, "unix"))
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- r.Serve(ctx, ln) }()
		c, err := anysock.Dial(t.Context(), dialable(ln))
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, text(10))
		read(t, c, text(10))
		disconnect(t, c)
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	}
	if _, err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if st := r.Stats(); st.Accepted != 3 || st.Graceful != 3 {
		t.Errorf("stats: %+v", st)
	}
}

// TestLoopsListenersLimit: a listener's own limit counts too, exactly.
func TestLoopsListenersLimit(t *testing.T) {
	s := newStationAt(t, "tcp://127.0.0.1:0?maxconns=2", plainEcho(t, "tcp"), &relay.Relay{Loops: 2})
	var open []*anysock.Conn
	for range 2 {
		c := s.dial()
		write(t, c, text(10))
		read(t, c, text(10))
		open = append(open, c)
	}
	third := s.dial()
	write(t, third, text(20))
	linger(100 * time.Millisecond)
	if st := s.Stats(); st.Accepted != 2 {
		t.Errorf("stats: %+v", st)
	}
	disconnect(t, open[0])
	read(t, third, text(20))
}

// TestLoopsSlowOnEnd: who is told of ends may wait; the connections do not.
func TestLoopsSlowOnEnd(t *testing.T) {
	r := &relay.Relay{Target: anysock.MustParseAddress(plainEcho(t, "tcp")), MaxConns: 10}
	wait, told := make(chan struct{}), make(chan relay.Record, 20)
	r.OnEnd = func(rec relay.Record) {
		<-wait
		told <- rec
	}
	ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()
	round := func() {
		c, err := anysock.Dial(t.Context(), dialable(ln))
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, text(1000))
		read(t, c, text(1000))
		disconnect(t, c)
	}
	for range 10 {
		round()
	}
	until(t, "the end of all", func() bool { return r.Stats().Graceful == 10 })
	if st := r.Stats(); st.Active != 0 || st.Accepted != 10 {
		t.Errorf("stats: %+v", st)
	}
	// Their places are taken until OnEnd returns.
	c, err := anysock.Dial(t.Context(), dialable(ln))
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, text(1000))
	linger(50 * time.Millisecond)
	if st := r.Stats(); st.Accepted != 10 {
		t.Errorf("stats: %+v", st)
	}
	close(wait)
	read(t, c, text(1000))
	disconnect(t, c)
	if _, err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if len(told) != 11 {
		t.Errorf("OnEnd was told of %d of 11", len(told))
	}
}

// TestLoopsBurst: very many clients that connect and reset leave nothing
// behind, and others are served meanwhile.
func TestLoopsBurst(t *testing.T) {
	s := newStation(t, "tcp", plainEcho(t, "tcp"), &relay.Relay{})
	const clients, rounds = 8, 250
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range rounds {
				c, err := net.Dial("tcp", s.ln.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					_, _ = c.Write(text(100))
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		})
	}
	for range 20 {
		plainRound(t, s, "tcp", text(50_000))
	}
	wg.Wait()
	until(t, "the end of all", func() bool { return s.Stats().Active == 0 })
	if st := s.Stats(); st.Accepted < 20 || st.Graceful < 20 {
		t.Errorf("stats: %+v", st)
	}
}

// TestLoopsDrainUnderLoad: a Shutdown in the middle loses nobody who was
// accepted or queued.
func TestLoopsDrainUnderLoad(t *testing.T) {
	r := &relay.Relay{Target: anysock.MustParseAddress(plainEcho(t, "tcp"))}
	var graceful atomic.Int64
	r.OnEnd = func(rec relay.Record) {
		if rec.How == anysock.Graceful {
			graceful.Add(1)
		}
	}
	ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()
	var wg sync.WaitGroup
	var whole atomic.Int64
	p := text(200_000)
	for range 20 {
		wg.Go(func() {
			for {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				go func() {
					_, _ = c.Write(p)
					_ = c.(*net.TCPConn).CloseWrite()
				}()
				got, err := io.ReadAll(c)
				c.Close()
				switch {
				case err == nil && len(got) == len(p):
					whole.Add(1)
				case len(got) == 0: // it came too late, and was never queued
				default:
					t.Errorf("%d of %d bytes, %v", len(got), len(p), err)
				}
			}
		})
	}
	until(t, "some traffic", func() bool { return r.Stats().Graceful >= 50 })
	d, err := r.Shutdown(context.Background())
	if err != nil || d.Cut != 0 {
		t.Errorf("drained: %+v, %v", d, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if st := r.Stats(); st.Graceful != st.Accepted || graceful.Load() != st.Accepted || whole.Load() != st.Accepted {
		t.Errorf("%+v, %d records, %d served whole", st, graceful.Load(), whole.Load())
	}
}

// TestLoopsIdleCosts: an idle connection has two descriptors.
func TestLoopsIdleCosts(t *testing.T) {
	s := newStation(t, "tcp", plainEcho(t, "tcp"), &relay.Relay{})
	big := text(1 << 20)
	plainRound(t, s, "tcp", big) // which has taken a pipe
	sys.CloseIdlePipes()
	until(t, "no connection", func() bool { return s.Stats().Active == 0 })
	before := descriptors()
	const n = 20
	for range n {
		c := s.dial()
		go func() { _, _ = c.Write(big) }()
		read(t, c, big)
	}
	sys.CloseIdlePipes()
	// Four ends of each are in this process.
	until(t, "two descriptors each", func() bool { return descriptors()-before == 4*n })
}
