// This file bounds how fast a client's connections follow one another.

package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// paceWindow is how long a client may be ahead of its rate: who has been quiet
// for that long may open as many at once.
const paceWindow = 10 * time.Second

// The named bounds of what a pace remembers. Clients beyond maxPaced are not
// held back: that many addresses are no greedy client.
const (
	maxPaced   = 1 << 16 // clients that have opened connections within paceWindow
	firstSweep = 1 << 10 // clients at which those that are even are first looked for
)

// A pace holds clients to a rate of new connections. Of a client it keeps one
// time, at which the client will be even: each connection adds the time that
// one has at the rate, and nobody may be ahead by more than paceWindow (the
// generic cell rate algorithm of ITU-T I.371). Clients that are even are
// forgotten when their number has doubled.
type pace struct {
	mu    sync.Mutex
	even  map[netip.Addr]time.Time
	sweep int // of clients, at which the next look is due
}

// admit counts a connection of c at a time, or reports false if c is ahead by
// more than it may be. limit, def and who they are for are as tally.take's,
// per second.
func (p *pace) admit(c client, now time.Time, limit, def int) bool {
	if limit == 0 && !c.local {
		limit = def
	}
	key := c.key()
	if limit <= 0 || !key.IsValid() {
		return true
	}
	each := time.Second / time.Duration(limit)
	p.mu.Lock()
	defer p.mu.Unlock()
	even, known := p.even[key]
	if !known && !p.room(now) {
		return true
	}
	if even.Before(now) {
		even = now
	}
	if even = even.Add(each); even.Sub(now) > paceWindow {
		return false
	}
	p.even[key] = even
	return true
}

// room reports whether one more client can be remembered.
func (p *pace) room(now time.Time) bool {
	if p.even == nil {
		p.even, p.sweep = make(map[netip.Addr]time.Time), firstSweep
	}
	if len(p.even) >= p.sweep {
		for key, even := range p.even {
			if !even.After(now) {
				delete(p.even, key)
			}
		}
		p.sweep = min(max(2*len(p.even), firstSweep), maxPaced)
	}
	return len(p.even) < maxPaced
}
