package attendance

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Places bounds connections: each takes a place before it is accepted and
// gives it back when it is over. Limit is set before the first call; 0 and
// negative are no bound.
type Places struct {
	Limit int64
	taken atomic.Int64

	wanted atomic.Bool // somebody waits for a place
	mu     sync.Mutex
	freed  chan struct{} // closed when there may be one; nil while nobody is in Wait
	tell   []func()      // called then, too
}

// Try takes a place if there is one.
func (p *Places) Try() bool {
	if p.Limit <= 0 {
		return true
	}
	for {
		n := p.taken.Load()
		if n >= p.Limit {
			return false
		}
		if p.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Reserve is Try for those who are told by OnFreed when it may succeed.
func (p *Places) Reserve() bool {
	if p.Try() {
		return true
	}
	p.wanted.Store(true)
	return p.Try() // one may have been given in between
}

// Give gives a place back.
func (p *Places) Give() {
	if p.Limit <= 0 {
		return
	}
	p.taken.Add(-1)
	if p.wanted.Load() && p.wanted.CompareAndSwap(true, false) {
		p.wake()
	}
}

// wake has everybody try again.
func (p *Places) wake() {
	p.mu.Lock()
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
	tell := p.tell
	p.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

// OnFreed has f called whenever there may be a place. f must not block.
func (p *Places) OnFreed(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell = append(p.tell, f)
}

// Wanted reports whether somebody waits for a place.
func (p *Places) Wanted() bool { return p.wanted.Load() }

// Wait takes a place, and waits for one. It is false without an error once
// closed is, and with ctx's when that is done.
func (p *Places) Wait(ctx context.Context, closed <-chan struct{}) (bool, error) {
	for {
		p.mu.Lock()
		if p.freed == nil {
			p.freed = make(chan struct{})
		}
		freed := p.freed
		p.mu.Unlock()
		if p.Reserve() {
			return true, nil
		}
		select {
		case <-freed:
		case <-closed:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
