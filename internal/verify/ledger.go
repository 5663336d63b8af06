package verify

// This file holds what a server remembers of the connections it had.

import (
	"context"
	"sync"
	"time"
)

// maxRemembered bounds the connections that are over and remembered; the oldest
// are forgotten.
const maxRemembered = 1 << 16

type key struct{ run, number uint64 }

// A ledger knows the connections of every run. Those that are not over are
// bounded by the server's limit of connections.
type ledger struct {
	mu      sync.Mutex
	entries map[key]*Outcome // nil while it is not over
	over    []key            // a ring, oldest at next
	next    int
}

// open notes a connection that has begun. The same number twice is a fault of
// the path: it makes two connections of one.
func (l *ledger) open(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, twice := l.entries[k]; twice {
		return false
	}
	if l.entries == nil {
		l.entries = make(map[key]*Outcome)
	}
	l.entries[k] = nil
	return true
}

// close notes what became of it.
func (l *ledger) close(k key, o Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[k] = &o
	if len(l.over) < maxRemembered {
		l.over = append(l.over, k)
		return
	}
	delete(l.entries, l.over[l.next])
	l.over[l.next] = k
	l.next = (l.next + 1) % maxRemembered
}

// look is what is known of connections of a run.
func (l *ledger) look(run uint64, numbers []uint64) []reported {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := make([]reported, len(numbers))
	for i, n := range numbers {
		o, known := l.entries[key{run, n}]
		switch {
		case !known:
		case o == nil:
			rs[i].State = running
		default:
			rs[i] = reported{over, o}
		}
	}
	return rs
}

// lookAgain is how often a wait looks again.
const lookAgain = 10 * time.Millisecond

// await is look once none of them is running, or after wait, or when ctx is
// done.
func (l *ledger) await(ctx context.Context, run uint64, numbers []uint64, wait time.Duration) []reported {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		rs := l.look(run, numbers)
		busy := false
		for _, r := range rs {
			busy = busy || r.State == running
		}
		if !busy {
			return rs
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return rs
		case <-ctx.Done():
			return rs
		}
	}
}
