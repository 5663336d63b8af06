package anysock

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// maxHandshakes bounds the handshakes in flight of one listener; further
// connections wait in the backlog.
const maxHandshakes = 1024

// A handshaker is the acceptor of a layered address: it accepts from the base
// and performs the layers' handshakes aside, so that a slow or silent client
// holds up nobody. Each handshake is bounded by DefaultHandshake; one that
// fails ends its connection only, with an abort.
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
	closing  bool          // nothing is added to wg any more
	err      error         // accepting from the base failed for good
	deadline time.Time     // of accept
	moved    chan struct{} // closed when the deadline was changed
}

func newHandshaker(base *Listener, lc *ListenConfig, p plannedHop) *handshaker {
	ctx, cancel := context.WithCancel(context.Background())
	h := &handshaker{
		base: base, lc: lc, p: p, ctx: ctx, cancel: cancel,
		slots: make(chan struct{}, maxHandshakes), ready: make(chan stream), moved: make(chan struct{}), ran: make(chan struct{}),
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
				h.cancel()
			}
			return
		}
		h.wg.Add(1)
		go h.handshake(c)
	}
}

// handshake performs the handshakes over c and hands the top over; it has a
// slot.
func (h *handshaker) handshake(c *Conn) {
	defer h.wg.Done()
	defer func() { <-h.slots }()
	ctx, cancel := context.WithTimeout(h.ctx, DefaultHandshake)
	defer cancel()
	var top stream
	for i := len(h.p.transports) - 2; i >= 0; i-- {
		t, start := h.p.transports[i], time.Now()
		nc, err := t.Server(ctx, c, h.p.targets[i])
		if h.lc.Trace != nil {
			c.emit(Event{Time: start, Duration: time.Since(start), Op: OpHandshake, Detail: t.Scheme, Err: err})
		}
		if err != nil {
			_ = c.Abort()
			return
		}
		top = asStream(nc)
		if i > 0 {
			c = newConn(0, t.Scheme, top, h.p.targets[i].Caps, h.lc.Options, h.lc.Group, h.lc.Trace)
		}
	}
	select {
	case h.ready <- top:
	case <-h.ctx.Done():
		_ = top.Abort()
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
			h.wg.Add(1)
			go h.handshake(c)
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
	err := h.base.Close()
	h.wg.Wait()
	return err
}
