package relay_test

// Legs of a make that the root does not know: what they lack shows in the
// record, and how they fail is passed on.

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// TestEndIsHeldWithoutHalfClose: the reply matters more than the end.
func TestEndIsHeldWithoutHalfClose(t *testing.T) {
	r := &rig{t: t}
	r.client, r.inbound = connect(t, "tcp", anysock.Options{})
	near, server := net.Pipe()
	r.outbound = anysock.Wrap(near, anysock.Options{})
	r.join(relay.Options{})
	write(t, r.client, text(100))
	closeWrite(t, r.client)
	server.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(server, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the end was not held back: %v", err)
	}
	if _, err := server.Write(text(200)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	read(t, r.client, text(200))
	readEnd(t, r.client)
	rec := r.record()
	want := []relay.Downgrade{{Leg: relay.Outbound, Ending: "half-close", Became: "held"}}
	if rec.How != anysock.Graceful || rec.By != relay.Inbound || !slices.Equal(rec.Downgrades, want) {
		t.Errorf("record: %v", rec)
	}
}

// A failing connection reads some bytes and then fails.
type failing struct {
	net.Conn
	fail  error
	left  int
	ready chan struct{} // closed when it may fail
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left > 0 {
		n := copy(p, text(f.left))
		f.left -= n
		return n, nil
	}
	<-f.ready
	return 0, f.fail
}

// TestContract11CutAndLoss: a carrier that breaks, and one that goes silent,
// are a reset on the other side, and the record says which.
func TestContract11CutAndLoss(t *testing.T) {
	for _, x := range []struct {
		name string
		err  error
		how  anysock.How
	}{
		{"cut", io.ErrUnexpectedEOF, anysock.Truncated},
		{"reset", &anysock.Error{Op: anysock.OpRead, Kind: anysock.KindReset}, anysock.AbortedByPeer},
		{"lost", &anysock.Error{Op: anysock.OpRead, Kind: anysock.KindLost}, anysock.Lost},
		{"unknown", errors.New("it smells of smoke"), anysock.Truncated},
	} {
		t.Run(x.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			f := &failing{Conn: near, fail: x.err, left: 1000, ready: make(chan struct{})}
			r := &rig{t: t, outbound: anysock.Wrap(f, anysock.Options{})}
			r.client, r.inbound = connect(t, "tcp", anysock.Options{})
			r.join(relay.Options{})
			read(t, r.client, text(1000))
			close(f.ready)
			if err := readPrefix(t, r.client, nil); kindOf(err) != anysock.KindReset {
				t.Errorf("the client got %v, want a reset", err)
			}
			rec := r.record()
			if rec.How != x.how || rec.By != relay.Outbound || rec.Outbound.How != x.how || rec.Inbound.How != x.how {
				t.Errorf("record: %v", rec)
			}
		})
	}
}

// TestDeadlineOfALeg: a leg whose own deadline passes is not let go silently.
func TestDeadlineOfALeg(t *testing.T) {
	r := &rig{t: t}
	r.client, r.inbound = connect(t, "tcp", anysock.Options{})
	r.outbound, r.server = connect(t, "tcp", anysock.Options{})
	r.inbound.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	r.join(relay.Options{LastWords: -1})
	for _, x := range []*anysock.Conn{r.client, r.server} {
		if err := readPrefix(t, x, nil); kindOf(err) != anysock.KindReset {
			t.Errorf("the peer got %v, want a reset", err)
		}
	}
	rec := r.record()
	if rec.How != anysock.AbortedByUs || rec.By != relay.Inbound || !errors.Is(rec.Err, os.ErrDeadlineExceeded) {
		t.Errorf("record: %v", rec)
	}
}

// TestLegEndedBySomebodyElse: that breaks the rule, and still nothing hangs.
func TestLegEndedBySomebodyElse(t *testing.T) {
	for _, end := range []func(*anysock.Conn){
		func(c *anysock.Conn) { c.Abort() },
		func(c *anysock.Conn) { c.Close() },
	} {
		r := newRig(t, combination{"tcp", "tcp", false}, relay.Options{})
		write(t, r.client, text(10))
		read(t, r.server, text(10))
		end(r.outbound)
		if err := readPrefix(t, r.client, nil); kindOf(err) != anysock.KindReset {
			t.Errorf("the client got %v, want a reset", err)
		}
		if rec := r.record(); rec.How != anysock.AbortedByUs || rec.By != relay.Outbound {
			t.Errorf("record: %v", rec)
		}
	}
}

// TestJoinOfEndedLegs: what was over before ends the other at once.
func TestJoinOfEndedLegs(t *testing.T) {
	r := &rig{t: t}
	r.client, r.inbound = connect(t, "tcp", anysock.Options{})
	r.outbound, r.server = connect(t, "tcp", anysock.Options{})
	r.outbound.Abort()
	r.join(relay.Options{})
	if rec := r.record(); rec.How != anysock.AbortedByUs || rec.By != relay.Outbound {
		t.Errorf("record: %v", rec)
	}
	if err := readPrefix(t, r.client, nil); kindOf(err) != anysock.KindReset {
		t.Errorf("the client got %v, want a reset", err)
	}
}

// plain makes a connection one that ends in both directions at once, as a
// WebSocket does, has no abort, and tells a cut from an end.
func plain(c *anysock.Conn) *anysock.Conn {
	return anysock.Wrap(struct {
		net.Conn
		capped
	}{c, capped{}}, anysock.Options{})
}

type capped struct{}

func (capped) Caps() anysock.Caps { return anysock.CapDeadline | anysock.CapCutDetect }

// TestEndOfBothWithoutHalfClose: between two legs that end in both directions
// at once, the end of one is told to the other, and at once.
func TestEndOfBothWithoutHalfClose(t *testing.T) {
	bothWays(t, func(t *testing.T, upward bool) {
		r := &rig{t: t}
		var in, out *anysock.Conn
		r.client, in = connect(t, "tcp", anysock.Options{})
		out, r.server = connect(t, "tcp", anysock.Options{})
		r.inbound, r.outbound = plain(in), plain(out)
		r.join(relay.Options{})
		from, to, source := r.peers(upward)
		write(t, from, text(100))
		read(t, to, text(100))
		write(t, to, text(50))
		read(t, from, text(50))
		closeWrite(t, from)
		readEnd(t, to) // though it has not ended
		readEnd(t, from)
		disconnect(t, to)
		disconnect(t, from)
		rec := r.record()
		if rec.By != source || !rec.How.Complete() || len(rec.Downgrades) != 0 {
			t.Errorf("record: %v", rec)
		}
	})
}

// TestAbortBecomesACut: a leg without abort whose framing is broken off is
// told from one that closes.
func TestAbortBecomesACut(t *testing.T) {
	r := &rig{t: t}
	var in *anysock.Conn
	r.client, in = connect(t, "tcp", anysock.Options{})
	r.outbound, r.server = connect(t, "tcp", anysock.Options{})
	r.inbound = plain(in)
	r.join(relay.Options{})
	write(t, r.client, text(10))
	read(t, r.server, text(10))
	if err := r.server.Abort(); err != nil {
		t.Fatal(err)
	}
	rec := r.record()
	want := []relay.Downgrade{{Leg: relay.Inbound, Ending: "abort", Became: "cut"}}
	if rec.How != anysock.AbortedByPeer || !slices.Equal(rec.Downgrades, want) {
		t.Errorf("record: %v", rec)
	}
	if s := rec.String(); !strings.Contains(s, "inbound abort became a cut") {
		t.Error(s)
	}
}
