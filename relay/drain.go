package relay

import (
	"context"
	"errors"
	"time"

	"github.com/anysock/anysock"
)

// Shutdown ends a Relay so that nobody loses what it was promised: it accepts
// what waits in the queues of the listeners that were served, closes those, and
// lets every connection finish, the ones from the queues included. What still
// runs after Drain, or when ctx is done if that is earlier, is aborted on both
// legs (a reset on tcp), with ErrDrainDeadline as the reason in its record. It
// returns when all goroutines of the Relay have ended and OnEnd was told of
// every connection.
//
// The error is that of draining the listeners; what was cut is none, and
// Drained says so. A second Shutdown waits for the first, and its ctx counts
// too: call it with a ctx that is done to cut at once.
func (r *Relay) Shutdown(ctx context.Context) (Drained, error) {
	r.init()
	first, listeners := r.stop()
	var err error
	for _, ln := range listeners {
		conns, derr := ln.Drain()
		for _, c := range conns {
			r.start(c, false)
		}
		err = errors.Join(err, derr)
	}
	e := r.engine()
	if first {
		if e != nil {
			err = errors.Join(err, e.drain())
		}
		r.count.Emptied()
	}
	limit := time.NewTimer(max(orDefault(r.Drain, DefaultDrain), 0))
	defer limit.Stop()
	select {
	case <-r.count.Idle():
	case <-limit.C:
	case <-ctx.Done():
	}
	r.cut(ErrDrainDeadline) // nothing is left to cut after idle
	if e != nil {
		e.cut()
	}
	<-r.count.Idle()

	if first {
		if e != nil {
			e.stop()
		}
		if r.w != nil {
			r.w.leave()
		}
		close(r.over)
	}
	<-r.over
	return Drained(r.count.Drained()), err
}

// stop turns newcomers away. Only the first call has listeners to drain.
func (r *Relay) stop() (first bool, listeners []*anysock.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.count.Stop() {
		return false, nil
	}
	for ln, onLoops := range r.listeners {
		if !onLoops {
			listeners = append(listeners, ln)
		}
	}
	return true, listeners
}

// engine is the event loops, nil if there are none.
func (r *Relay) engine() *engine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.e
}
