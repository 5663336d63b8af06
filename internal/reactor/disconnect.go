package reactor

import (
	"errors"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// Bounds bounds a Disconnect.
type Bounds struct {
	// DrainBytes is how much of what the peer still sends is discarded;
	// negative is nothing.
	DrainBytes int64
	// Patience is how long the peer's end, and each progress of
	// acknowledgements, is waited for.
	Patience time.Duration
	// Total is how long it may take in all; 0 is no such bound.
	Total time.Duration
}

// An Outcome is what a Disconnect found out.
type Outcome struct {
	TheirEnd bool      // the peer's end was seen
	EndSeen  time.Time // when, if it was during the Disconnect
	Acked    bool      // all of ours is acknowledged, or nobody could say (a Unix socket, AcksKnown)
	Unacked  int       // bytes that are not, without our end
	Drained  int64     // bytes that came in and were discarded
	Err      error     // the connection failed: an errno
}

// A disconnect is a connection on its way out: our end goes out, what comes in
// is discarded until theirs has come, and everything of ours is to be
// acknowledged (see anysock.Conn.Disconnect).
type disconnect struct {
	loop    *Loop
	n       *Node
	owner   Source // before
	counted bool   // Unacked tells what is under way
	b       Bounds
	done    func(Outcome)
	o       Outcome
	deaf    bool // reads no more: the bounds of what is discarded are reached
	owed    int  // SIOCOUTQ at the last look
	until   time.Duration
	closeBy time.Duration // 0: never
}

// Disconnect ends the connection of n in order: nothing is unsent on our side,
// and ended says whether our end was sent, theirEnd whether theirs was
// received. When done is called the descriptor is closed. That may be before
// Disconnect returns. Until then Abandon ends it otherwise.
func (l *Loop) Disconnect(n *Node, tcp, ended, theirEnd bool, b Bounds, done func(Outcome)) {
	o := Outcome{TheirEnd: theirEnd}
	if !ended {
		// Fails where the connection has failed, which reading will tell, or
		// where the peer reset it after its end, which the socket's error does.
		if err := l.CloseWrite(n); err != nil && !errors.Is(err, syscall.ENOTCONN) {
			o.Err = err
		}
	}
	d := &disconnect{loop: l, n: n, owner: n.Source, counted: tcp || !AcksKnown, b: b, done: done, o: o}
	n.Source = d
	if b.Total > 0 {
		d.closeBy = l.now + b.Total
	}
	d.until = l.now + b.Patience
	d.deaf = theirEnd || b.DrainBytes < 0
	if d.counted {
		d.owed, _ = l.Unacked(n)
	}
	if d.settled() {
		return
	}
	// The acknowledgement of our end wakes an edge-triggered wait, that of
	// data does not (docs/notes/ack-events).
	n.want = 0 // what is there already is to be told, whatever was asked for before
	if err := l.Want(n, sys.EventIn|sys.EventOut|sys.EventPeerEnd|sys.EventEdge); err != nil {
		d.o.Err = err
		d.finish()
		return
	}
	d.arm()
}

func (d *disconnect) arm() {
	wait := d.until
	if d.closeBy > 0 {
		wait = min(wait, d.closeBy)
	}
	d.loop.SetTimer(d.n, wait-d.loop.now)
}

// settled looks whether all is done, and finishes then.
func (d *disconnect) settled() bool {
	if d.o.Err == nil {
		if !d.deaf {
			return false
		}
		if d.counted {
			n, err := d.loop.Unacked(d.n)
			if err == nil && n > 0 {
				return false
			}
			// A reset that came after the acknowledgement still says that the
			// peer gave up.
			if err == nil {
				err = d.loop.TakeError(d.n)
			}
			d.o.Err = err
		}
		d.o.Acked = d.o.Err == nil
	}
	d.finish()
	return true
}

func (d *disconnect) finish() {
	if d.counted && !d.o.Acked {
		if n, err := d.loop.Unacked(d.n); err == nil {
			d.o.Unacked = max(0, n-1) // our end counts as one
		}
	}
	d.loop.Close(d.n)
	d.n.Source = d.owner
	d.done(d.o)
}

// Ready receives and discards.
func (d *disconnect) Ready(found sys.Events) {
	for !d.deaf && d.o.Err == nil {
		n, err := d.loop.Recv(d.n, d.loop.Buffer)
		switch {
		case n > 0:
			d.o.Drained += int64(n)
			d.deaf = d.o.Drained >= d.b.DrainBytes // a flood: we have seen enough
		case err == nil:
			d.o.TheirEnd, d.deaf = true, true
			d.o.EndSeen = d.loop.Now()
		case errors.Is(err, sys.ErrWouldBlock):
			if found&sys.EventError != 0 {
				d.o.Err = d.loop.TakeError(d.n)
			}
			d.settled()
			return
		default:
			d.o.Err = err
		}
	}
	if found&sys.EventError != 0 && d.o.Err == nil {
		d.o.Err = d.loop.TakeError(d.n)
	}
	d.settled()
}

// Expired looks whether acknowledgements still come in.
func (d *disconnect) Expired() {
	l := d.loop
	if d.closeBy > 0 && l.now >= d.closeBy {
		d.finish()
		return
	}
	if d.counted {
		if n, err := d.loop.Unacked(d.n); err == nil && n < d.owed {
			d.owed, d.until = n, l.now+d.b.Patience
			d.arm()
			return
		}
	}
	if l.now < d.until { // the total was to be looked at
		d.arm()
		return
	}
	d.deaf = true
	if !d.settled() {
		d.finish()
	}
}

// Owner is the Source of n, or who had been before a Disconnect took n over.
func (n *Node) Owner() Source {
	if d, ok := n.Source.(*disconnect); ok {
		return d.owner
	}
	return n.Source
}

// Abandon ends a Disconnect at once: the descriptor is closed, with a reset if
// abort is set, and its done is called with reason.
func (l *Loop) Abandon(n *Node, abort bool, reason error) bool {
	d, ok := n.Source.(*disconnect)
	if !ok || !n.Open() {
		return false
	}
	d.o.Err = reason
	if abort {
		_ = l.DiscardOnClose(n)
	}
	d.finish()
	return true
}
