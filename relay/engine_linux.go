//go:build linux && !anysock_portable

package relay

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
)

// This file is the relay on event loops: what they share, and how listeners
// come to them. A connection is in pair_linux.go.

// An engine is a Relay's loops. Both legs of a connection are on the same one.
type engine struct {
	r       *Relay
	dial    *bridge.Dialing
	target  string          // for records
	opts    anysock.Options // of outbound legs
	addrs   []*destination  // none: they must be looked up
	cores   []*core
	rec     *recorder // nil: nobody is told of ends
	options outboundOptions

	loops   sync.WaitGroup
	lookups sync.WaitGroup // goroutines that ask for names
	watches sync.WaitGroup // goroutines that wait for listeners to be closed
	stopped chan struct{}  // the loops are about to end

	entrances map[*anysock.Listener]*entrance // guarded by the Relay's mu
}

// A core is one loop with what its connections share.
type core struct {
	e       *engine
	loop    *reactor.Loop
	monitor *reactor.Monitor // of outbound legs; nil: none is to be noticed as silent
	gates   []*gate
	dialing map[*dialing]struct{}
	ended   gathering
	asking  *asking // for the addresses of the target's name; nil: not now
	buffers [][]byte
	cutting bool
	noPipes time.Duration // none is asked for before then

	moved [2]atomic.Int64 // bytes passed on from the inbound legs, and from the outbound ones
}

// An entrance is a listener that is served on the loops.
type entrance struct {
	e       *engine
	ln      *anysock.Listener
	part    bridge.Listening
	opts    anysock.Options // of inbound legs
	tcp     bool
	network string
	name    string
	local   string            // the address of all that come here; "": they differ
	places  attendance.Places // the listener's own limit
	gates   []*gate
	closed  chan struct{} // accepting is over for good
	failure error         // why; set before closed is
	once    sync.Once
	serving int // Serve calls; guarded by the Relay's mu
}

// A gate is an entrance on one loop.
type gate struct {
	core     *core
	en       *entrance
	acceptor reactor.Acceptor
	monitor  *reactor.Monitor // of inbound legs
	open     bool             // somebody serves
	draining bool             // what comes now was queued, and needs no place
}

// serveOnLoops is Serve where the listener and the target are kernel sockets;
// false where they are not, or there are to be no loops.
func (r *Relay) serveOnLoops(ctx context.Context, ln *anysock.Listener) (bool, error) {
	en := r.entrance(ln)
	if en == nil {
		return false, nil
	}
	r.mu.Lock()
	en.serving++
	r.mu.Unlock()
	en.e.each(func(core *core) {
		for _, g := range core.gates {
			if g.en == en {
				g.open = true
				g.acceptor.Resume()
			}
		}
	})
	defer en.leave()
	select {
	case <-r.count.Closed():
		return true, nil
	case <-en.closed:
		if r.count.Stopping() {
			return true, nil
		}
		return true, en.failure
	case <-ctx.Done():
		return true, bridge.OpError(anysock.OpAccept, en.name, ctx.Err())
	}
}

// leave stops accepting when nobody serves any more.
func (en *entrance) leave() {
	r := en.e.r
	r.mu.Lock()
	en.serving--
	last := en.serving == 0
	r.mu.Unlock()
	if !last {
		return
	}
	en.e.each(func(core *core) {
		for _, g := range core.gates {
			if g.en == en && !g.draining {
				g.open = false
				g.acceptor.Pause()
			}
		}
	})
}

// entrance is the listener's on the loops, made when it is served first; nil
// if it cannot be there.
func (r *Relay) entrance(ln *anysock.Listener) *entrance {
	if r.Loops < 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count.Stopping() {
		return nil // Shutdown has found what there was
	}
	if r.e != nil {
		if en := r.e.entrances[ln]; en != nil {
			return en
		}
	}
	part, ok := bridge.Listener(ln)
	if !ok {
		return nil
	}
	if r.e == nil {
		dial, ok := bridge.Dialer(&r.Dialer, r.Target)
		if !ok {
			return nil
		}
		e := &engine{r: r, dial: dial, stopped: make(chan struct{}), entrances: make(map[*anysock.Listener]*entrance)}
		if e.start() != nil {
			return nil // without descriptors for loops goroutines serve
		}
		r.e = e
	}
	en, err := r.e.enter(ln, part)
	if err != nil {
		return nil
	}
	r.listeners[ln] = true
	return en
}

// start makes the loops and runs them.
func (e *engine) start() error {
	e.opts, _ = e.dial.Options.(anysock.Options)
	e.addrs = destinations(e.dial.Addrs)
	e.target = e.r.Target.String()
	e.options = newOutboundOptions(e.dial.Settings)
	n := e.r.Loops
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for range n {
		l, err := reactor.New()
		if err != nil {
			for _, core := range e.cores {
				core.loop.Discard()
			}
			return err
		}
		core := &core{e: e, loop: l, dialing: make(map[*dialing]struct{})}
		core.ended.core, core.ended.node.Source = core, &core.ended
		if e.opts.LostAfter > 0 && !e.dial.Unix {
			core.monitor = l.NewMonitor(e.opts.LostAfter, core.lost)
		}
		e.cores = append(e.cores, core)
	}
	if e.r.OnEnd != nil {
		e.rec = newRecorder(e)
	}
	for _, core := range e.cores {
		e.loops.Go(core.loop.Run)
	}
	e.r.places.OnFreed(e.resume)
	return nil
}

// enter has the loops accept from a listener; the Relay's mu is held.
func (e *engine) enter(ln *anysock.Listener, part bridge.Listening) (*entrance, error) {
	en := &entrance{
		e: e, ln: ln, part: part, tcp: part.Socket.Family().Inet(),
		network: ln.Addr().Network(), name: ln.Network() + ":" + ln.Addr().String(), closed: make(chan struct{}),
	}
	en.opts, _ = part.Options.(anysock.Options)
	en.places.Limit = int64(part.Limit)
	en.places.OnFreed(e.resume)
	if a, ok := ln.Addr().(*net.TCPAddr); !ok || !a.IP.IsUnspecified() {
		en.local = ln.Addr().String()
	}
	h, err := reactor.Detach(part.Socket)
	if err != nil {
		return nil, err
	}
	part.Taken()
	e.entrances[ln] = en
	for i, core := range e.cores {
		own := h
		if i > 0 {
			if own, err = h.Dup(); err != nil {
				break // the loops before it accept
			}
		}
		g := &gate{core: core, en: en, open: true}
		en.gates = append(en.gates, g)
		core.loop.Tell(func() { g.start(own, len(e.cores) > 1) })
	}
	e.watches.Go(en.watch)
	return en, nil
}

// watch ends accepting when the listener is closed. stop ends it.
func (en *entrance) watch() {
	select {
	case <-en.part.Closed:
		en.fail(&anysock.Error{Op: anysock.OpAccept, Addr: en.name, Kind: anysock.KindClosed, Err: net.ErrClosed})
		for _, g := range en.gates {
			g.core.loop.Tell(g.acceptor.Close)
		}
	case <-en.e.stopped:
	}
}

// fail ends accepting for good.
func (en *entrance) fail(err error) {
	en.once.Do(func() {
		en.failure = err
		close(en.closed)
	})
}

// start begins to accept.
func (g *gate) start(h reactor.Handle, shared bool) {
	core, en := g.core, g.en
	core.gates = append(core.gates, g)
	if en.tcp && en.opts.LostAfter > 0 {
		g.monitor = core.loop.NewMonitor(en.opts.LostAfter, core.lost)
	}
	g.acceptor = reactor.Acceptor{
		Backoff: anysock.DefaultAcceptBackoff, MaxBackoff: anysock.MaxAcceptBackoff, ShedAfter: anysock.DefaultShedAfter,
		Reserve: g.reserve, Return: g.giveBack,
		Accepted: g.accepted,
		Trouble:  func(time.Duration, error) { en.part.Exhausted() },
		Shed:     en.part.Shed,
		Failed:   func(err error) { en.fail(bridge.OpError(anysock.OpAccept, en.name, err)) },
	}
	if err := g.acceptor.Start(core.loop, h, shared); err != nil {
		g.acceptor.Failed(err)
		g.acceptor.Close()
	}
}

// reserve takes the places that a connection needs.
func (g *gate) reserve() bool {
	e := g.core.e
	if e.rec != nil && e.rec.isFull() {
		return false
	}
	if !e.r.places.Reserve() {
		return false
	}
	if !g.en.places.Reserve() {
		e.r.places.Give()
		return false
	}
	return true
}

func (g *gate) giveBack() {
	g.core.e.r.places.Give()
	g.en.places.Give()
}

// resume has all gates try again: there may be room.
func (e *engine) resume() {
	for _, core := range e.cores {
		core.loop.Tell(func() {
			for _, g := range core.gates {
				if g.open {
					g.acceptor.Resume()
				}
			}
		})
	}
}

// accepted begins a connection.
func (g *gate) accepted(h reactor.Handle, peer reactor.Peer) {
	placed := !g.draining
	g.core.e.r.count.Begin(!placed)
	g.begin(h, peer, placed)
}

// lost is called for a leg whose peer is silent.
func (core *core) lost(n *reactor.Node, silent time.Duration) {
	if l, ok := n.Owner().(*half); ok {
		l.lose(silent)
	}
}

// each runs f on every loop and waits until it has.
func (e *engine) each(f func(*core)) {
	done := make(chan struct{}, len(e.cores))
	for _, core := range e.cores {
		core.loop.Tell(func() {
			f(core)
			done <- struct{}{}
		})
	}
	for _, core := range e.cores {
		select {
		case <-done:
		case <-core.loop.Ended():
		}
	}
}

// drain takes what the queues hold and closes the listeners.
func (e *engine) drain() error {
	var mu sync.Mutex
	var errs []error
	e.each(func(core *core) {
		for _, g := range core.gates {
			g.draining = true
			if _, err := g.acceptor.Drain(); err != nil {
				mu.Lock()
				errs = append(errs, bridge.OpError(anysock.OpAccept, g.en.name, err))
				mu.Unlock()
			}
		}
	})
	e.r.mu.Lock()
	var listeners []*anysock.Listener
	for ln := range e.entrances {
		listeners = append(listeners, ln)
	}
	e.r.mu.Unlock()
	for _, ln := range listeners {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// cut ends all that runs.
func (e *engine) cut() {
	e.each(func(core *core) {
		core.cutting = true
		for d := range core.dialing {
			d.p.refuse(ErrDrainDeadline)
		}
		for n := range core.loop.Nodes {
			if l, ok := n.Owner().(*half); ok {
				l.p.cut(anysock.AbortedByUs, ErrDrainDeadline)
			}
		}
	})
}

// stop ends the loops, when no connection is left.
func (e *engine) stop() {
	close(e.stopped)
	e.watches.Wait()
	e.lookups.Wait()
	for _, core := range e.cores {
		core.loop.Tell(core.loop.Stop)
	}
	e.loops.Wait()
	if e.rec != nil {
		e.rec.stop()
	}
}

// untold is how many connections have ended of which OnEnd was not told.
func (e *engine) untold() int {
	if e.rec == nil {
		return 0
	}
	return int(e.rec.waiting.Load())
}

// movedBytes is how much was passed on so far.
func (e *engine) movedBytes() (toOutbound, toInbound int64) {
	for _, core := range e.cores {
		toOutbound += core.moved[0].Load()
		toInbound += core.moved[1].Load()
	}
	return toOutbound, toInbound
}
