package loop

import (
	"errors"
	"iter"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file holds one of a Server's loops: it accepts, begins connections, and
// survives their handlers.

// A core is one loop with what its connections share.
type core struct {
	s       *Server
	handler *Handler
	loop    *reactor.Loop
	monitor *reactor.Monitor // nil: nobody is to be noticed as silent
	opts    anysock.Options
	idle    time.Duration
	limit   int // of a connection's queue

	acceptors []*reactor.Acceptor
	name      string   // a listener's address, for messages
	local     net.Addr // the address that all connections have; nil: they differ
	records   bool     // somebody may be told of endings
	corked    *Conn    // whose handler is at work
	out       []byte   // what that has written
	queues    []*queue
	coroutine iter.Seq[struct{}]     // startCoroutine
	starting  *Stream                // whose coroutine begins
	burst     int                    // receives of the coroutine that runs, since it waited
	emptying  bool                   // what is accepted is from the queues that Shutdown found
	id        atomic.Pointer[[]byte] // the loop's goroutine, as stacks name it
}

func newCore(s *Server, l *reactor.Loop) *core {
	core := &core{s: s, handler: &s.Handler, loop: l, idle: s.Idle, limit: s.WriteBuffer, out: make([]byte, 0, corkSize)}
	core.records = s.Handler.Ended != nil || s.Handler.Serve != nil
	core.coroutine = core.startCoroutine
	if core.limit <= 0 {
		core.limit = DefaultWriteBuffer
	}
	return core
}

func (core *core) run() {
	core.learnID()
	core.loop.Run()
}

// accept begins to accept from h.
func (core *core) accept(part bridge.Listening, h reactor.Handle, shared, isUnix bool, name string, local net.Addr) {
	s := core.s
	first := len(core.acceptors) == 0
	if opts, ok := part.Options.(anysock.Options); ok && first {
		core.opts = opts
		if opts.LostAfter > 0 {
			core.monitor = core.loop.NewMonitor(opts.LostAfter, core.lost)
		}
	}
	core.name = name
	if first {
		core.local = local
	} else {
		core.local = nil
	}
	tcp := isTCP
	if isUnix {
		tcp = 0
	}
	a := &reactor.Acceptor{
		Reserve: s.places.Reserve, Return: s.places.Give,
		Backoff: anysock.DefaultAcceptBackoff, MaxBackoff: anysock.MaxAcceptBackoff, ShedAfter: anysock.DefaultShedAfter,
		Accepted: func(h reactor.Handle, peer reactor.Peer) { core.open(h, peer, tcp) },
		Trouble: func(_ time.Duration, err error) {
			part.Exhausted()
			s.warn(bridge.OpError(anysock.OpAccept, name, err))
		},
		Shed: part.Shed,
		Failed: func(err error) {
			select {
			case s.failed <- bridge.OpError(anysock.OpAccept, name, err):
			default: // one is enough
			}
		},
	}
	core.acceptors = append(core.acceptors, a)
	if err := a.Start(core.loop, h, shared); err != nil {
		a.Failed(err)
		a.Close()
	}
}

// lost is called for a connection whose peer is silent.
func (core *core) lost(n *reactor.Node, silent time.Duration) {
	if c, ok := n.Owner().(*Conn); ok {
		c.lose(silent)
	}
}

// open begins a connection.
func (core *core) open(h reactor.Handle, peer reactor.Peer, tcp flags) {
	s := core.s
	var c *Conn
	if core.handler.Serve == nil {
		c = new(Conn)
	} else {
		co := new(Stream)
		c = &co.conn
		c.co = co
	}
	c.core, c.flags, c.peer = core, tcp, peer
	c.opened = core.loop.Elapsed()
	c.active = c.opened
	c.node.Source = c
	want := sys.EventIn
	if reactor.Edges && c.is(isTCP) {
		c.flags |= byEdge
		want = inOrder
	}
	if err := core.loop.Add(&c.node, h, want); err != nil {
		h.Reset() // nothing was said: it must not look like an end
		s.places.Give()
		s.warn(bridge.OpError(anysock.OpAccept, core.name, err))
		return
	}
	s.count.Begin(core.emptying)
	if core.idle > 0 {
		core.loop.SetTimer(&c.node, core.idle)
	}
	if core.handler.Open != nil {
		c.call(func() { core.handler.Open(c) })
	}
	if c.co != nil && !c.is(over|closing) {
		c.co.start()
	}
}

// protect calls f for c, and has c aborted if it panics.
func (core *core) protect(c *Conn, f func()) {
	defer func() {
		if v := recover(); v != nil {
			e, ok := v.(*PanicError) // a coroutine's
			if !ok {
				e = &PanicError{Value: v, Stack: debug.Stack()}
			}
			core.panicked(c, e)
		}
	}()
	f()
}

func (core *core) panicked(c *Conn, e *PanicError) {
	core.out = core.out[:0]
	_ = c.abortAs(anysock.AbortedByUs, e)
	if core.s.Trouble != nil {
		core.s.Trouble(e)
		return
	}
	slog.Error("anysock/loop: "+e.Error(), slog.String("peer", c.name()), slog.String("stack", string(e.Stack)))
}

func (core *core) post(f func()) error {
	switch err := core.loop.Post(f); {
	case err == nil:
		return nil
	case errors.Is(err, reactor.ErrFull):
		return &anysock.Error{Op: "post", Kind: anysock.KindLimit, Err: err}
	}
	return &anysock.Error{Op: "post", Kind: anysock.KindClosed, Err: net.ErrClosed}
}
