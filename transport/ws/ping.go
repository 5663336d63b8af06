// This file sends pings on connections without traffic.

package ws

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// A pinger sends a ping when for a while nothing was sent or nothing came. It
// has a timer; a goroutine only from a ping to its pong, one at most.
type pinger struct {
	s        *stream
	interval time.Duration
	patience time.Duration // for something to come after a ping; 0 is for ever
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	halted bool
	seen   traffic // at the last look
}

// traffic counts what went out and what came.
type traffic struct{ sent, received int64 }

func startPinger(s *stream, interval, patience time.Duration) *pinger {
	p := &pinger{s: s, interval: interval, patience: patience}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(interval, p.look)
	return p
}

// look is called by the timer, on a goroutine of its own, which wait waits for.
func (p *pinger) look() {
	p.mu.Lock()
	if p.halted {
		p.mu.Unlock()
		return
	}
	p.wg.Add(1)
	defer p.wg.Done()
	seen, now := p.seen, p.s.wire.traffic()
	p.mu.Unlock()
	// What is queued means that the other side does not read: a ping would only
	// wait behind it, and path and address translator see the traffic below.
	if (now.sent == seen.sent || now.received == seen.received) && p.s.wire.Queued() == 0 {
		p.ping(now.received)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = p.s.wire.traffic()
	if !p.halted {
		p.timer.Reset(p.interval)
	}
}

// ping sends a ping and waits for its pong, or for the end of the connection.
func (p *pinger) ping(received int64) {
	ctx := background
	if p.patience > 0 {
		c, cancel := context.WithTimeout(background, p.patience)
		defer cancel()
		ctx = c
	}
	turns := p.s.rcv.turns.Load()
	if p.s.conn.Ping(ctx) == nil || ctx.Err() == nil {
		return
	}
	// While our own program pauses, what came is not looked at.
	if p.s.nothingWaits(turns) && p.s.wire.traffic().received == received {
		p.s.lose(fmt.Errorf("nothing came for %s after a ping", p.patience))
	}
}

// nothingWaits reports whether all that came was looked at. A connection below
// that cannot tell must have been looked at all the time, since turns were
// counted.
func (s *stream) nothingWaits(turns int64) bool {
	n, err := s.below.Unread()
	if err != nil {
		return s.rcv.looks.Load() && s.rcv.turns.Load() == turns
	}
	return n == 0
}

// halt ends pinging; p may be nil.
func (p *pinger) halt() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted = true
	p.timer.Stop()
}

// wait waits for a ping at work, which the end of the connection wakes.
func (p *pinger) wait() {
	if p != nil {
		p.wg.Wait()
	}
}

// lose ends reading, and with it the connection: the other side is silent.
func (s *stream) lose(why error) {
	s.rcv.conclude(fail(anysock.KindLost, why, "the path is gone, or the program there pauses; allow more time with "+optPong))
	s.in.Fail(s.rcv.reason())
}
