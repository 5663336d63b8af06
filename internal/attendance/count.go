// Package attendance keeps count for servers: of their listeners and
// connections from the first Serve to the end of Shutdown (Count), and of the
// places that bound connections (Places).
package attendance

import (
	"context"
	"sync"
)

// A Count counts the Serve calls at work and the connections, and knows when
// nobody is left. Make it with New. Every method may be called from several
// goroutines.
//
//	New -> Enter, Begin, End, Leave -> Stop -> what the queues hold: Begin -> Emptied -> Idle
type Count struct {
	closed chan struct{} // Stop was called
	idle   chan struct{} // closed when stopped and nothing is left

	mu       sync.Mutex // guards what follows
	stopping bool
	emptying bool // between Stop and Emptied
	serving  int
	active   int
	accepted int64
	none     chan struct{} // closed when there is no connection; nil until somebody waits
	drained  Drained
}

// Drained says what became of the connections that Stop found.
type Drained struct {
	Queued   int // begun from the listeners' queues
	Finished int // ended by themselves, those of the queues included
	Cut      int // ended at the deadline
}

// New makes a Count of nobody.
func New() *Count {
	return &Count{closed: make(chan struct{}), idle: make(chan struct{})}
}

// Enter begins a Serve; false after Stop. Leave ends it.
func (c *Count) Enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	c.serving++
	return true
}

// Leave ends a Serve.
func (c *Count) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving--
	c.finishIfIdle()
}

// Begin counts a connection; End ends it. queued: it was taken from a queue by
// Shutdown, and not accepted by a Serve.
func (c *Count) Begin(queued bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active++
	c.accepted++
	if queued && c.emptying {
		c.drained.Queued++
	}
}

// End counts a connection out. cut: at the drain deadline.
func (c *Count) End(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active--; c.active == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
	if c.stopping {
		if cut {
			c.drained.Cut++
		} else {
			c.drained.Finished++
		}
	}
	c.finishIfIdle()
}

// Active is how many connections there are, Accepted how many there were.
func (c *Count) Active() (now int, accepted int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active, c.accepted
}

// Stop turns newcomers away; first is false if that was done before.
func (c *Count) Stop() (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	c.stopping, c.emptying = true, true
	close(c.closed)
	return true
}

// Stopping reports whether Stop was called.
func (c *Count) Stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// Closed is closed by Stop.
func (c *Count) Closed() <-chan struct{} { return c.closed }

// Emptied says, after Stop, that the queues are empty and closed.
func (c *Count) Emptied() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emptying = false
	c.finishIfIdle()
}

// Idle is closed when, after Emptied, no Serve and no connection is left.
func (c *Count) Idle() <-chan struct{} { return c.idle }

// finishIfIdle closes idle when nothing is left; mu is held.
func (c *Count) finishIfIdle() {
	if !c.stopping || c.emptying || c.serving > 0 || c.active > 0 {
		return
	}
	select {
	case <-c.idle:
	default:
		close(c.idle)
	}
}

// Wait waits until there is no connection, or until ctx is done (its error).
func (c *Count) Wait(ctx context.Context) error {
	c.mu.Lock()
	if c.active == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	c.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drained is what became of the connections so far.
func (c *Count) Drained() Drained {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drained
}
