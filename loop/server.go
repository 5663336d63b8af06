package loop

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/attendance"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// A Server accepts connections and handles them on its loops. Set the fields
// before the first call and leave them alone; its methods may be called from
// several goroutines. Shutdown must be called in the end: it ends the loops.
type Server struct {
	Handler Handler
	// Loops is how many there are; 0 is one for each processor that the program
	// may use (GOMAXPROCS). With one processor more than loops, other goroutines
	// never have to wait for a busy loop. Where the platform has no event loops of
	// its own it counts all the same.
	Loops int
	// Idle ends a connection when no byte has come in or gone out for that
	// long, as anysock.Idle, with a reset. 0 and negative are never.
	Idle time.Duration
	// WriteBuffer is how many bytes of one connection may wait for the kernel
	// before nothing more is received from its peer and Write says ErrFull. 0 is
	// DefaultWriteBuffer.
	WriteBuffer int
	// Blocked is told of a handler that held up its loop for longer than
	// BlockedAfter, with the stack of its goroutine, once each time: for
	// development, because somebody has to watch. nil is nobody.
	Blocked func(held time.Duration, stack []byte)
	// BlockedAfter is how long a handler may take where Blocked is set. 0 is
	// DefaultBlockedAfter.
	BlockedAfter time.Duration
	// Draining is told by Shutdown how many connections are left when the
	// listeners are closed, if there are any; nil is nobody.
	Draining func(connections int)
	// Trouble is told of what is nobody's ending: that a listener pauses for want
	// of descriptors or memory, at most once a second, and of each handler that
	// panicked (*PanicError), which is logged if Trouble is nil. It is called on
	// a loop.
	Trouble func(err error)

	once   sync.Once
	count  *attendance.Count
	places attendance.Places
	failed chan error    // one listener failed for good
	over   chan struct{} // closed when Shutdown has ended the loops
	warned atomic.Int64  // when Trouble was told last, Unix seconds

	loops sync.WaitGroup
	watch sync.WaitGroup
	cores []*core // made by the first Serve, before there is anybody to look at them

	mu        sync.Mutex // guards what follows, and the first Serve
	listeners []*anysock.Listener
}

// Listen listens on addr as anysock.ListenConfig does, for each of the Server's
// loops if the address is one of TCP.
func (s *Server) Listen(ctx context.Context, addr string) ([]*anysock.Listener, error) {
	a, err := anysock.ParseAddress(addr)
	if err != nil {
		return nil, bridge.OpError("parse", addr, err)
	}
	return new(anysock.ListenConfig).ListenEach(ctx, a, s.loopCount())
}

func (s *Server) loopCount() int {
	if s.Loops > 0 {
		return s.Loops
	}
	return runtime.GOMAXPROCS(0)
}

// Serve accepts connections from listeners of tcp or unix and handles them,
// until Shutdown (nil), until ctx is done (its error), or until accepting fails
// for good (that error). With as many listeners of one address as there are
// loops (Listen), each loop has its own; otherwise all loops accept from each.
// The loops go on in any case, and the connections with them, until Shutdown.
//
// The listeners belong to the Server from then on: it has taken their sockets,
// and closes them in Shutdown. Their Options count for the connections;
// Group and Trace do not. The MaxConns of the first Serve's listeners counts for
// all together. The error is of KindUnsupported for a listener that is no kernel
// socket of ours or has a Trace, of KindState where the Handler has neither Data
// nor Serve, of KindClosed after Shutdown.
func (s *Server) Serve(ctx context.Context, listeners ...*anysock.Listener) error {
	s.init()
	if err := s.begin(listeners); err != nil {
		return err
	}
	select {
	case <-s.over:
		return nil
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return bridge.OpError(anysock.OpAccept, "", ctx.Err())
	}
}

var (
	errShutdown  = errors.New("the server was shut down")
	errNoHandler = errors.New("the Handler has neither Data nor Serve")
	errForeign   = errors.New("a loop serves tcp and unix listeners of this package's own, without a Trace")
)

// init makes the private fields, once.
func (s *Server) init() {
	s.once.Do(func() {
		s.count = attendance.New()
		s.failed, s.over = make(chan error, 1), make(chan struct{})
		s.places.OnFreed(s.resume)
	})
}

// begin has the loops accept from listeners, unless Shutdown was called.
func (s *Server) begin(listeners []*anysock.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count.Stopping() {
		return &anysock.Error{Op: anysock.OpAccept, Kind: anysock.KindClosed, Err: errShutdown}
	}
	if err := s.start(); err != nil {
		return err
	}
	return s.take(listeners)
}

// start makes the loops and runs them, if there are none; mu is held.
func (s *Server) start() error {
	if s.cores != nil {
		return nil
	}
	if s.Handler.Data == nil && s.Handler.Serve == nil {
		return &anysock.Error{Op: anysock.OpAccept, Kind: anysock.KindState, Err: errNoHandler}
	}
	cores := make([]*core, 0, s.loopCount())
	for range cap(cores) {
		l, err := reactor.New()
		if err != nil {
			for _, core := range cores {
				core.loop.Discard()
			}
			return bridge.OpError(anysock.OpAccept, "", err)
		}
		cores = append(cores, newCore(s, l))
	}
	s.cores = cores
	for _, core := range s.cores {
		s.loops.Go(core.run)
	}
	if s.Blocked != nil {
		s.watch.Go(s.watchLoops)
	}
	return nil
}

// take has the loops accept from listeners; mu is held.
func (s *Server) take(listeners []*anysock.Listener) error {
	parts := make([]bridge.Listening, len(listeners))
	for i, ln := range listeners {
		part, ok := bridge.Listener(ln)
		if !ok {
			return &anysock.Error{Op: anysock.OpAccept, Addr: ln.Network() + ":" + ln.Addr().String(), Kind: anysock.KindUnsupported, Err: errForeign}
		}
		parts[i] = part
		if s.listeners == nil && part.Limit > 0 { // before anybody accepts
			s.places.Limit = int64(part.Limit)
		}
	}
	each := len(listeners) == len(s.cores)
	for i, ln := range listeners {
		part := parts[i]
		name, local := ln.Network()+":"+ln.Addr().String(), fixed(ln.Addr())
		isUnix := part.Socket.Family() == sys.Unix
		h, err := reactor.Detach(part.Socket)
		if err != nil {
			return bridge.OpError(anysock.OpAccept, name, err)
		}
		part.Taken()
		s.listeners = append(s.listeners, ln)
		cores := s.cores
		if each {
			cores = s.cores[i : i+1]
		}
		shared := len(cores) > 1
		for k, core := range cores {
			own := h
			if k > 0 {
				if own, err = h.Dup(); err != nil {
					break // the loops before it accept
				}
			}
			core.loop.Tell(func() { core.accept(part, own, shared, isUnix, name, local) })
		}
	}
	return nil
}

// fixed is addr if all connections accepted there have it as their own.
func fixed(addr net.Addr) net.Addr {
	if a, ok := addr.(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		return nil
	}
	return addr
}

// warn tells Trouble, at most once a second.
func (s *Server) warn(err error) {
	if s.Trouble == nil {
		return
	}
	now := time.Now().Unix()
	if last := s.warned.Load(); last != now && s.warned.CompareAndSwap(last, now) {
		s.Trouble(err)
	}
}

// resume has the cores accept that wait for a place.
func (s *Server) resume() {
	for _, core := range s.cores {
		core.loop.Tell(func() {
			for _, a := range core.acceptors {
				a.Resume()
			}
		})
	}
}

// Stats counts what a Server has done so far.
type Stats struct {
	Active   int   `json:"active"`   // connections now
	Accepted int64 `json:"accepted"` // connections so far
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.init()
	active, accepted := s.count.Active()
	return Stats{Active: active, Accepted: accepted}
}
