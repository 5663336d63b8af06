package load

import "time"

// This file wakes the connections of an open loop when something is due. Late
// is late: what the waking adds is a part of the latency that is measured, so
// it has to be exact.

// An alarm waits for an instant.
type alarm interface {
	// wait waits for d, or until stop is closed.
	wait(d time.Duration, stop <-chan struct{})
	close()
}

// A timerAlarm is the runtime's timers. On Linux they can be a millisecond
// late, which is how exact the runtime's poller waits.
type timerAlarm struct{}

func (timerAlarm) wait(d time.Duration, stop <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stop:
	}
}

func (timerAlarm) close() {}

// pace wakes the line of each request that is due, until the run is over.
func (r *run) pace(a alarm) {
	lines := int64(len(r.lines))
	for k := int64(0); ; {
		t := r.schedule.at(k)
		if t >= r.until.Load() {
			return
		}
		if d := t - r.now(); d > 0 {
			a.wait(time.Duration(d), r.over)
			select {
			case <-r.over:
				return
			default:
			}
		}
		due := r.schedule.before(r.now() + 1)
		for i := range min(due-k, lines) {
			r.lines[(k+i)%lines].wake()
		}
		k = due
	}
}
