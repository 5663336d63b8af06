package anysock

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// The bounds of the handshakes in flight of one listener.
const (
	maxHandshakes        = 1024 // in all; further connections wait in the backlog
	maxHandshakesPerPeer = 512  // of one address (IPv6: of one /64); further ones of it wait
	maxWaitingPerPeer    = 1024 // of one address that wait so; further ones are reset
)

// A handshaker is the acceptor of a layered address: it accepts from the base
// and performs the layers' handshakes aside, so that a slow or silent client
// holds up nobody, and a crowd of them from one address only that address.
// Each handshake is bounded by DefaultHandshake, from its acceptance on; one
// that fails ends its connection only, with an abort.
type handshaker struct {
	base *Listener
	lc   *ListenConfig
	p    plannedHop

	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	slots  chan struct{}
	ready  chan stream
	wg     sync.WaitGroup
	ran    chan struct{} // closed when nothing more is accepted from the base

	mu       sync.Mutex
	draining bool
	closing  bool                            // nothing is added to wg any more
	err      error                           // accepting from the base failed for good
	deadline time.Time                       // of accept
	moved    chan struct{}                   // closed when the deadline was changed
	peers    map[netip.Prefix]*handshakePeer // those with a handshake in flight
	carriers map[net.Listener]struct{}       // connections that carry several streams
}

// A handshakePeer is an address that has handshakes in flight.
type handshakePeer struct {
	running int
	waiting []accepted // oldest first
}

// accepted is a connection of the base.
type accepted struct {
	c    *Conn
	when time.Time
}

func newHandshaker(base *Listener, lc *ListenConfig, p plannedHop) *handshaker {
	ctx, cancel := context.WithCancel(context.Background())
	h := &handshaker{
		base: base, lc: lc, p: p, ctx: ctx, cancel: cancel,
		slots: make(chan struct{}, maxHandshakes), ready: make(chan stream), moved: make(chan struct{}), ran: make(chan struct{}),
		peers: make(map[netip.Prefix]*handshakePeer), carriers: make(map[net.Listener]struct{}),
	}
	h.wg.Add(1)
	go h.run()
	return h
}

// run accepts until Close; Close waits for it and for every handshake.
func (h *handshaker) run() {
	defer h.wg.Done()
	defer close(h.ran)
	for {
		select {
		case h.slots <- struct{}{}:
		case <-h.ctx.Done():
			return
		}
		c, err := h.base.AcceptContext(h.ctx)
		if err != nil {
			<-h.slots
			h.mu.Lock()
			h.err = err
			draining := h.draining
			h.mu.Unlock()
			if !draining {
				h.finishRunning()
				h.cancel()
			}
			return
		}
		h.begin(accepted{c, time.Now()})
	}
}

// finishRunning waits for the handshakes in flight, when no more connections
// come: a listener through a hop accepts one and is at its end.
func (h *handshaker) finishRunning() {
	for range maxHandshakes {
		select {
		case h.slots <- struct{}{}:
		case <-h.ctx.Done():
			return
		}
	}
}

// peerOf is the address that shares one bound; false for carriers without.
func peerOf(c *Conn) (netip.Prefix, bool) {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	ip := a.AddrPort().Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	return p, err == nil
}

// begin starts the handshake of a connection, which has a slot, or lets it wait
// for others of its address and gives the slot back.
func (h *handshaker) begin(a accepted) {
	key, ok := peerOf(a.c)
	if ok {
		h.mu.Lock()
		p := h.peers[key]
		if p == nil {
			p = &handshakePeer{}
			h.peers[key] = p
		}
		if p.running >= maxHandshakesPerPeer {
			full := len(p.waiting) >= maxWaitingPerPeer
			if !full {
				p.waiting = append(p.waiting, a)
			}
			h.mu.Unlock()
			<-h.slots
			if full {
				_ = a.c.Abort()
			}
			return
		}
		p.running++
		h.mu.Unlock()
	}
	h.wg.Add(1)
	go h.handshake(a, key)
}

// next is the connection of the same address that a finished handshake makes
// room for.
func (h *handshaker) next(key netip.Prefix) (accepted, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.peers[key]
	if p == nil {
		return accepted{}, false
	}
	if len(p.waiting) == 0 {
		if p.running--; p.running == 0 {
			delete(h.peers, key)
		}
		return accepted{}, false
	}
	a := p.waiting[0]
	p.waiting = p.waiting[1:]
	return a, true
}

// handshake performs the handshakes over a connection and hands the top over;
// it has a slot, which it keeps for those of its address that wait.
func (h *handshaker) handshake(a accepted, key netip.Prefix) {
	defer h.wg.Done()
	defer func() { <-h.slots }()
	for ok := true; ok; a, ok = h.next(key) {
		ctx, cancel := context.WithDeadline(h.ctx, a.when.Add(DefaultHandshake))
		h.climb(ctx, a.c, len(h.p.transports)-2)
		cancel()
	}
}

// climb performs the handshakes of layer i and those above it over c.
func (h *handshaker) climb(ctx context.Context, c *Conn, i int) {
	var top stream
	for ; i >= 0; i-- {
		start := time.Now()
		var nc net.Conn
		var many net.Listener
		err := ctx.Err()
		if err == nil {
			if t := h.p.transports[i]; t.ServeMany != nil {
				many, err = t.ServeMany(ctx, c, h.p.targets[i])
			} else {
				nc, err = t.Server(ctx, c, h.p.targets[i])
			}
		}
		if h.lc.Trace != nil {
			c.emit(Event{Time: start, Duration: time.Since(start), Op: OpHandshake, Detail: h.p.transports[i].Scheme, Err: err})
		}
		if err != nil {
			_ = c.Abort()
			return
		}
		if many != nil {
			h.carry(many, i)
			return
		}
		top = asStream(nc)
		if i > 0 {
			c = h.wrap(top, i)
		}
	}
	h.handOver(top)
}

// wrap makes the stream of layer i a connection for the layer above.
func (h *handshaker) wrap(s stream, i int) *Conn {
	return newConn(0, h.p.transports[i].Scheme, s, capsFor(s, h.p.targets[i].Caps), h.lc.Options, h.lc.Group, h.lc.Trace)
}

func (h *handshaker) handOver(s stream) {
	select {
	case h.ready <- s:
	case <-h.ctx.Done():
		_ = s.Abort()
	}
}

// carry accepts the streams that one connection carries, on a goroutine of its
// own; Close and drain end it.
func (h *handshaker) carry(many net.Listener, i int) {
	h.mu.Lock()
	if h.closing || h.draining {
		h.mu.Unlock()
		many.Close()
		return
	}
	h.carriers[many] = struct{}{}
	h.wg.Add(1) // the handshake that calls this is still counted
	h.mu.Unlock()
	go h.acceptCarried(many, i)
}

func (h *handshaker) acceptCarried(many net.Listener, i int) {
	defer h.wg.Done()
	defer func() {
		h.mu.Lock()
		delete(h.carriers, many)
		h.mu.Unlock()
		many.Close()
	}()
	for {
		nc, err := many.Accept()
		if err != nil {
			return
		}
		s := asStream(nc)
		if i == 0 {
			h.handOver(s)
			continue
		}
		// Layers over a carried stream: one handshake at a time per carrier
		// would let a slow one hold up the others.
		select {
		case h.slots <- struct{}{}:
		case <-h.ctx.Done():
			_ = s.Abort()
			return
		}
		h.wg.Add(1)
		go h.climbCarried(s, i)
	}
}

// climbCarried performs the handshakes above layer i over a carried stream; it
// has a slot.
func (h *handshaker) climbCarried(s stream, i int) {
	defer h.wg.Done()
	defer func() { <-h.slots }()
	ctx, cancel := context.WithTimeout(h.ctx, DefaultHandshake)
	defer cancel()
	h.climb(ctx, h.wrap(s, i), i-1)
}

// endCarriers ends accepting from connections that carry several streams.
func (h *handshaker) endCarriers() {
	h.mu.Lock()
	var all []net.Listener
	for c := range h.carriers {
		all = append(all, c)
	}
	h.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

func (h *handshaker) accept() (stream, error) {
	for {
		h.mu.Lock()
		deadline, moved := h.deadline, h.moved
		h.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			t := time.NewTimer(time.Until(deadline))
			defer t.Stop()
			expired = t.C
		}
		select {
		case s := <-h.ready:
			return s, nil
		case <-h.ctx.Done():
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.err != nil {
				return nil, h.err
			}
			return nil, net.ErrClosed
		case <-expired:
			return nil, os.ErrDeadlineExceeded
		case <-moved:
		}
	}
}

func (h *handshaker) SetDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = t
	close(h.moved)
	h.moved = make(chan struct{})
	return nil
}

// drain accepts what waits at the base, closes that, lets the handshakes that
// are under way come to their end, and returns what came of them.
func (h *handshaker) drain() ([]stream, error) {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return nil, nil
	}
	h.draining = true
	h.wg.Add(1) // shakeAll, before the base's end lets wg become empty
	h.mu.Unlock()
	h.endCarriers()
	conns, err := h.base.Drain()
	go h.shakeAll(conns)
	done := make(chan struct{})
	go func() {
		h.wg.Wait()
		close(done)
	}()
	var streams []stream
	for {
		select {
		case s := <-h.ready:
			streams = append(streams, s)
		case <-done:
			return streams, err
		}
	}
}

// shakeAll starts the handshakes of conns, at most maxHandshakes at a time.
// drain owns it.
func (h *handshaker) shakeAll(conns []*Conn) {
	defer h.wg.Done()
	<-h.ran
	for i, c := range conns {
		select {
		case h.slots <- struct{}{}:
			h.begin(accepted{c, time.Now()})
		case <-h.ctx.Done():
			for _, c := range conns[i:] {
				_ = c.Abort()
			}
			return
		}
	}
}

func (h *handshaker) Addr() net.Addr { return h.base.Addr() }

func (h *handshaker) Close() error {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	h.cancel()
	h.endCarriers()
	err := h.base.Close()
	h.wg.Wait()
	return err
}
