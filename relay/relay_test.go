package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/relay"
)

// A station is a Relay at work, with its records.
type station struct {
	*relay.Relay
	t       *testing.T
	address string // to dial
	ln      *anysock.Listener
	records chan relay.Record
	served  chan error
}

// newStation listens on the network and relays to target; what r lacks is
// filled in. The test's end shuts it down.
func newStation(t *testing.T, network, target string, r *relay.Relay) *station {
	t.Helper()
	return newStationAt(t, address(t, network), target, r)
}

// newStationAt is newStation for an address of one's own.
func newStationAt(t *testing.T, at, target string, r *relay.Relay) *station {
	t.Helper()
	a, err := anysock.ParseAddress(target)
	if err != nil {
		t.Fatal(err)
	}
	s := &station{Relay: r, t: t, records: make(chan relay.Record, 20_000), served: make(chan error, 1)}
	r.Target, r.Loops = a, loops
	r.OnEnd = func(rec relay.Record) { s.records <- rec }
	s.ln = listen(t, anysock.ListenConfig{}, at)
	s.address = dialable(s.ln)
	go func() { s.served <- r.Serve(context.Background(), s.ln) }()
	t.Cleanup(func() {
		done, cancel := context.WithCancel(context.Background())
		cancel()
		_, _ = r.Shutdown(done)
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (s *station) dial() *anysock.Conn {
	s.t.Helper()
	c, err := anysock.Dial(s.t.Context(), s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Abort() })
	return c
}

func (s *station) record() relay.Record {
	s.t.Helper()
	select {
	case rec := <-s.records:
		return rec
	case <-time.After(patience):
		s.t.Fatal("no record")
		return relay.Record{}
	}
}

// serve accepts from a new listener and runs handle for each connection; the
// test's end waits for all.
func serve(t *testing.T, ln *anysock.Listener, handle func(c *anysock.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := range ln.Conns(context.Background()) {
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
}

// echo sends back what comes, to the end, and ends in order.
func echo(c *anysock.Conn) {
	_, _ = c.ReadFrom(c)
	_, _ = c.Disconnect(context.Background())
}

func echoServer(t *testing.T, network string) (addr string) {
	ln := listen(t, anysock.ListenConfig{}, address(t, network))
	serve(t, ln, echo)
	return dialable(ln)
}

// freeAddress is an address of the network where nobody listens.
func freeAddress(t *testing.T, network string) string {
	ln := listen(t, anysock.ListenConfig{}, address(t, network))
	defer ln.Close()
	return dialable(ln)
}

// quick retries without keeping a test waiting.
func quick(attempts int) anysock.Dialer {
	return anysock.Dialer{Retry: anysock.Retry{Attempts: attempts, Interval: 10 * time.Millisecond}}
}

// seldom retries never, as far as a test is concerned.
func seldom() anysock.Dialer {
	return anysock.Dialer{Retry: anysock.Retry{Interval: time.Hour}}
}

func TestRelayEcho(t *testing.T) { onEngines(t, testRelayEcho) }

func testRelayEcho(t *testing.T) {
	onAll(t, func(t *testing.T, c combination) {
		s := newStation(t, c.in, echoServer(t, c.out), &relay.Relay{})
		client := s.dial()
		p := text(100_000)
		go func() {
			_, _ = client.Write(p)
			client.CloseWrite()
		}()
		read(t, client, p)
		readEnd(t, client)
		disconnect(t, client)
		rec := s.record()
		if rec.How != anysock.Graceful || rec.By != relay.Inbound || rec.Target != s.Target.String() || len(rec.Attempts) != 0 {
			t.Errorf("record: %v", rec)
		}
		times := []time.Time{rec.Accepted, rec.Connected, rec.ToOutbound.FirstByte, rec.ToInbound.FirstByte, rec.ToInbound.Ended, rec.Done}
		if !slices.IsSortedFunc(times, time.Time.Compare) {
			t.Errorf("times out of order: %v", times)
		}
		until(t, "the count", func() bool { return s.Stats().Active == 0 })
		want := relay.Stats{Accepted: 1, Graceful: 1, ToOutbound: 100_000, ToInbound: 100_000}
		if st := s.Stats(); st != want {
			t.Errorf("stats: %+v", st)
		}
	})
}

// TestRefusedTarget: the client waits for the retries, and then learns that
// there is no target: by a reset before any byte, or by a close where there is
// no reset.
func TestRefusedTarget(t *testing.T) { onEngines(t, testRefusedTarget) }

func testRefusedTarget(t *testing.T) {
	onAll(t, func(t *testing.T, c combination) {
		s := newStation(t, c.in, freeAddress(t, c.out), &relay.Relay{Dialer: quick(0)})
		client := s.dial()
		err := readPrefix(t, client, nil)
		rec := s.record()
		if rec.How != anysock.Refused || rec.By != relay.Outbound || kindOf(rec.Err) != anysock.KindRefused {
			t.Errorf("record: %v", rec)
		}
		if rec.Inbound.How != anysock.Refused || rec.Outbound.How != anysock.NotEnded || !rec.Connected.IsZero() {
			t.Errorf("legs: %+v %+v", rec.Inbound, rec.Outbound)
		}
		if c.out != "mem" {
			if len(rec.Attempts) != relay.DefaultAttempts {
				t.Errorf("attempts: %+v", rec.Attempts)
			}
			for i, a := range rec.Attempts {
				if a.Round != i+1 || a.Error == "" || a.Started < 0.010*float64(i) {
					t.Errorf("attempt %d: %+v", i, a)
				}
			}
		}
		if client.Caps().Has(anysock.CapAbort) {
			if kindOf(err) != anysock.KindReset || len(rec.Downgrades) != 0 {
				t.Errorf("the client got %v; %v", err, rec)
			}
		} else if want := (relay.Downgrade{Leg: relay.Inbound, Ending: "refusal", Became: "close"}); !slices.Equal(rec.Downgrades, []relay.Downgrade{want}) {
			t.Errorf("downgrades: %v", rec)
		}
		until(t, "the count", func() bool { return s.Stats().Active == 0 })
		if st := s.Stats(); st.Refused != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// TestTargetAppears: a target that starts between two attempts is reached, and
// what the client had sent meanwhile arrives.
func TestTargetAppears(t *testing.T) { onEngines(t, testTargetAppears) }

func testTargetAppears(t *testing.T) {
	for _, c := range combinations[:4] {
		t.Run(c.String(), func(t *testing.T) {
			target := freeAddress(t, c.out)
			failed, up := make(chan struct{}), make(chan struct{})
			var once sync.Once
			d := quick(10)
			d.OnAttempt = func(anysock.Attempt) {
				once.Do(func() { close(failed) })
				<-up
			}
			s := newStation(t, c.in, target, &relay.Relay{Dialer: d})
			client := s.dial()
			write(t, client, text(1000))
			<-failed
			serve(t, listen(t, anysock.ListenConfig{}, target), echo)
			close(up)
			read(t, client, text(1000))
			disconnect(t, client)
			rec := s.record()
			if rec.How != anysock.Graceful || len(rec.Attempts) != 1 || rec.Attempts[0].Error == "" {
				t.Errorf("record: %v", rec)
			}
		})
	}
}

// TestClientLeavesDuringRetry: nobody dials for a client that is gone.
func TestClientLeavesDuringRetry(t *testing.T) { onEngines(t, testClientLeavesDuringRetry) }

func testClientLeavesDuringRetry(t *testing.T) {
	needsBackend(t)
	for _, in := range []string{"tcp", "unix", "mem"} {
		t.Run(in, func(t *testing.T) {
			failed := make(chan struct{}, 10)
			d := seldom()
			d.OnAttempt = func(anysock.Attempt) { failed <- struct{}{} }
			s := newStation(t, in, freeAddress(t, "tcp"), &relay.Relay{Dialer: d})
			client := s.dial()
			<-failed
			client.Abort() // a unix client closes
			rec := s.record()
			if !errors.Is(rec.Err, relay.ErrClientLeft) || rec.By != relay.Inbound || len(rec.Attempts) != 1 {
				t.Errorf("record: %v", rec)
			}
			want := anysock.AbortedByPeer
			if in == "unix" {
				want = anysock.Graceful
			}
			if rec.How != want || rec.Inbound.How != want {
				t.Errorf("ended %v, want %v: %v", rec.How, want, rec)
			}
		})
	}
}

// TestClientThatHasSentAllIsServed: a client that sends and closes while the
// target is down has not gone away: its bytes are delivered.
func TestClientThatHasSentAllIsServed(t *testing.T) { onEngines(t, testClientThatHasSentAllIsServed) }

func testClientThatHasSentAllIsServed(t *testing.T) {
	for _, in := range []string{"tcp", "unix"} {
		t.Run(in, func(t *testing.T) {
			target := freeAddress(t, "tcp")
			failed := make(chan struct{}, 100)
			d := quick(-1)
			d.OnAttempt = func(anysock.Attempt) {
				select {
				case failed <- struct{}{}:
				default:
				}
			}
			s := newStation(t, in, target, &relay.Relay{Dialer: d})
			client := s.dial()
			write(t, client, text(1000))
			client.Close()
			<-failed
			<-failed
			got := make(chan []byte, 1)
			serve(t, listen(t, anysock.ListenConfig{}, target), func(c *anysock.Conn) {
				p, err := io.ReadAll(c)
				if err != nil {
					t.Error(err)
				}
				_, _ = c.Disconnect(context.Background())
				got <- p
			})
			if p := <-got; string(p) != string(text(1000)) {
				t.Errorf("%d of 1000 bytes arrived", len(p))
			}
			if rec := s.record(); rec.How != anysock.Graceful || rec.By != relay.Inbound {
				t.Errorf("record: %v", rec)
			}
		})
	}
}

// TestMaxConns: further connections wait in the backlog.
func TestMaxConns(t *testing.T) { onEngines(t, testMaxConns) }

func testMaxConns(t *testing.T) {
	s := newStation(t, "tcp", echoServer(t, "tcp"), &relay.Relay{MaxConns: 2})
	var open []*anysock.Conn
	for range 2 {
		c := s.dial()
		write(t, c, text(10))
		read(t, c, text(10))
		open = append(open, c)
	}
	third := s.dial()
	write(t, third, text(20))
	third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); n != 0 || kindOf(err) != anysock.KindTimeout {
		t.Errorf("a third connection got %d bytes, %v", n, err)
	}
	if st := s.Stats(); st.Accepted != 2 || st.Active != 2 || st.ToOutbound != 20 || st.ToInbound != 20 {
		t.Errorf("stats: %+v", st)
	}
	disconnect(t, open[0])
	read(t, third, text(20))
}

// TestShutdownFinishes: Shutdown serves those who wait in the queue, turns
// newcomers away, and waits for all to finish.
func TestShutdownFinishes(t *testing.T) { onEngines(t, testShutdownFinishes) }

func testShutdownFinishes(t *testing.T) {
	for _, in := range []string{"tcp", "unix", "mem"} {
		t.Run(in, func(t *testing.T) {
			s := newStation(t, in, echoServer(t, "tcp"), &relay.Relay{MaxConns: 1})
			first := s.dial()
			write(t, first, text(10))
			read(t, first, text(10))
			var queued []*anysock.Conn
			for range 3 {
				c := s.dial()
				write(t, c, text(50_000))
				queued = append(queued, c)
			}
			type result struct {
				d   relay.Drained
				err error
			}
			down := make(chan result, 1)
			go func() {
				d, err := s.Shutdown(context.Background())
				down <- result{d, err}
			}()
			for _, c := range queued {
				read(t, c, text(50_000))
			}
			// One who comes before the listener is closed is reset, or is the last
			// of the queue and served.
			late := 0
			if c, err := anysock.Dial(t.Context(), s.address); err == nil {
				_ = c.CloseWrite()
				if _, err = c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
					late = 1
				}
				c.Close()
			}
			select {
			case r := <-down:
				t.Fatalf("Shutdown returned %+v while connections are at work", r)
			default:
			}
			for _, c := range append(queued, first) {
				disconnect(t, c)
			}
			r := <-down
			if r.err != nil || r.d != (relay.Drained{Queued: 3 + late, Finished: 4 + late}) {
				t.Errorf("drained: %+v", r)
			}
			for range 4 + late {
				if rec := s.record(); rec.How != anysock.Graceful {
					t.Errorf("record: %v", rec)
				}
			}
			if err := s.Serve(t.Context(), s.ln); kindOf(err) != anysock.KindClosed {
				t.Errorf("Serve after Shutdown: %v", err)
			}
			if d, err := s.Shutdown(t.Context()); err != nil || d != r.d {
				t.Errorf("second Shutdown: %+v, %v", d, err)
			}
		})
	}
}

// TestShutdownCuts: at the deadline what still runs, or still dials, is reset
// on both sides.
func TestShutdownCuts(t *testing.T) { onEngines(t, testShutdownCuts) }

func testShutdownCuts(t *testing.T) {
	byCtx := func(s *station) (relay.Drained, error) {
		ctx, cancel := context.WithTimeout(s.t.Context(), 50*time.Millisecond)
		defer cancel()
		return s.Shutdown(ctx)
	}
	bySetting := func(s *station) (relay.Drained, error) { return s.Shutdown(s.t.Context()) }
	for _, x := range []struct {
		name     string
		drain    time.Duration
		shutdown func(*station) (relay.Drained, error)
	}{{"by the context", 0, byCtx}, {"by Drain", 50 * time.Millisecond, bySetting}, {"at once", -1, bySetting}} {
		t.Run(x.name, func(t *testing.T) {
			seen := make(chan error, 1)
			ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
			serve(t, ln, func(c *anysock.Conn) {
				_, err := io.Copy(c, c)
				c.Abort()
				seen <- err
			})
			s := newStation(t, "tcp", dialable(ln), &relay.Relay{Drain: x.drain})
			c := s.dial()
			write(t, c, text(10))
			read(t, c, text(10))
			d, err := x.shutdown(s)
			if err != nil || d != (relay.Drained{Cut: 1}) {
				t.Errorf("drained: %+v, %v", d, err)
			}
			if err := readPrefix(t, c, nil); kindOf(err) != anysock.KindReset {
				t.Errorf("the client got %v, want a reset", err)
			}
			if err := <-seen; kindOf(err) != anysock.KindReset {
				t.Errorf("the server got %v, want a reset", err)
			}
			rec := s.record()
			if rec.How != anysock.AbortedByUs || rec.By != relay.Self || !errors.Is(rec.Err, relay.ErrDrainDeadline) {
				t.Errorf("record: %v", rec)
			}
		})
	}
	t.Run("while dialing", func(t *testing.T) {
		failed := make(chan struct{}, 1)
		d := seldom()
		d.OnAttempt = func(anysock.Attempt) { failed <- struct{}{} }
		s := newStation(t, "tcp", freeAddress(t, "tcp"), &relay.Relay{Dialer: d, Drain: -1})
		c := s.dial()
		<-failed
		if d, err := s.Shutdown(t.Context()); err != nil || d != (relay.Drained{Cut: 1}) {
			t.Errorf("drained: %+v, %v", d, err)
		}
		if err := readPrefix(t, c, nil); kindOf(err) != anysock.KindReset {
			t.Errorf("the client got %v, want a reset", err)
		}
		if rec := s.record(); rec.How != anysock.AbortedByUs || !errors.Is(rec.Err, relay.ErrDrainDeadline) || len(rec.Attempts) != 1 {
			t.Errorf("record: %v", rec)
		}
	})
}

// TestServeContext: the end of its context ends accepting, not connections;
// and Shutdown still empties the queue.
func TestServeContext(t *testing.T) { onEngines(t, testServeContext) }

func testServeContext(t *testing.T) {
	a, err := anysock.ParseAddress(echoServer(t, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, 1} {
		r := &relay.Relay{Target: a, MaxConns: limit, Loops: loops}
		ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- r.Serve(ctx, ln) }()
		c, err := anysock.Dial(t.Context(), dialable(ln))
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, text(10))
		read(t, c, text(10))
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		late, err := anysock.Dial(t.Context(), dialable(ln))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = late.Write(text(20))
			write(t, c, text(30))
			read(t, c, text(30))
			read(t, late, text(20))
			_, _ = c.Disconnect(context.Background())
			_, _ = late.Disconnect(context.Background())
		}()
		if d, err := r.Shutdown(t.Context()); err != nil || d != (relay.Drained{Queued: 1, Finished: 2}) {
			t.Errorf("drained: %+v, %v", d, err)
		}
	}
}

// TestServeBadTarget: what can never be dialed is said before anybody comes.
func TestServeBadTarget(t *testing.T) {
	var r relay.Relay
	ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
	if err := r.Serve(t.Context(), ln); kindOf(err) != anysock.KindAddress {
		t.Errorf("Serve without a target: %v", err)
	}
	if d, err := r.Shutdown(t.Context()); err != nil || d != (relay.Drained{}) {
		t.Errorf("drained: %+v, %v", d, err)
	}
}

// TestNoDescriptorsForDial: EMFILE is retried like anything that may pass, and
// refused when it does not.
func TestNoDescriptorsForDial(t *testing.T) { onEngines(t, testNoDescriptorsForDial) }

func testNoDescriptorsForDial(t *testing.T) {
	for _, failures := range []int64{2, 1000} {
		target := echoServer(t, "tcp")
		s := newStation(t, "tcp", target, &relay.Relay{Dialer: quick(3)})
		client := s.dial()
		until(t, "the first connection", func() bool { return s.Stats().Accepted == 1 })
		write(t, client, text(10))
		read(t, client, text(10))

		var n atomic.Int64
		restore := sys.Inject(func(c sys.Call, _ int) error {
			if c == sys.CallSocket && n.Add(1) <= failures {
				return syscall.EMFILE
			}
			return nil
		})
		// Package net does not pass the switch.
		nc, err := net.Dial("tcp", s.ln.Addr().String())
		if err != nil {
			restore()
			t.Fatal(err)
		}
		second := anysock.Wrap(nc, anysock.Options{})
		write(t, second, text(20))
		if failures < 3 {
			read(t, second, text(20))
			disconnect(t, second)
			if rec := s.record(); rec.How != anysock.Graceful || len(rec.Attempts) != int(failures) {
				t.Errorf("record: %v", rec)
			}
		} else {
			if err := readPrefix(t, second, nil); kindOf(err) != anysock.KindReset {
				t.Errorf("the client got %v, want a reset", err)
			}
			if rec := s.record(); rec.How != anysock.Refused || kindOf(rec.Err) != anysock.KindLimit || len(rec.Attempts) != 3 {
				t.Errorf("record: %v", rec)
			}
		}
		second.Abort()
		restore()
		// Nobody else is the worse for it.
		write(t, client, text(30))
		read(t, client, text(30))
		disconnect(t, client)
	}
}

// TestPlainClientAndServer: peers of package net see the same endings.
func TestPlainClientAndServer(t *testing.T) { onEngines(t, testPlainClientAndServer) }

func testPlainClientAndServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p := make([]byte, 5)
			_, _ = io.ReadFull(c, p)
			_, _ = c.Write(text(5000))
			if string(p) == "reset" {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
	}()
	s := newStation(t, "tcp6", "tcp://"+ln.Addr().String(), &relay.Relay{})
	for _, how := range []string{"close", "reset"} {
		c, err := net.Dial("tcp", s.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, how)
		got, err := io.ReadAll(c)
		c.Close()
		if how == "close" && (err != nil || len(got) != 5000) || how == "reset" && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes, %v", how, len(got), err)
		}
		rec := s.record()
		if how == "reset" && (rec.How != anysock.AbortedByPeer || rec.By != relay.Outbound) || how == "close" && rec.How != anysock.Graceful {
			t.Errorf("record: %v", rec)
		}
	}
}
