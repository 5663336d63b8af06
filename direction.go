package anysock

import (
	"context"
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

	apply func(time.Time) error // the carrier's SetReadDeadline or SetWriteDeadline

	dmu      sync.Mutex
	deadline time.Time // the caller's
	call     uint64    // number of the call that has the turn
	cut      bool      // a context has cut that call
	lent     bool      // a disconnect of ours sets the deadline
	lentTo   time.Time // to this
	taken    bool      // closing: the caller's deadline no longer counts
}

// longAgo as a deadline wakes what waits.
var longAgo = time.Unix(1, 0)

// update puts the deadline in place that counts now; dmu is held.
func (d *direction) update() error {
	switch {
	case d.cut:
		return d.apply(longAgo)
	case d.lent:
		return d.apply(d.lentTo)
	case d.taken:
		return d.apply(longAgo)
	}
	return d.apply(d.deadline)
}

// setDeadline is the caller's; false says that we are closing.
func (d *direction) setDeadline(t time.Time) (bool, error) {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	if d.taken {
		return false, nil
	}
	d.deadline = t
	return true, d.update()
}

// take ends the caller's say over the deadline and wakes what waits.
func (d *direction) take() {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.taken = true
	_ = d.update()
}

// lend sets the deadline for a call of ours that has the turn, without
// touching the caller's; restore puts that back.
func (d *direction) lend(t time.Time) {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.lent, d.lentTo = true, t
	_ = d.update()
}

func (d *direction) restore() {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	d.lent = false
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
	n := d.call
	d.dmu.Unlock()
	return watch{stop: context.AfterFunc(ctx, func() { d.interrupt(n) })}, nil
}

// interrupt wakes call n if it still has the turn.
func (d *direction) interrupt(n uint64) {
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

// userDeadline is the caller's deadline.
func (d *direction) userDeadline() time.Time {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	return d.deadline
}
