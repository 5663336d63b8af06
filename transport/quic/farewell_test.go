// This file tests that the close of a connection arrives though packets are
// lost.

package quic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
)

// quietly waits until nothing has passed the proxy for a while: what comes then
// is what the caller makes.
func quietly(ctx context.Context, t *testing.T, p *udpProxy) {
	t.Helper()
	const quiet = 20
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	before := p.in.Load() + p.out.Load()
	for still := 0; still < quiet; still++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the connection is never quiet")
		}
		if now := p.in.Load() + p.out.Load(); now != before {
			before, still = now, 0
		}
	}
}

// A peer that only reads hears of an abort whose packet was lost, and calls it
// what it is.
func TestLostAbortIsRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, who := range []string{"client", "server"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			ctx, ln := bound(t), r.listen("")
			var lose atomic.Int64 // so many packets from who aborts
			p := newDroppingProxy(t, ln.Addr(), func(toServer bool, _ []byte) bool {
				return toServer == (who == "client") && lose.Add(-1) >= 0
			})
			a, b := r.pair(ctx, ln, p.addr(), "")
			if who == "server" {
				a, b = b, a
			}
			quietly(ctx, t, p)
			lose.Store(closeRepeats) // all but the last
			if err := a.Abort(); err != nil {
				t.Fatal(err)
			}
			if _, err := b.ReadContext(ctx, make([]byte, 1)); kindOf(err) != anysock.KindReset {
				t.Errorf("the read says %v, want a reset", err)
			}
			if left := lose.Load(); left >= 0 {
				t.Errorf("%d packets too few were sent", left+1)
			}
		})
	}
}

// The packet that is repeated is the last to that address, and others cost
// nothing.
func TestFarewells(t *testing.T) {
	a, b := udpAddr("192.0.2.1:1"), udpAddr("192.0.2.2:1")
	var f farewells
	f.note([]byte("early"), nil, a)
	f.expect(addrPort(a))
	f.note([]byte("data"), nil, a)
	buf, oob := []byte("close"), []byte("oob")
	f.note(buf, oob, a)
	f.note([]byte("another"), nil, b)
	copy(buf, "spoil")
	copy(oob, "xxx")
	f.expect(addrPort(a)) // of another connection there
	if p, oob := f.take(addrPort(a)); !bytes.Equal(p, []byte("close")) || !bytes.Equal(oob, []byte("oob")) {
		t.Errorf("taken was %q, %q", p, oob)
	}
	f.note([]byte("later"), nil, a)
	if p, _ := f.take(addrPort(a)); !bytes.Equal(p, []byte("later")) {
		t.Errorf("the other's is %q", p)
	}
	f.note([]byte("too late"), nil, a)
	if len(f.to) != 0 || f.closes.Load() != 0 {
		t.Errorf("left are %v, %d", f.to, f.closes.Load())
	}
	if addrPort(&net.UnixAddr{}) != (netip.AddrPort{}) {
		t.Error("a Unix socket has a port")
	}
}

// The pause is RFC 9002's probe timeout, and bounded.
func TestProbeTimeout(t *testing.T) {
	for _, c := range []struct{ rtt, deviation, want time.Duration }{
		{100 * time.Millisecond, 10 * time.Millisecond, 165 * time.Millisecond},
		{time.Millisecond, 0, 27 * time.Millisecond},
		{3 * time.Second, time.Second, maxRepeatPause},
	} {
		got := probeTimeout(quicgo.ConnectionStats{SmoothedRTT: c.rtt, MeanDeviation: c.deviation})
		if got != c.want {
			t.Errorf("of %s and %s it is %s, want %s", c.rtt, c.deviation, got, c.want)
		}
	}
}

// The one who closes the connection has everything; the other's knowledge of
// that is lost for longer than a Disconnect waits for it. It comes later.
func TestLostConfirmationComesLater(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), bound(t)
	ln := r.listen("&draintimeout=20s")
	var lose atomic.Bool
	p := newDroppingProxy(t, ln.Addr(), func(toServer bool, _ []byte) bool { return toServer && lose.Load() })
	a, b := r.pair(ctx, ln, p.addr(), "")
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b); err != nil {
		t.Fatal(err)
	}
	quietly(ctx, t, p)
	lose.Store(true)
	if _, err := b.Write([]byte("reply")); err != nil {
		t.Fatal(err)
	}
	type ending struct {
		anysock.End
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		e, err := b.Disconnect(ctx)
		ended <- ending{e, err}
	}()
	if got, err := io.ReadAll(a); err != nil || string(got) != "reply" {
		t.Fatalf("%q, %v", got, err)
	}
	if e, err := a.Disconnect(ctx); err != nil || e.How != anysock.Graceful {
		t.Fatalf("the client: %v, %v", e, err)
	}
	later := time.NewTimer(2 * closingPeriod) // than a close and its repeats would have come
	defer later.Stop()
	<-later.C
	lose.Store(false)
	if e := <-ended; e.err != nil || e.How != anysock.Graceful || e.AckedBy != anysock.AckedKernel {
		t.Errorf("the server: %v, %v", e.End, e.err)
	}
	quietly(ctx, t, p) // the last word is on its way to the client
}

// A stream that comes when the time for it has just run out keeps its
// connection.
func TestStreamInTheLastMoment(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln, inside := r.listenInside()
	h := r.byHand(ctx, t, ln)
	h.stream("1")
	c := accept(ctx, t, ln)
	var se *session
	inside.mu.Lock()
	for s := range inside.sessions {
		se = s
	}
	inside.mu.Unlock()
	se.mu.Lock()
	se.waitIdle(time.Nanosecond)
	ran := time.NewTimer(50 * time.Millisecond) // so has the other
	<-ran.C
	se.stopIdle()
	se.mu.Unlock()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the read says %v", err)
	}

	// And one that comes a moment later is not taken in.
	se.mu.Lock()
	se.leaving = true
	se.mu.Unlock()
	h.stream("2")
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if c, err := ln.AcceptContext(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept: %v, %v", c, err)
	}
}
