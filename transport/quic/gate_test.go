// This file tests what happens before a connection has proved itself: limits,
// Retry, and how much is sent to an address that may be forged.

package quic

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
)

func udpAddr(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// Places are counted in all and for each address, an IPv6 one by its /64.
func TestGateLimits(t *testing.T) {
	g := newGate()
	var tickets []*ticket
	enter := func(addr string) error {
		tk, err := g.enter(udpAddr(addr))
		if err == nil {
			tickets = append(tickets, tk)
		}
		return err
	}
	for i := range maxHandshakesPerPeer {
		if g.suspect(udpAddr("192.0.2.1:1")) != (i >= retryHandshakes) {
			t.Fatalf("after %d in all: suspect is %t", i, i < retryHandshakes)
		}
		if err := enter(net.JoinHostPort(netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 2: 0xd, 3: 0xb8, 14: byte(i >> 8), 15: byte(i)}).String(), "1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter("[2001:db8::ffff]:1"); !errors.Is(err, errNoRoom) {
		t.Errorf("one more of the network: %v", err)
	}
	if err := enter("[2001:db8:0:1::1]:1"); err != nil {
		t.Errorf("another network: %v", err)
	}
	if err := enter("[::ffff:192.0.2.1]:1"); err != nil || g.peers[peerOf(udpAddr("192.0.2.1:9"))] != 1 {
		t.Errorf("a mapped address: %v, %v", err, g.peers)
	}
	for i := len(tickets); i < maxHandshakes; i++ {
		if err := enter(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 1).String()); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter("198.51.100.1:1"); !errors.Is(err, errNoRoom) {
		t.Errorf("one more in all: %v", err)
	}
	for _, tk := range tickets {
		tk.leave()
		tk.leave() // twice counts once
	}
	if *g.all != 0 || len(g.peers) != 0 {
		t.Errorf("%d are left, of %v", *g.all, g.peers)
	}
}

// places is how many are taken.
func places(g gate) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.all
}

// retryPacket knows a Retry packet of version 1 (RFC 9000 section 17.2.5).
func retryPacket(p []byte) bool {
	return len(p) > 4 && p[0]&0xf0 == 0xf0 && [4]byte(p[1:5]) == [4]byte{0, 0, 0, 1}
}

// With many handshakes at work that do not go on, as from forged addresses,
// the next client has to prove its address, and is served; to those others at
// most three times what they sent is sent (RFC 9000 section 8.1).
func TestForgedInitials(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln, inside := r.listenInside()
	gate := inside.gate

	// Each silent client's datagrams come through; the proxy is its forged
	// address, and nothing of the answers reaches it. It comes again whenever it
	// has given up.
	const silents = 16
	silent := newDroppingProxy(t, ln.Addr(), func(toServer bool, _ []byte) bool { return !toServer })
	sctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for range silents {
		tr := r.bareTransport()
		clients.Go(func() {
			for sctx.Err() == nil {
				if _, err := tr.Dial(sctx, udpOf(t, silent.addr()), clientConfig(r), &quicgo.Config{}); err == nil {
					t.Error("a client that hears nothing was connected")
					return
				}
			}
		})
	}
	t.Cleanup(func() { // before their sockets are closed
		cancel()
		clients.Wait()
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for places(gate) < silents {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d handshakes are at work, of %d clients", places(gate), silents)
		}
	}

	// The server gives each of them up after a while, sooner than a slow machine
	// makes hundreds; so the others are places alone, which stay taken.
	for range retryHandshakes {
		tk, err := gate.enter(silent.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer tk.leave()
	}
	var proofs atomic.Int64
	p := newDroppingProxy(t, ln.Addr(), func(toServer bool, b []byte) bool {
		if !toServer && retryPacket(b) {
			proofs.Add(1)
		}
		return false
	})
	a, b := r.pair(ctx, ln, p.addr(), "")
	if _, err := a.Write([]byte("served")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if proofs.Load() == 0 {
		t.Error("the client did not have to prove its address")
	}

	// Let the server repeat itself as it will, while the clients go on too.
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); <-tick.C {
		out := silent.out.Load() // first: what comes in meanwhile may be answered
		if in := silent.in.Load(); out > 3*in {
			t.Fatalf("%d bytes came from addresses that are not proved, %d went there", in, out)
		}
	}
	if silent.out.Load() == 0 {
		t.Error("nothing was answered, so nothing was tested")
	}
}

// A client that never opens a stream keeps its place for ten seconds, and then
// its connection is closed; others are served meanwhile.
func TestSilentClientIsClosed(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	qc, err := r.foreignClient(ctx, ln.Addr(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a, b := r.pair(ctx, ln, ln.Addr(), "")
	_, _ = a.Abort(), b.Abort()
	select {
	case <-qc.Context().Done():
	case <-ctx.Done():
		t.Fatal("the connection is still there")
	}
	var app *quicgo.ApplicationError
	if err := context.Cause(qc.Context()); !errors.As(err, &app) || app.ErrorCode != codeDone {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took < anysock.DefaultHandshake/2 || took > 2*anysock.DefaultHandshake {
		t.Errorf("it took %s", took)
	}
}

// What does not fit into the queue is reset, not left waiting.
func TestFullBacklogResets(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("&backlog=1")
	h := r.byHand(ctx, t, ln)
	first := h.stream("1")
	second := h.stream("2")
	var reset *quicgo.StreamError
	if _, err := second.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.ErrorCode != codeBusy {
		t.Errorf("the second stream says %v, want a reset with code %d", err, codeBusy)
	}
	c := accept(ctx, t, ln)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Errorf("the first stream: %v", err)
	}

	// Our dialer learns of it before Dial returns.
	a, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	if c, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), "")); kindOf(err) != anysock.KindRefused {
		t.Errorf("Dial to a full backlog: %v, %v", c, err)
	}
}

// A burst of connections is more than the library's own queue takes: nobody is
// refused, and nobody has to come again.
func TestBurstOfDials(t *testing.T) {
	const dials = 100 // and the machine may be busy
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	go func() {
		for c, err := range ln.Conns(ctx) {
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_, _ = c.Disconnect(ctx)
			}()
		}
	}()
	errs := make(chan error, dials)
	for range dials {
		go func() {
			c, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), ""))
			if err == nil {
				_, err = c.Write([]byte("x"))
				_, rerr := io.ReadFull(c, make([]byte, 1))
				_, derr := c.Disconnect(ctx)
				err = errors.Join(err, rerr, derr)
			}
			errs <- err
		}()
	}
	for range dials {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A listener whose socket fails says so to who accepts, and does not hang.
func TestListenerWhoseSocketFails(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln, inside := r.listenInside()
	accepted := make(chan error, 1)
	go func() {
		_, err := ln.AcceptContext(ctx)
		accepted <- err
	}()
	if err := inside.ep.tr.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; kindOf(err) != anysock.KindTruncated || errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v (%s)", err, kindOf(err))
	}
}
