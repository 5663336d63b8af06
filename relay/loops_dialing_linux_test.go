//go:build linux && !anysock_portable

package relay_test

// What a Relay on event loops does before it has a target. The tests of both
// engines are in relay_test.go; there OnAttempt, which a loop does not call,
// has some of them served by goroutines.

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// accepted waits until the relay has accepted n connections.
func (s *station) accepted(n int64) {
	s.t.Helper()
	until(s.t, "an accepted connection", func() bool { return s.Stats().Accepted == n })
}

// TestLoopsTargetAppears: what the client had sent meanwhile arrives.
func TestLoopsTargetAppears(t *testing.T) {
	for _, c := range combinations[:4] {
		t.Run(c.String(), func(t *testing.T) {
			target := freeAddress(t, c.out)
			s := newStation(t, c.in, target, &relay.Relay{Dialer: quick(-1)})
			client := s.dial()
			write(t, client, text(100_000))
			s.accepted(1)
			linger(50 * time.Millisecond) // some rounds
			serve(t, listen(t, anysock.ListenConfig{}, target), echo)
			read(t, client, text(100_000))
			disconnect(t, client)
			rec := s.record()
			if rec.How != anysock.Graceful || len(rec.Attempts) == 0 {
				t.Errorf("record: %v", rec)
			}
			for i, a := range rec.Attempts {
				// Rounds are paced by their start.
				if a.Round != i+1 || a.Error == "" || a.Started < 0.010*float64(i) {
					t.Errorf("attempt %d: %+v", i, a)
				}
			}
		})
	}
}

// TestLoopsClientLeaves: nobody dials for a client that is gone, at once or
// between two tries.
func TestLoopsClientLeaves(t *testing.T) {
	for _, in := range []string{"tcp", "unix"} {
		for _, wait := range []time.Duration{0, 100 * time.Millisecond} {
			s := newStation(t, in, freeAddress(t, "tcp"), &relay.Relay{Dialer: seldom()})
			client := s.dial()
			s.accepted(1)
			linger(wait)
			client.Abort() // a unix client closes
			rec := s.record()
			if !errors.Is(rec.Err, relay.ErrClientLeft) || rec.By != relay.Inbound || len(rec.Attempts) != 1 {
				t.Errorf("%s: %v", in, rec)
			}
			want := anysock.AbortedByPeer
			if in == "unix" {
				want = anysock.Graceful
			}
			if rec.How != want || rec.Inbound.How != want || rec.Inbound.EndedBy != anysock.Peer {
				t.Errorf("%s: ended %v, want %v: %+v", in, rec.How, want, rec.Inbound)
			}
		}
	}
}

// TestLoopsClientThatHasSentAll: a client that sends and closes while the
// target is down has not gone away.
func TestLoopsClientThatHasSentAll(t *testing.T) {
	for _, in := range []string{"tcp", "unix"} {
		for _, size := range []int{1, 1000, 100_000} {
			target := freeAddress(t, "tcp")
			s := newStation(t, in, target, &relay.Relay{Dialer: quick(-1)})
			client := s.dial()
			write(t, client, text(size))
			client.Close()
			s.accepted(1)
			linger(100 * time.Millisecond)
			got := make(chan int, 1)
			serve(t, listen(t, anysock.ListenConfig{}, target), func(c *anysock.Conn) {
				p, err := io.ReadAll(c)
				if err != nil || string(p) != string(text(size)) {
					t.Errorf("%d of %d bytes, %v", len(p), size, err)
				}
				_, _ = c.Disconnect(context.Background())
				got <- len(p)
			})
			<-got
			if rec := s.record(); rec.How != anysock.Graceful || rec.By != relay.Inbound || rec.ToOutbound.Bytes != int64(size) {
				t.Errorf("record: %v", rec)
			}
		}
	}
}

// TestLoopsCutWhileDialing: what dials is reset at the drain deadline.
func TestLoopsCutWhileDialing(t *testing.T) {
	s := newStation(t, "tcp", freeAddress(t, "tcp"), &relay.Relay{Dialer: seldom(), Drain: -1})
	c := s.dial()
	s.accepted(1)
	if d, err := s.Shutdown(t.Context()); err != nil || d != (relay.Drained{Cut: 1}) {
		t.Errorf("drained: %+v, %v", d, err)
	}
	if err := readPrefix(t, c, nil); kindOf(err) != anysock.KindReset {
		t.Errorf("the client got %v, want a reset", err)
	}
	if rec := s.record(); rec.How != anysock.AbortedByUs || rec.By != relay.Self || !errors.Is(rec.Err, relay.ErrDrainDeadline) || len(rec.Attempts) != 1 {
		t.Errorf("record: %v", rec)
	}
}

// TestLoopsManyAddresses: the next address is tried when the first is refused,
// of a name and of the wildcard.
func TestLoopsManyAddresses(t *testing.T) {
	ln := listen(t, anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	serve(t, ln, echo)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"", "localhost"} {
		s := newStation(t, "tcp", "tcp://"+host+":"+port, &relay.Relay{})
		for range 20 {
			client := s.dial()
			write(t, client, text(5000))
			read(t, client, text(5000))
			disconnect(t, client)
			rec := s.record()
			if rec.How != anysock.Graceful || rec.Outbound.Peer != ln.Addr().String() || len(rec.Attempts) > 1 {
				t.Errorf("host %q: %v, %+v", host, rec, rec.Attempts)
			}
			if host == "" && len(rec.Attempts) != 1 {
				t.Errorf("host %q: the first address was not tried: %v", host, rec)
			}
		}
	}
}

// TestLoopsManyNames: however many connections wait, they learn the name's
// fate.
func TestLoopsManyNames(t *testing.T) {
	asked := make(chan struct{}, 1000)
	d := anysock.Dialer{Retry: anysock.Retry{Attempts: 1}, Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			asked <- struct{}{}
			return nil, os.ErrPermission
		},
	}}
	s := newStation(t, "tcp", "tcp://relay-test.invalid:80", &relay.Relay{Dialer: d})
	var clients []*anysock.Conn
	for range 20 {
		c, err := anysock.Dial(t.Context(), s.address)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) { // which can come before it saw that it was connected
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	for _, c := range clients {
		if c != nil {
			if err := readPrefix(t, c, nil); kindOf(err) != anysock.KindReset {
				t.Errorf("the client got %v, want a reset", err)
			}
			c.Abort()
		}
		var e *anysock.Error
		rec := s.record()
		if rec.How != anysock.Refused || rec.By != relay.Outbound || !errors.As(rec.Err, &e) || e.Op != anysock.OpResolve {
			t.Errorf("record: %v", rec)
		}
	}
	if len(asked) == 0 {
		t.Error("the resolver was not asked")
	}
}

// TestLoopsAttemptTimeout: a target that does not answer is given up in time,
// and what the client sent first arrives at one that answers late.
func TestLoopsAttemptTimeout(t *testing.T) {
	ln := listen(t, anysock.ListenConfig{Backlog: 1}, "tcp://127.0.0.1:0")
	full := anysock.Dialer{AttemptTimeout: 300 * time.Millisecond}
	var queued []*anysock.Conn
	for { // until the queue is full, and the kernel drops what comes
		c, err := full.Dial(t.Context(), dialable(ln))
		if err != nil {
			break
		}
		t.Cleanup(func() { c.Abort() })
		queued = append(queued, c)
	}
	d := anysock.Dialer{AttemptTimeout: 100 * time.Millisecond, Retry: anysock.Retry{Attempts: 2, Interval: 10 * time.Millisecond}}
	s := newStation(t, "tcp", dialable(ln), &relay.Relay{Dialer: d})
	client := s.dial()
	if err := readPrefix(t, client, nil); kindOf(err) != anysock.KindReset {
		t.Errorf("the client got %v, want a reset", err)
	}
	rec := s.record()
	if rec.How != anysock.Refused || kindOf(rec.Err) != anysock.KindTimeout || len(rec.Attempts) != 2 {
		t.Errorf("record: %v", rec)
	}
	for _, a := range rec.Attempts {
		if a.Took < 0.1 {
			t.Errorf("gave up after %v s", a.Took)
		}
	}
	patient := newStation(t, "tcp", dialable(ln), &relay.Relay{})
	client = patient.dial()
	write(t, client, text(3000))
	patient.accepted(1)
	linger(50 * time.Millisecond)
	serve(t, ln, echo)
	read(t, client, text(3000))
	// What takes its time has all options from the beginning.
	mine := socketsTo(t, ln.Addr().String())
	for _, c := range queued {
		delete(mine, c.LocalAddr().String())
	}
	fd := only(t, mine)
	if option(t, fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY) == 0 || option(t, fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) == 0 {
		t.Error("options are missing")
	}
	disconnect(t, client)
	if rec := patient.record(); rec.How != anysock.Graceful || len(rec.Attempts) != 0 {
		t.Errorf("record: %v", rec)
	}
	for _, c := range queued {
		c.Abort()
	}
}

// TestLoopsFullUnixQueue: a Unix listener whose queue is full is tried again
// within the attempt.
func TestLoopsFullUnixQueue(t *testing.T) {
	ln := listen(t, anysock.ListenConfig{Backlog: 1}, address(t, "unix"))
	full := anysock.Dialer{AttemptTimeout: 50 * time.Millisecond}
	var queued []*anysock.Conn
	for {
		c, err := full.Dial(t.Context(), dialable(ln))
		if err != nil {
			break
		}
		t.Cleanup(func() { c.Abort() })
		queued = append(queued, c)
	}
	d := anysock.Dialer{AttemptTimeout: 50 * time.Millisecond, Retry: anysock.Retry{Attempts: 1}}
	s := newStation(t, "tcp", dialable(ln), &relay.Relay{Dialer: d})
	s.dial()
	if rec := s.record(); rec.How != anysock.Refused || kindOf(rec.Err) != anysock.KindTimeout || len(rec.Attempts) != 1 {
		t.Errorf("record: %v", rec)
	}
	patient := newStation(t, "unix", dialable(ln), &relay.Relay{})
	client := patient.dial()
	write(t, client, text(3000))
	patient.accepted(1)
	linger(50 * time.Millisecond)
	serve(t, ln, echo)
	read(t, client, text(3000))
	disconnect(t, client)
	if rec := patient.record(); rec.How != anysock.Graceful || len(rec.Attempts) != 0 {
		t.Errorf("record: %v", rec)
	}
	for _, c := range queued {
		c.Abort()
	}
}

// TestLoopsLocal: the Dialer's local address and options are those of the
// outbound sockets.
func TestLoopsLocal(t *testing.T) {
	ln := listen(t, anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	s := newStation(t, "tcp", dialable(ln)+"?rcvbuf=8192", &relay.Relay{Dialer: anysock.Dialer{Local: "127.0.0.9:0"}})
	client := s.dial()
	server, err := ln.AcceptContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _ := net.SplitHostPort(server.RemoteAddr().String()); got != "127.0.0.9" {
		t.Errorf("the server sees %s", got)
	}
	client.Abort()
	disconnectOrReset(t, server)
	rec := s.record()
	if got, _, _ := net.SplitHostPort(rec.Outbound.Local); got != "127.0.0.9" || rec.Outbound.Peer != ln.Addr().String() || rec.Inbound.Peer != client.LocalAddr().String() || rec.Inbound.Local != s.ln.Addr().String() {
		t.Errorf("addresses: %+v, %+v", rec.Inbound, rec.Outbound)
	}
}

// disconnectOrReset ends c, however its peer ends.
func disconnectOrReset(t *testing.T, c *anysock.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, _ = c.Disconnect(ctx)
	c.Abort()
}
