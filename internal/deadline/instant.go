// This file holds a deadline that can be waited for beside other things.

package deadline

import (
	"sync"
	"time"
)

// An Instant is a deadline whose passing closes a channel. The zero value is
// no deadline. Its methods may be called from several goroutines.
type Instant struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // replaced once it is closed and a new instant is set
}

// Wait is closed when the instant has passed. An instant that is set later
// closes the same channel, as long as this one is open.
func (d *Instant) Wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}

func (d *Instant) channel() chan struct{} {
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}

// Passed looks at it without waiting.
func (d *Instant) Passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed != nil && isClosed(d.passed)
}

// Set replaces the instant; zero is none.
func (d *Instant) Set(t time.Time) {
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

// Stop releases the timer: from now on there is no deadline.
func (d *Instant) Stop() { d.Set(time.Time{}) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
