package anysock

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// A direction is the reading or the writing half of a connection as callers
// compete for it: whose turn it is, the caller's deadline, and what cuts a
// call short.
//
// Three parties want to set the one deadline that the carrier has. The
// caller, by SetReadDeadline; a context, which is cancelled in the middle of a
// call; and Close, which must wake the call for good. The caller's value is
// kept here and put back when the others are done.
type direction struct {
	turn

	of deadliner // the half of the carrier that it stands for

	dmu      sync.Mutex
	cut      bool          // a context has cut the call that has the turn
	taken    bool          // closing: the caller's deadline no longer counts
	dead     bool          // aborted: nobody's deadline counts
	call     uint32        // number of the call that has the turn
	deadline *time.Time    // the caller's; nil is none
	lentTo   *time.Time    // a disconnect of ours sets the deadline to this
	changed  chan struct{} // closed when any of these changed; nil until somebody asks
}

// A deadliner is a half of a carrier: SetDeadline bounds the calls of that half.
type deadliner interface{ SetDeadline(t time.Time) error }

// A readingSide is a Conn's, and as such no object of its own.
type readingSide Conn

// SetDeadline bounds the carrier's receiving.
func (c *readingSide) SetDeadline(t time.Time) error { return c.s.SetReadDeadline(t) }

// A writingSide is a Conn's.
type writingSide Conn

// SetDeadline bounds the carrier's sending.
func (c *writingSide) SetDeadline(t time.Time) error { return c.s.SetWriteDeadline(t) }

// longAgo as a deadline wakes what waits.
var longAgo = time.Unix(1, 0)

// update puts the deadline in place that counts now; dmu is held.
func (d *direction) update() error {
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
	switch {
	case d.cut, d.dead:
		return d.of.SetDeadline(longAgo)
	case d.lentTo != nil:
		return d.of.SetDeadline(*d.lentTo)
	case d.taken:
		return d.of.SetDeadline(longAgo)
	case d.deadline != nil:
		return d.of.SetDeadline(*d.deadline)
	}
	return d.of.SetDeadline(time.Time{})
}

// setDeadline is the caller's; false says that we are closing.
func (d *direction) setDeadline(t time.Time) (bool, error) {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	if d.taken {
		return false, nil
	}
	d.deadline = nil
	if !t.IsZero() {
		d.deadline = &t
	}
	return true, d.update()
}

// take ends the caller's say over the deadline and wakes what waits.
func (d *direction) take() {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.taken = true
	_ = d.update()
}

// cutOff wakes whatever waits, a disconnect of ours too, for good.
func (d *direction) cutOff() {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.dead = true
	_ = d.update()
}

// isDead reports whether cutOff was called.
func (d *direction) isDead() bool {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	return d.dead
}

// lend sets the deadline for a call of ours that has the turn, without
// touching the caller's; restore puts that back.
func (d *direction) lend(t time.Time) {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.lentTo = &t
	_ = d.update()
}

func (d *direction) restore() {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.lentTo = nil
	_ = d.update()
}

// A watch is a context's hold on one call.
type watch struct{ stop func() bool }

// begin lets ctx cut the call that now has the turn. A ctx that is never
// done costs nothing; one that is done already is the error.
func (d *direction) begin(ctx context.Context) (watch, error) {
	if ctx.Done() == nil {
		return watch{}, nil
	}
	if err := ctx.Err(); err != nil {
		return watch{}, err
	}
	d.dmu.Lock()
	n := d.call // as many calls as it can count do not fit into one cancellation
	d.dmu.Unlock()
	return watch{stop: context.AfterFunc(ctx, func() { d.interrupt(n) })}, nil
}

// interrupt wakes call n if it still has the turn.
func (d *direction) interrupt(n uint32) {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	if d.call == n {
		d.cut = true
		_ = d.update()
	}
}

// end releases the hold: a cancel that comes now finds another call number,
// and the caller's deadline is what it was.
func (d *direction) end(w watch) {
	if w.stop == nil {
		return
	}
	w.stop()
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.call++
	if d.cut {
		d.cut = false
		_ = d.update()
	}
}

// look is for a caller that waits for something else than the carrier: the
// caller's deadline, whether we are closing, and a channel that is closed when
// that changes.
func (d *direction) look() (deadline time.Time, taken bool, changed <-chan struct{}) {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	if d.deadline != nil {
		deadline = *d.deadline
	}
	return deadline, d.taken, d.changed
}

// waitFor waits for an element of c (true), for limit at most if it is not
// negative (false), or until ctx, the caller's deadline or closing ends the
// wait with an error.
func (d *direction) waitFor(ctx context.Context, c <-chan struct{}, limit time.Duration) (bool, error) {
	var enough <-chan time.Time
	if limit >= 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		enough = t.C
	}
	for {
		deadline, taken, changed := d.look()
		if taken {
			return false, net.ErrClosed
		}
		got, again, err := waitOnce(ctx, c, enough, deadline, changed)
		if !again {
			return got, err
		}
	}
}

func waitOnce(ctx context.Context, c <-chan struct{}, enough <-chan time.Time, deadline time.Time, changed <-chan struct{}) (got, again bool, err error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-c:
		return true, false, nil
	case <-enough:
		return false, false, nil
	case <-changed:
		return false, true, nil
	case <-ctx.Done():
		return false, false, ctx.Err()
	case <-expired:
		return false, false, os.ErrDeadlineExceeded
	}
}
