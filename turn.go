package anysock

import (
	"context"
	"sync"
	"sync/atomic"
)

// background is the context of a call that only deadlines and Close cut short.
var background = context.Background()

// A turn is a mutex whose lock can be given up by a context and whose waiters
// are served in order. A connection has one per direction: the caller that
// has it is the only one in a receiving (or sending) system call.
//
// state: 0 free, 1 held, 2 held and somebody may wait in queue.
type turn struct {
	state atomic.Int32
	mu    sync.Mutex // guards queue, and every change of state to and from 2
	queue []chan struct{}
}

// try takes the turn if it is free.
func (t *turn) try() bool { return t.state.CompareAndSwap(0, 1) }

// acquire waits for the turn.
func (t *turn) acquire() { _ = t.lock(background) }

// lock waits for the turn. A ctx that is never done cannot fail;
// otherwise the error is the context's and the turn is not taken.
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
	w := make(chan struct{})
	t.queue = append(t.queue, w)
	t.mu.Unlock()

	select {
	case <-w:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for i, q := range t.queue {
		if q == w {
			t.queue = append(t.queue[:i], t.queue[i+1:]...)
			if len(t.queue) == 0 {
				t.state.Store(1)
			}
			t.mu.Unlock()
			return ctx.Err()
		}
	}
	t.mu.Unlock()
	// It was handed over at the same moment: pass it on.
	t.unlock()
	return ctx.Err()
}

// unlock gives the turn to the next in the queue, or frees it.
func (t *turn) unlock() {
	if t.state.CompareAndSwap(1, 0) {
		return
	}
	t.mu.Lock()
	w := t.queue[0]
	t.queue = t.queue[1:]
	if len(t.queue) == 0 {
		t.queue = nil
		t.state.Store(1)
	}
	t.mu.Unlock()
	close(w)
}
