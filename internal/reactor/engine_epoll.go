//go:build linux && !anysock_portable

package reactor

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// AcksKnown says whether Unacked is what the peer's kernel has not acknowledged,
// of TCP. Elsewhere it counts what our own kernel has not taken, of every
// socket.
const AcksKnown = true

// A Handle is a socket that is not on a Loop: a descriptor number.
type Handle int

// Detach takes a listening socket away from package sys, for a Loop.
func Detach(fd *sys.FD) (Handle, error) {
	n, err := fd.Detach()
	return Handle(n), err
}

// Dup is another Handle of the same socket, for another Loop.
func (h Handle) Dup() (Handle, error) {
	n, err := sys.RawDup(int(h))
	return Handle(n), err
}

// NoHandle is none.
const NoHandle Handle = -1

// Close closes a socket that is not on a Loop.
func (h Handle) Close() { sys.RawClose(int(h)) }

// Reset is Close that a TCP peer does not take for an end.
func (h Handle) Reset() {
	_ = sys.RawDiscardOnClose(int(h))
	h.Close()
}

// Edges says that a Node can be watched by edges: it is told in time, and a receive from a
// TCP socket that brings less than there was room for has emptied it, unless
// its end or a failure was reported.
const Edges = true

// handle is a Node's: its descriptor number.
type handle = int32

// An engine is what a Loop waits with: an epoll instance, the Nodes by
// descriptor number, and an eventfd that ends the wait.
type engine struct {
	epoll *sys.Epoll
	waker int
	nodes []*Node
	gen   uint32 // of the Node added last
	woken bool
	busy  bool   // the last wait was a short one
	alone bool   // there are processors without a loop
	waits uint32 // so far
}

func (e *engine) open() error {
	epoll, err := sys.NewEpoll()
	if err != nil {
		return err
	}
	waker, err := sys.NewWaker()
	if err != nil {
		epoll.Close()
		return err
	}
	if err := epoll.Add(waker, sys.EventIn, uint64(uint32(waker))); err != nil {
		sys.RawClose(waker)
		epoll.Close()
		return err
	}
	e.epoll, e.waker = epoll, waker
	running.Add(1)
	return nil
}

func (e *engine) close() {
	running.Add(-1)
	sys.RawClose(e.waker)
	e.epoll.Close()
}

// A loop that is busy waits without telling the scheduler. Told each time, the
// runtime's monitor would take the processor away and give it back, and look
// every 20 µs whether it has to. The scheduler repeats the signals that end such
// a wait, so a stop of the world does not wait for it. Other goroutines do where
// each processor (GOMAXPROCS) has a loop: there it is short, and those that can
// run have their turn before it.
const (
	brief        = 2 * time.Millisecond
	briefCrowded = 50 * time.Microsecond
	// looksAtCrowd is after how many waits the processors are counted anew.
	looksAtCrowd = 1 << 14
)

// running counts the loops of this process.
var running atomic.Int32

// crowded reports whether the loops leave no processor for anybody else.
func (e *engine) crowded() bool {
	if e.waits%looksAtCrowd == 0 {
		e.alone = int(running.Load()) < runtime.GOMAXPROCS(0)
	}
	e.waits++
	return !e.alone
}

// wait waits for at most d, negative for ever.
func (e *engine) wait(d time.Duration) (int, error) {
	b := brief
	if e.crowded() {
		b = briefCrowded
		runtime.Gosched()
	}
	if e.busy {
		if d >= 0 {
			b = min(b, d)
		}
		n, err := e.epoll.WaitBriefly(b)
		if n > 0 {
			return n, nil
		}
		e.busy = false
		if err == nil && b == d {
			return 0, nil
		}
	}
	start := time.Now()
	n, err := e.epoll.Wait(d)
	e.busy = n > 0 && time.Since(start) < b
	return n, err
}

// event is the i-th of what wait found; nil if nobody is to be told. The
// generation 0 is the waker's.
func (e *engine) event(i int) (*Node, sys.Events) {
	key, found := e.epoll.Event(i)
	gen := uint32(key >> 32)
	if gen == 0 {
		e.woken = true
		return nil, 0
	}
	if n := e.nodes[uint32(key)]; n != nil && n.gen == gen {
		return n, found
	}
	return nil, 0
}

// wake ends the wait; any goroutine may.
func (e *engine) wake() { sys.Wake(e.waker) }

// rest reports whether somebody woke the loop.
func (e *engine) rest() bool {
	if !e.woken {
		return false
	}
	e.woken = false
	sys.Rest(e.waker)
	return true
}

// all yields the Nodes that are open.
func (e *engine) all(yield func(*Node) bool) {
	for _, n := range e.nodes {
		if n != nil && !yield(n) {
			return
		}
	}
}

func key(n *Node) uint64 { return uint64(n.gen)<<32 | uint64(uint32(n.handle)) }

func (e *engine) modify(n *Node, want sys.Events) error {
	return e.epoll.Modify(int(n.handle), want, key(n))
}

func (e *engine) closeNode(n *Node) {
	e.nodes[n.handle] = nil
	sys.RawClose(int(n.handle))
}

// Add gives the socket h, which must be non-blocking, to the loop. After an
// error, which is want of kernel memory, h is the caller's still.
func (l *Loop) Add(n *Node, h Handle, want sys.Events) error {
	e := &l.engine
	for len(e.nodes) <= int(h) {
		e.nodes = append(e.nodes, nil)
	}
	e.gen++
	if e.gen == 0 {
		e.gen++
	}
	if err := e.epoll.Add(int(h), want, uint64(e.gen)<<32|uint64(uint32(h))); err != nil {
		return err
	}
	n.handle, n.gen, n.want, n.owing, n.again = handle(h), e.gen, want, false, false
	e.nodes[h] = n
	return nil
}

// Release takes the socket off the loop without closing it; NoHandle if there
// is none.
func (l *Loop) Release(n *Node) Handle {
	if n.gen == 0 {
		return NoHandle
	}
	n.unlink()
	h := Handle(n.handle)
	l.engine.nodes[h] = nil
	n.gen = 0
	_ = l.engine.epoll.Remove(int(h))
	return h
}

// FD is the descriptor's number; -1 when the Node is not open.
func (n *Node) FD() int {
	if n.gen == 0 {
		return -1
	}
	return int(n.handle)
}

// Recv receives into p: 0 without an error is the peer's end, sys.ErrWouldBlock
// nothing for now.
func (l *Loop) Recv(n *Node, p []byte) (int, error) { return sys.RawRecv(int(n.handle), p) }

// Send sends what there is room for; sys.ErrWouldBlock is none.
func (l *Loop) Send(n *Node, p []byte) (int, error) { return sys.RawSend(int(n.handle), p) }

// CloseWrite ends our direction.
func (l *Loop) CloseWrite(n *Node) error { return sys.RawShutdown(int(n.handle)) }

// Unacked is how many bytes the peer's kernel has not acknowledged, and one
// more for our end if that was sent (SIOCOUTQ): TCP only.
func (l *Loop) Unacked(n *Node) (int, error) { return sys.RawUnacked(int(n.handle)) }

// TakeError reads and thereby consumes the pending error (SO_ERROR).
func (l *Loop) TakeError(n *Node) error { return sys.RawTakeError(int(n.handle)) }

// Liveness is what the kernel knows about the peer's silence: TCP only.
func (l *Loop) Liveness(n *Node) (sys.Liveness, error) { return sys.RawLiveness(int(n.handle)) }

// SetInt sets an option.
func (l *Loop) SetInt(n *Node, o sys.Option, v int) error { return sys.RawSetInt(int(n.handle), o, v) }

// DiscardOnClose makes the next Close of a TCP socket a reset.
func (l *Loop) DiscardOnClose(n *Node) error { return sys.RawDiscardOnClose(int(n.handle)) }

// LocalAddr is the socket's own address (getsockname(2)).
func (l *Loop) LocalAddr(n *Node) (sys.Addr, error) { return sys.RawLocal(int(n.handle)) }

// A Peer is the address that a connection was accepted from.
type Peer = sys.RawAddr

// A listening is an Acceptor's socket.
type listening struct {
	fd      int
	reserve int // a descriptor to give up; -1: there is none
}

func (s *listening) open(h Handle) {
	s.fd = int(h)
	s.reserve, _ = sys.RawReserve() // without one, nobody is shed
}

func (s *listening) accept() (Handle, Peer, error) {
	fd, peer, err := sys.RawAccept(s.fd)
	return Handle(fd), peer, err
}

// watch tells the Node's Source of connections. shared means that other loops
// watch the same socket: then the kernel wakes one of them for each.
func (s *listening) watch(l *Loop, n *Node, shared bool) error {
	want := sys.EventIn
	if shared {
		want |= sys.EventExclusive
	}
	return l.Add(n, Handle(s.fd), want)
}

// refuse lets the queue admit no more.
func (s *listening) refuse() { _ = sys.RawBacklog(s.fd, 0) }

func (s *listening) close() {
	sys.RawClose(s.fd)
	if s.reserve >= 0 {
		sys.RawClose(s.reserve)
	}
}

// shed resets one waiting client with the reserve's descriptor.
func (s *listening) shed() bool {
	if s.reserve < 0 {
		return false
	}
	sys.RawClose(s.reserve)
	s.reserve = -1
	fd, _, err := sys.RawAccept(s.fd)
	if err == nil {
		_ = sys.RawDiscardOnClose(fd)
		sys.RawClose(fd)
	}
	s.reserve, _ = sys.RawReserve()
	return err == nil
}
