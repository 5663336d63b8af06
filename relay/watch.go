package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// This file notices that a leg has failed while nobody reads it: after its end
// was read, while the other leg takes no more, while the target is dialed.
// Looking consumes nothing, neither bytes nor the error.

// watchAfter is how old a connection is when its legs are first watched. Most
// are over by then and pay nothing; on the others a failure that only watching
// can notice is passed on that much later at most.
const watchAfter = 50 * time.Millisecond

// A watcher watches legs for HungUp and Failed, all with one goroutine. It is
// shared by whoever watches at the time; the last to leave ends it.
type watcher struct {
	sel  *anysock.Selector // nil where there is none
	done chan struct{}     // closed when run has returned

	mu    sync.Mutex
	users int // guarded by shared.mu
	calls map[uint64]func(anysock.Readiness)
}

// shared is the process's watcher while there are users.
var shared struct {
	mu sync.Mutex
	w  *watcher
}

// useWatcher enters; every user calls leave.
func useWatcher() *watcher {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.w == nil || shared.w.sel == nil {
		w := &watcher{calls: make(map[uint64]func(anysock.Readiness)), done: make(chan struct{})}
		if sel, err := anysock.NewSelector(); err == nil {
			w.sel = sel
			go w.run()
		} else {
			// Out of descriptors, or a platform without: the next user tries again.
			close(w.done)
		}
		shared.w = w
	}
	shared.w.users++
	return shared.w
}

// leave ends the watcher with its last user, and waits for that.
func (w *watcher) leave() {
	shared.mu.Lock()
	w.users--
	last := w.users == 0
	if last && shared.w == w {
		shared.w = nil
	}
	shared.mu.Unlock()
	if last && w.sel != nil {
		w.sel.Close()
		<-w.done
	}
}

// run is owned by the users: leave ends it and waits.
func (w *watcher) run() {
	defer close(w.done)
	for {
		found, err := w.sel.Wait(context.Background())
		if err != nil {
			w.retire()
			return
		}
		for _, s := range found {
			w.report(s)
		}
	}
}

// retire lets the next user make a new watcher.
func (w *watcher) retire() {
	shared.mu.Lock()
	if shared.w == w {
		shared.w = nil
	}
	shared.mu.Unlock()
}

// report tells once: a leg that has hung up does so for ever.
func (w *watcher) report(s anysock.Selection) {
	c := s.Conn()
	w.mu.Lock()
	call := w.calls[c.ID()]
	delete(w.calls, c.ID())
	w.mu.Unlock()
	_ = w.sel.Remove(c) // what cannot be removed is closed, and leaves by itself
	if call != nil {
		call(s.Ready)
	}
}

// watch calls f once when c has hung up or failed, until stop was called. f
// must not block. A leg without a descriptor is waited for on a goroutine of
// its own, which stop ends and awaits; where even that is not possible nothing
// happens, and the failure shows when the leg is next written.
func (w *watcher) watch(c *anysock.Conn, f func(anysock.Readiness)) (stop func()) {
	if w.add(c, f) {
		return func() { w.remove(c) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go waitFailed(ctx, c, f, done)
	return func() {
		cancel()
		<-done
	}
}

// waitFailed is owned by the stop of watch.
func waitFailed(ctx context.Context, c *anysock.Conn, f func(anysock.Readiness), done chan<- struct{}) {
	defer close(done)
	if r, err := c.Wait(ctx, 0, 1); err == nil {
		f(r)
	}
}

func (w *watcher) add(c *anysock.Conn, f func(anysock.Readiness)) bool {
	if w.sel == nil {
		return false
	}
	w.mu.Lock()
	w.calls[c.ID()] = f
	w.mu.Unlock()
	err := w.sel.Add(c, 0)
	if err == nil {
		return true
	}
	w.mu.Lock()
	delete(w.calls, c.ID())
	w.mu.Unlock()
	// A closed one needs no watch: whoever uses it is told.
	return !errors.Is(err, errors.ErrUnsupported)
}

func (w *watcher) remove(c *anysock.Conn) {
	w.mu.Lock()
	delete(w.calls, c.ID())
	w.mu.Unlock()
	_ = w.sel.Remove(c)
}
