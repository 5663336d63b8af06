package anysock

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// A Group owns the disconnects that Close leaves in the background, so that a
// program can wait for them before it exits. The zero value is ready. A
// Dialer, a ListenConfig or a Socket names the Group of its connections; nil
// is the process's own, which the function Wait waits for.
type Group struct {
	// Limit bounds the disconnects at work at once; a Close beyond it is
	// plain, and counted. 0 is DefaultCloseLimit. Set it before use.
	Limit int

	mu      sync.Mutex
	pending map[*Conn]struct{}
	idle    chan struct{} // closed when pending becomes empty; nil while nobody waits
	ended   []End         // not graceful, since the last Wait
	more    int           // what ended has no room for
}

var defaultGroup Group

// maxEnded bounds the endings a Group remembers for Wait.
const maxEnded = 1000

// start runs close for c in the background; false if the limit is reached.
func (g *Group) start(c *Conn, close func()) bool {
	g.mu.Lock()
	if len(g.pending) >= orDefault(g.Limit, DefaultCloseLimit) {
		g.mu.Unlock()
		return false
	}
	if g.pending == nil {
		g.pending = make(map[*Conn]struct{})
	}
	g.pending[c] = struct{}{}
	g.mu.Unlock()
	go g.run(c, close)
	return true
}

// run owns one disconnect; Wait waits for it.
func (g *Group) run(c *Conn, close func()) {
	close()
	g.finished(c)
}

func (g *Group) finished(c *Conn) {
	g.note(c)
	g.mu.Lock()
	delete(g.pending, c)
	if len(g.pending) == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
	g.mu.Unlock()
}

// note remembers an ending that was not graceful. That of a connection which
// carries a layer is the layer's to tell.
func (g *Group) note(c *Conn) {
	e := c.End()
	if e.How == Graceful || c.is(flagCarrier) {
		return
	}
	g.mu.Lock()
	if len(g.ended) < maxEnded {
		g.ended = append(g.ended, e)
	} else {
		g.more++
	}
	g.mu.Unlock()
}

// Pending is how many disconnects are at work.
func (g *Group) Pending() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending)
}

// Wait waits until no disconnect is at work in the background, or until ctx
// is done, and returns the endings since the last Wait that were not
// Graceful; one still at work has How NotEnded. At most 1000 endings are
// remembered between two Waits.
//
// The error is nil if nothing was lost as far as is known: everything is
// finished, and every ending was Graceful or Delivered. Otherwise it is a
// *WaitError that says what was not.
func (g *Group) Wait(ctx context.Context) ([]End, error) {
	g.mu.Lock()
	if len(g.pending) > 0 && g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	var err error
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}

	g.mu.Lock()
	ends, more := g.ended, g.more
	g.ended, g.more = nil, 0
	w := WaitError{More: more, Err: err}
	for c := range g.pending {
		ends = append(ends, c.progressSoFar())
		w.Pending++
	}
	g.mu.Unlock()
	for _, e := range ends {
		if e.How != NotEnded && !e.How.Complete() {
			w.Incomplete++
		}
	}
	if w.Pending == 0 && w.Incomplete == 0 && w.More == 0 {
		return ends, nil
	}
	w.Ends = ends
	return ends, &w
}

// Wait waits for the connections that belong to no other Group: see
// Group.Wait. Call it before the process exits; what the kernel has not sent
// by then may be lost.
func Wait(ctx context.Context) ([]End, error) { return defaultGroup.Wait(ctx) }

// progressSoFar is an End for a connection that is still at work.
func (c *Conn) progressSoFar() End {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known()
	if k.end != nil {
		return *k.end
	}
	return End{
		Sent: c.sent.Load(), Received: c.received.Load(), Unacked: c.unackedBytes(), Drained: k.drained,
		Local: c.s.LocalAddr(), Peer: c.s.RemoteAddr(), Opened: c.opened,
	}
}

// A WaitError says that Wait cannot vouch for every byte.
type WaitError struct {
	Pending    int   // disconnects still at work when ctx was done
	Incomplete int   // endings that were neither Graceful nor Delivered
	More       int   // endings that were not remembered
	Ends       []End // as Wait returned them
	Err        error // the context's error, if that ended the wait
}

// Error lists the first few connections.
func (e *WaitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "wait: %d connections still closing, %d ended without delivering everything", e.Pending, e.Incomplete)
	if e.More > 0 {
		fmt.Fprintf(&b, ", %d more not graceful", e.More)
	}
	shown := 0
	for _, end := range e.Ends {
		if end.How.Complete() {
			continue
		}
		if shown == 3 {
			b.WriteString("; ...")
			break
		}
		shown++
		fmt.Fprintf(&b, "; %v: %s, %d of %d bytes unacknowledged", end.Peer, end.How, end.Unacked, end.Sent)
	}
	return b.String()
}

// Unwrap is the context's error, nil if all were finished.
func (e *WaitError) Unwrap() error { return e.Err }
