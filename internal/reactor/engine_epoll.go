//go:build linux && !anysock_portable

package reactor

import (
	"math"

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

// Every event of a wait may be a listener's with a batch of connections, each of
// which is relayed: generations suffice for that, or this does not compile.
const _ = uint(math.MaxUint16 - 2*maxBatch*sys.EpollBatch)

// An engine is what a Loop waits with: an epoll instance, the Nodes by
// descriptor number, and an eventfd that ends the wait.
type engine struct {
	epoll *sys.Epoll
	waker int
	pages []*page
	gen   generation // of the Node added last
	woken bool
	waiting
}

// A page is the Nodes of pageSize descriptor numbers. A table in one piece would
// be copied to grow, and leave its copies as garbage that is larger than itself.
type page [pageSize]*Node

const pageSize = 1024

// node is the Node of descriptor h, nil if there is none.
func (e *engine) node(h handle) *Node {
	if i := int(h) / pageSize; i < len(e.pages) && e.pages[i] != nil {
		return e.pages[i][h%pageSize]
	}
	return nil
}

// enter makes n the Node of descriptor h; nil is none.
func (e *engine) enter(h handle, n *Node) {
	i := int(h) / pageSize
	for i >= len(e.pages) {
		e.pages = append(e.pages, nil)
	}
	if e.pages[i] == nil {
		e.pages[i] = new(page)
	}
	e.pages[i][h%pageSize] = n
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
	e.waiting.begin()
	return nil
}

func (e *engine) close() {
	e.waiting.end()
	sys.RawClose(e.waker)
	e.epoll.Close()
}

// event is the i-th of what wait found; nil if nobody is to be told. The
// generation 0 is the waker's.
func (e *engine) event(i int) (*Node, sys.Events) {
	key, found := e.epoll.Event(i)
	gen := generation(key >> 32)
	if gen == 0 {
		e.woken = true
		return nil, 0
	}
	if n := e.node(handle(uint32(key))); n != nil && n.gen == gen {
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
	for _, p := range e.pages {
		if p == nil {
			continue
		}
		for _, n := range p {
			if n != nil && !yield(n) {
				return
			}
		}
	}
}

func key(h handle, gen generation) uint64 { return uint64(gen)<<32 | uint64(uint32(h)) }

func (e *engine) modify(n *Node, want sys.Events) error {
	return e.epoll.Modify(int(n.handle), want, key(n.handle, n.gen))
}

func (e *engine) closeNode(n *Node) {
	e.enter(n.handle, nil)
	sys.RawClose(int(n.handle))
}

// Add gives the socket h, which must be non-blocking, to the loop. After an
// error, which is want of kernel memory, h is the caller's still.
func (l *Loop) Add(n *Node, h Handle, want sys.Events) error {
	e := &l.engine
	e.gen = e.gen.following()
	if err := e.epoll.Add(int(h), want, key(handle(h), e.gen)); err != nil {
		return err
	}
	n.handle, n.gen, n.want, n.owing, n.again = handle(h), e.gen, want, false, false
	e.enter(handle(h), n)
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
	l.engine.enter(handle(h), nil)
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
