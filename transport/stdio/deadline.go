// This file holds a deadline that can be waited for beside other things.

package stdio

import (
	"sync"
	"time"
)

// A deadline is an instant whose passing closes a channel. The zero value is
// no deadline.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // replaced once it is closed and a new instant is set
}

// wait is closed when the instant has passed. A deadline that is set later
// closes the same channel, as long as this one is open.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}

func (d *deadline) channel() chan struct{} {
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}

// expired looks at it without waiting.
func (d *deadline) expired() bool { return isClosed(d.wait()) }

// set replaces the instant; zero is none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if isClosed(d.channel()) {
		d.passed = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	after := time.Until(t)
	if after <= 0 {
		close(d.passed)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // else it was replaced as it fired
			d.timer = nil
			close(d.passed)
		}
	})
	d.timer = timer
}

// stop releases the timer.
func (d *deadline) stop() { d.set(time.Time{}) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
