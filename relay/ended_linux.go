//go:build linux && !anysock_portable

package relay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file tells of connections that have ended on a loop.

// An unackedError is the reason of a leg that was lost while it was
// disconnected.
type unackedError struct {
	bytes int64
	after time.Duration
}

func (e *unackedError) Error() string {
	return fmt.Sprintf("%d bytes were not acknowledged, and none more for %s", e.bytes, e.after)
}

// maxUntold bounds the connections that wait to be told of, beside those that
// were there when it was reached.
const maxUntold = DefaultMaxConns

// A recorder makes records and tells OnEnd of them, on a goroutine of its own
// that may wait; stop ends it.
type recorder struct {
	e    *engine
	done chan struct{}

	waiting atomic.Int64 // connections that have ended, and OnEnd was not told
	held    atomic.Bool  // accepting was held up

	mu    sync.Mutex // guards what follows
	queue []*pair
	some  *sync.Cond
	over  bool
}

func newRecorder(e *engine) *recorder {
	r := &recorder{e: e, done: make(chan struct{})}
	r.some = sync.NewCond(&r.mu)
	go r.run()
	return r
}

// isFull reports whether accepting is to wait. It goes on by itself.
func (r *recorder) isFull() bool {
	if r.waiting.Load() < maxUntold {
		return false
	}
	r.held.Store(true)
	return r.waiting.Load() >= maxUntold
}

// gathered is how many ended connections a loop tells of together, if they come
// within one tick of its clock: waking a goroutine for each would cost more
// than the rest of the telling.
const gathered = 64

// A gathering is the ended connections of a loop that the recorder has not been
// told of.
type gathering struct {
	core  *core
	node  reactor.Node // its timer
	pairs []*pair
}

// Ready is never called: there is no descriptor.
func (*gathering) Ready(sys.Events) {}

// Expired hands over what there is.
func (g *gathering) Expired() {
	g.core.loop.StopTimer(&g.node)
	g.core.e.rec.add(g.pairs)
	clear(g.pairs)
	g.pairs = g.pairs[:0]
}

// tell hands a pair over, soon.
func (core *core) tell(p *pair) {
	g := &core.ended
	g.pairs = append(g.pairs, p)
	core.e.rec.waiting.Add(1)
	switch {
	case len(g.pairs) >= gathered, core.e.r.places.Wanted(), p.gate.en.places.Wanted():
		g.Expired()
	case !g.node.TimerSet():
		core.loop.SetTimer(&g.node, 0)
	}
}

// add takes pairs over. It does not wait.
func (r *recorder) add(pairs []*pair) {
	r.mu.Lock()
	first := len(r.queue) == 0
	r.queue = append(r.queue, pairs...)
	r.mu.Unlock()
	if first {
		r.some.Signal()
	}
}

// stop tells of what is left and ends the goroutine.
func (r *recorder) stop() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.some.Signal()
	<-r.done
}

func (r *recorder) run() {
	defer close(r.done)
	var batch, spare []*pair
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.over {
			r.some.Wait()
		}
		batch, r.queue = r.queue, spare[:0]
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for i, p := range batch {
			r.e.r.OnEnd(p.record())
			batch[i] = nil
			p.leave()
			n := r.waiting.Add(-1)
			if n < maxUntold/2 && r.held.Load() && r.held.CompareAndSwap(true, false) {
				r.e.resume()
			}
		}
		if spare = batch; cap(spare) > 1024 { // a burst is no reason to keep so much
			spare = nil
		}
	}
}

// record is what a Relay tells of the pair.
func (p *pair) record() Record {
	r, core, en := p.result, p.gate.core, p.gate.en
	at := func(d time.Duration) time.Time {
		if d == 0 {
			return time.Time{}
		}
		return core.loop.At(d)
	}
	rec := Record{
		How: r.how, By: r.by, Err: r.err, Target: core.e.target,
		Accepted: at(p.accepted), Connected: at(p.connected), Done: at(r.done),
		Attempts: RecordAttempts(r.attempts), Downgrades: r.downgrades,
	}
	rec.Inbound = p.legs[0].record(&r.ends[0])
	rec.Inbound.Network = en.network
	if en.local != "" {
		rec.Inbound.Local = en.local
	}
	if en.tcp {
		rec.Inbound.Peer = addrString(p.peer.Addr())
	} else if r.client.Family != 0 {
		rec.Inbound.Peer = addrString(r.client)
	}
	if p.connected == 0 {
		return rec
	}
	rec.Outbound = p.legs[1].record(&r.ends[1])
	rec.Outbound.Network, rec.Outbound.Peer = p.to.network, p.to.text
	for i, d := range []*Direction{&rec.ToOutbound, &rec.ToInbound} {
		l := &p.legs[i]
		d.Bytes = l.other().sent
		d.FirstByte, d.Ended = at(l.first), at(l.over)
	}
	return rec
}

func (l *half) record(end *halfEnd) LegRecord {
	rec := LegRecord{
		How: end.how, EndedBy: end.by, AckedBy: end.acked,
		Received: l.received, Sent: l.sent, Unacked: end.unacked,
	}
	if a := end.local.Addr(); a.Family != 0 {
		rec.Local = addrString(a)
	}
	if end.err != nil {
		rec.Error = end.err.Error()
	}
	return rec
}

// addrString is how package net would print the address, with less work.
func addrString(a sys.Addr) string {
	if a.Family.Inet() {
		return unmapped(a.IP).String()
	}
	return a.Net().String()
}
