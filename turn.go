package anysock

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// background is the context of a call that only deadlines and Close cut short.
var background = context.Background()

// A turn is a mutex whose lock can be given up by a context and whose waiters
// are served in order. A connection has one per direction: the caller that
// has it is the only one in a receiving (or sending) system call.
//
// state: 0 free, 1 held, 2 held and somebody may wait in queue.
type turn struct {
	state  atomic.Int32
	isShut bool         // guarded by mu
	mu     sync.Mutex   // guards what follows, and every change of state to and from 2
	queue  *[]chan bool // told true with the turn, false by shut; nil if it is empty
}

// try takes the turn if it is free.
func (t *turn) try() bool { return t.state.CompareAndSwap(0, 1) }

// acquire waits for a turn that nobody shuts.
func (t *turn) acquire() { _ = t.lock(background) }

// lockWithin waits for the turn for limit at most.
func (t *turn) lockWithin(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(background, limit)
	defer cancel()
	return t.lock(ctx) == nil
}

// lock waits for the turn. On an error, ctx's or net.ErrClosed after shut, it
// is not taken.
func (t *turn) lock(ctx context.Context) error {
	if t.try() {
		return nil
	}
	return t.lockSlow(ctx)
}

func (t *turn) lockSlow(ctx context.Context) error {
	t.mu.Lock()
	for {
		if t.try() {
			t.mu.Unlock()
			return nil
		}
		if t.state.Load() == 2 || t.state.CompareAndSwap(1, 2) {
			break
		}
	}
	if t.isShut {
		t.settle()
		t.mu.Unlock()
		return net.ErrClosed
	}
	w := make(chan bool, 1)
	if t.queue == nil {
		t.queue = new([]chan bool)
	}
	*t.queue = append(*t.queue, w)
	t.mu.Unlock()

	select {
	case got := <-w:
		if !got {
			return net.ErrClosed
		}
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for i, q := range t.waiting() {
		if q == w {
			*t.queue = slices.Delete(*t.queue, i, i+1)
			t.settle()
			t.mu.Unlock()
			return ctx.Err()
		}
	}
	t.mu.Unlock()
	// It was told something at the same moment: if that was the turn, pass it
	// on.
	if <-w {
		t.unlock()
	}
	return ctx.Err()
}

// settle makes the state say that nobody waits, if so; mu is held, and the
// turn by somebody.
func (t *turn) settle() {
	if len(t.waiting()) == 0 {
		t.queue = nil
		t.state.Store(1)
	}
}

// waiting is who waits; mu is held.
func (t *turn) waiting() []chan bool {
	if t.queue == nil {
		return nil
	}
	return *t.queue
}

// shut sends away those who wait, and those who come, until reopen; only the
// holder calls it.
func (t *turn) shut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isShut = true
	for _, w := range t.waiting() {
		w <- false
	}
	t.queue = nil
	t.settle()
}

// reopen ends shut; only the holder calls it.
func (t *turn) reopen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isShut = false
}

// unlock gives the turn to the next in the queue, or frees it.
func (t *turn) unlock() {
	if t.state.CompareAndSwap(1, 0) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting()) == 0 { // whoever announced itself has left
		t.state.Store(0)
		return
	}
	w := (*t.queue)[0]
	*t.queue = (*t.queue)[1:]
	t.settle()
	w <- true
}
