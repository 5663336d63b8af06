// This file holds the cases about Disconnect: contract 4, and its bounds
// (contract 9).

package socktest

import (
	"errors"
	"time"

	"github.com/anysock/anysock"
)

// ended is what Disconnect returned.
type ended struct {
	end anysock.End
	err error
}

func (k *kit) disconnect(c conn) *task[ended] {
	return start(k, "Disconnect", func() ended {
		e, err := c.Disconnect(k.ctx)
		return ended{e, err}
	})
}

// wantGraceful checks the End of a Disconnect that went well.
func (k *kit) wantGraceful(c conn, got ended, by anysock.Side, sent, received, drained int64) {
	k.Helper()
	k.check("Disconnect", got.err)
	e := got.end
	k.wantHow("Disconnect", e, anysock.Graceful)
	if e.By != by || e.Sent != sent || e.Received != received || e.Drained != drained || e.Unacked != 0 {
		k.Errorf("the ending is %q, want by %s, %d sent, %d received, %d of them drained", e, by, sent, received, drained)
	}
	if e.WriteEnded.IsZero() || e.ReadEnded.IsZero() || e.Ended.Before(e.WriteEnded) || e.Ended.Before(e.ReadEnded) {
		k.Errorf("the ending's times: we ended %v, they ended %v, over %v", e.WriteEnded, e.ReadEnded, e.Ended)
	}
	if now := k.end(c); now != e {
		k.Errorf("Disconnect says %q, End says %q", e, now)
	}
}

// disconnectFirst: we end first; what the peer still sends is drained until
// its end.
func disconnectFirst(k *kit) {
	k.both(func(x, y conn) {
		k.check("writing", write(x, 0, 1000).err)
		unread := k.send(y, 0, 500)
		d := k.disconnect(x)
		k.wantEnd("reading", readToEnd(y, 0), 1000)
		k.check("writing", unread.wait().err)
		k.check("writing after the peer's end", write(y, 500, 500).err)
		d.settle()
		if !d.running() {
			k.Fatalf("Disconnect returned before the peer's end: %v", d.val)
		}
		k.check("CloseWrite", y.CloseWrite())
		k.wantGraceful(x, d.wait(), anysock.Us, 1000, 1000, 1000)
		k.wantGraceful(y, k.disconnect(y).wait(), anysock.Peer, 1000, 1000, 0)
	})
}

// disconnectSecond: the peer has ended already; what we sent last arrives.
func disconnectSecond(k *kit) {
	k.both(func(x, y conn) {
		k.check("writing", write(y, 0, 500).err)
		k.check("CloseWrite", y.CloseWrite())
		k.wantEnd("reading", readToEnd(x, 0), 500)
		k.check("writing after the peer's end", write(x, 0, 1000).err)
		rest := k.readToEndInTime(y)
		k.wantGraceful(x, k.disconnect(x).wait(), anysock.Peer, 1000, 500, 0)
		k.wantEnd("reading", rest(), 1000)
		k.wantGraceful(y, k.disconnect(y).wait(), anysock.Us, 500, 1000, 0)
	})
}

// disconnectBothAtOnce: both sides end at the same time, with unread data.
func disconnectBothAtOnce(k *kit) {
	for range k.rounds {
		x, y := k.pair()
		k.check("writing", write(x, 0, 2000).err)
		k.check("writing", write(y, 0, 3000).err)
		dx, dy := k.disconnect(x), k.disconnect(y)
		for c, d := range map[conn]*task[ended]{x: dx, y: dy} {
			got := d.wait()
			k.check("Disconnect", got.err)
			e := k.end(c)
			k.wantHow("Disconnect", e, anysock.Graceful)
			if e.Sent+e.Received != 5000 || e.Drained != e.Received {
				k.Fatalf("the ending is %q, want 5000 bytes in all and the received ones drained", e)
			}
		}
	}
}

// disconnectBoundsAFlood: a peer that sends without end is drained up to the
// bound of bytes.
func disconnectBoundsAFlood(k *kit) {
	const bound = 64 << 10
	opts := smallBuffers
	opts.DrainBytes = bound
	k.both(func(x, y conn) {
		flooding := k.flood(y)
		k.quiet(y.Sent)
		got := k.disconnect(x).wait()
		k.check("Disconnect", got.err)
		k.wantHow("Disconnect", got.end, anysock.Delivered)
		if n := got.end.Drained; n < bound || n > bound+2*anysock.DefaultReadBuffer {
			k.Errorf("%d bytes were drained, want %d or little more", n, bound)
		}
		if err := flooding.wait().err; err == nil || errors.Is(err, errNotStopped) {
			k.Errorf("the flooding peer's Write ended with %v", err)
		}
	}, opts)
}

// disconnectBoundsSilence: a peer that does not end is waited for until the
// bound of time.
func disconnectBoundsSilence(k *kit) {
	const bound = 5 * quietTime
	k.both(func(x, y conn) {
		k.check("writing", write(x, 0, 100).err)
		rest := k.readToEndInTime(y)
		began := time.Now()
		got := k.disconnect(x).wait()
		took := time.Since(began)
		k.check("Disconnect", got.err)
		k.wantHow("Disconnect", got.end, anysock.Delivered)
		if took < bound || took > k.bound/2 {
			k.Errorf("Disconnect took %s, want %s or little more", took, bound)
		}
		k.wantEnd("reading", rest(), 100)
	}, anysock.Options{DrainTimeout: bound})
}

// readToEndInTime reads what x sent for an acknowledgement to come: beside the
// case where y's program has to read first, else when the result is asked for,
// because then it must come without anybody reading.
func (k *kit) readToEndInTime(y conn) func() moved {
	if k.AckedBy == anysock.AckedPeer {
		return start(k, "Read", func() moved { return readToEnd(y, 0) }).wait
	}
	return func() moved { return readToEnd(y, 0) }
}

// peerAcknowledgesWhatItReads: nothing is acknowledged before the peer's
// program has read it. One that reads nothing makes Disconnect end as lost,
// with everything counted, and still reads it all; one that reads, however
// late within the bound, makes it graceful.
func peerAcknowledgesWhatItReads(k *kit) {
	const bound = 10 * quietTime
	k.both(func(x, y conn) {
		k.check("writing", write(x, 0, 1000).err)
		got := k.disconnect(x).wait()
		k.wantHow("Disconnect from a peer that reads nothing", got.end, anysock.Lost)
		if !isKind(got.err, anysock.KindLost) || got.end.Unacked != 1000 {
			k.Errorf("the ending is %q with the error %v, want 1000 bytes unacknowledged and an error of kind lost", got.end, got.err)
		}
		k.wantEnd("reading afterwards", readToEnd(y, 0), 1000)
	}, anysock.Options{DrainTimeout: bound})
	k.both(func(x, y conn) {
		k.check("writing", write(x, 0, 1000).err)
		d := k.disconnect(x)
		d.settle()
		if !d.running() {
			k.Fatalf("Disconnect returned before the peer had read: %v", d.val)
		}
		k.wantEnd("reading late", readToEnd(y, 0), 1000)
		k.check("CloseWrite", y.CloseWrite())
		k.wantGraceful(x, d.wait(), anysock.Us, 1000, 0, 0)
	})
}

// disconnectCountsWhatIsUnacknowledged: to a peer that reads nothing,
// Disconnect does not claim more than what arrives.
func disconnectCountsWhatIsUnacknowledged(k *kit) {
	opts := smallBuffers
	opts.DrainTimeout = 2 * quietTime
	k.both(func(x, y conn) {
		written := k.flood(x)
		k.quiet(x.Sent)
		k.check("SetWriteDeadline", x.SetWriteDeadline(longPast))
		m := written.wait()
		got := k.disconnect(x).wait()
		e := got.end
		if e.Sent != m.n {
			k.Errorf("Write accepted %d bytes, the ending says %d", m.n, e.Sent)
		}
		arrived := readToEnd(y, 0)
		counted := k.Caps.Has(anysock.CapCloseAck)
		switch {
		case e.How.Complete():
			k.check("Disconnect", got.err)
			k.wantEnd("reading", arrived, m.n)
		case e.How != anysock.Lost || !isKind(got.err, anysock.KindLost):
			k.Errorf("the ending is %q and the error %v, want lost", e, got.err)
		case counted && (e.Unacked == 0 || !k.AckedByHop && arrived.n < e.Sent-e.Unacked):
			k.Errorf("the ending is %q, and %d bytes arrived", e, arrived.n)
		}
	}, opts)
}
