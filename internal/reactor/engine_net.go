//go:build !linux || anysock_portable

package reactor

import (
	"errors"
	"sync"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// This file is the engine for platforms without epoll: the same readiness, made
// by goroutines that receive and send ahead within bounds (port). A Loop works
// here as it does on epoll, for more memory and more switches between threads;
// what was acknowledged nobody can say.

// AcksKnown is false: Unacked counts what the engine itself has not sent yet,
// of every socket.
const AcksKnown = false

// Edges is false: nothing is to be gained by edges.
const Edges = false

// A Handle is a socket that is not on a Loop. Once it was on one it stays with
// that Loop, which keeps what it has received ahead.
type Handle struct {
	fd   *sys.FD
	port *port
}

// Detach takes a listening socket away from package sys, for a Loop.
func Detach(fd *sys.FD) (Handle, error) { return Handle{fd: fd}, nil }

// Dup says errors.ErrUnsupported: one Loop has a socket to itself.
func (Handle) Dup() (Handle, error) { return NoHandle, errors.ErrUnsupported }

// NoHandle is none.
var NoHandle = Handle{}

// Close closes a socket that is not on a Loop.
func (h Handle) Close() {
	switch {
	case h.port != nil:
		h.port.close()
	case h.fd != nil:
		_ = h.fd.Close()
	}
}

// Reset is Close that a TCP peer does not take for an end.
func (h Handle) Reset() {
	if h.fd != nil {
		_ = h.fd.DiscardOnClose()
	}
	h.Close()
}

// handle is a Node's.
type handle = *port

// An engine is what a Loop waits with: a list of the ports that may have
// something to tell, and a bell that ends the wait.
type engine struct {
	ports map[*port]struct{} // not closed; the loop's goroutine only
	found []finding          // by the last wait
	gen   generation         // of the Node added last
	timer *time.Timer
	bell  chan struct{} // rung when the wait has to look again
	pumps sync.WaitGroup

	mu      sync.Mutex // guards what follows, and every port
	changed []*port    // they may have something to tell
	woken   bool
}

// A finding is what a wait found out about a Node.
type finding struct {
	port *port
	node *Node
	gen  generation
	what sys.Events
}

func (e *engine) open() error {
	e.ports, e.bell = map[*port]struct{}{}, make(chan struct{}, 1)
	e.timer = time.NewTimer(0)
	e.timer.Stop()
	return nil
}

// close waits for the goroutines of all ports.
func (e *engine) close() {
	for p := range e.ports { // those that were released and not closed
		p.close()
	}
	e.timer.Stop()
	e.pumps.Wait()
}

// wait waits for at most d, negative for ever.
func (e *engine) wait(d time.Duration) (int, error) {
	clear(e.found)
	e.found = e.found[:0]
	var timeout <-chan time.Time
	for {
		e.mu.Lock()
		e.look()
		done := len(e.found) > 0 || e.woken
		e.mu.Unlock()
		if done || d == 0 {
			break
		}
		if d > 0 && timeout == nil {
			e.timer.Reset(d)
			timeout = e.timer.C
		}
		select {
		case <-e.bell:
			continue
		case <-timeout:
		}
		break
	}
	e.timer.Stop()
	return len(e.found), nil
}

// look finds out what there is to tell of the ports that changed; mu is held.
// One that is watched by level stays on the list as long as there is something.
func (e *engine) look() {
	stay := e.changed[:0]
	for _, p := range e.changed {
		what := p.report()
		if what == 0 {
			p.listed = false
			continue
		}
		e.found = append(e.found, finding{port: p, node: p.node, gen: p.node.gen, what: what})
		if p.want&sys.EventEdge != 0 {
			p.listed = false
			continue
		}
		stay = append(stay, p)
	}
	clear(e.changed[len(stay):])
	e.changed = stay
}

// list has the next wait look at p; mu is held.
func (e *engine) list(p *port) {
	if p.listed || p.node == nil {
		return
	}
	p.listed = true
	e.changed = append(e.changed, p)
	e.ring()
}

func (e *engine) ring() {
	select {
	case e.bell <- struct{}{}:
	default: // it rings
	}
}

// event is the i-th of what wait found; nil if nobody is to be told.
func (e *engine) event(i int) (*Node, sys.Events) {
	if f := e.found[i]; f.port.node == f.node && f.node.gen == f.gen {
		return f.node, f.what
	}
	return nil, 0
}

// wake ends the wait; any goroutine may.
func (e *engine) wake() {
	e.mu.Lock()
	e.woken = true
	e.mu.Unlock()
	e.ring()
}

// rest reports whether somebody woke the loop.
func (e *engine) rest() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	woken := e.woken
	e.woken = false
	return woken
}

// all yields the Nodes that are open.
func (e *engine) all(yield func(*Node) bool) {
	for p := range e.ports {
		if p.node != nil && !yield(p.node) {
			return
		}
	}
}

func (e *engine) modify(n *Node, want sys.Events) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := n.handle
	p.want, p.fresh = want, allEvents // as epoll_ctl looks at the state anew
	p.feed()
	e.list(p)
	return nil
}

func (e *engine) closeNode(n *Node) { n.handle.close() }

// Add gives the socket h to the loop. The error is of a socket that another
// loop has had.
func (l *Loop) Add(n *Node, h Handle, want sys.Events) error {
	e := &l.engine
	p := h.port
	if p == nil {
		p = newPort(e, h.fd)
	}
	if p.engine != e {
		return errors.ErrUnsupported
	}
	e.gen = e.gen.following()
	n.handle, n.gen, n.want, n.owing = p, e.gen, want, false
	e.ports[p] = struct{}{}
	e.mu.Lock()
	defer e.mu.Unlock()
	p.node, p.want, p.fresh = n, want, allEvents
	p.feed()
	e.list(p)
	return nil
}

// Release takes the socket off the loop without closing it; NoHandle if there
// is none.
func (l *Loop) Release(n *Node) Handle {
	if n.gen == 0 {
		return NoHandle
	}
	n.unlink()
	n.gen = 0
	p := n.handle
	l.engine.mu.Lock()
	defer l.engine.mu.Unlock()
	p.node, p.want = nil, 0
	return Handle{fd: p.fd, port: p}
}

// FD is the descriptor's number; -1 when the Node is not open or the platform
// does not tell.
func (n *Node) FD() int {
	if n.gen == 0 {
		return -1
	}
	return n.handle.fd.Num()
}

// Recv receives into p: 0 without an error is the peer's end, sys.ErrWouldBlock
// nothing for now.
func (l *Loop) Recv(n *Node, p []byte) (int, error) { return n.handle.recv(p) }

// Send sends what there is room for; sys.ErrWouldBlock is none.
func (l *Loop) Send(n *Node, p []byte) (int, error) { return n.handle.send(p) }

// CloseWrite ends our direction behind what was sent.
func (l *Loop) CloseWrite(n *Node) error { return n.handle.closeWrite() }

// Unacked is how many bytes the kernel has not taken yet, and one more for our
// end if that is on its way.
func (l *Loop) Unacked(n *Node) (int, error) { return n.handle.unsent(), nil }

// TakeError is the failure that was noticed, told once.
func (l *Loop) TakeError(n *Node) error { return n.handle.takeError() }

// Liveness says errors.ErrUnsupported.
func (l *Loop) Liveness(n *Node) (sys.Liveness, error) { return n.handle.fd.Liveness() }

// SetInt sets an option.
func (l *Loop) SetInt(n *Node, o sys.Option, v int) error { return n.handle.fd.SetInt(o, v) }

// DiscardOnClose makes the next Close of a TCP socket a reset.
func (l *Loop) DiscardOnClose(n *Node) error { return n.handle.fd.DiscardOnClose() }

// LocalAddr is the socket's own address.
func (l *Loop) LocalAddr(n *Node) (sys.Addr, error) { return n.handle.fd.LocalAddr(), nil }

// A Peer is the address that a connection was accepted from.
type Peer struct{ addr sys.Addr }

// Addr is the address.
func (p Peer) Addr() sys.Addr { return p.addr }
