package anysock

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// Readiness is a set of conditions that Conn.Wait and a Selector wait for and
// report. Looking consumes nothing: neither data nor a pending error.
type Readiness uint8

// The conditions. HungUp and Failed are reported whether asked for or not.
const (
	Readable Readiness = Readiness(sys.Readable) // data, the peer's end or an error is there for Read
	Writable Readiness = Readiness(sys.Writable) // Write would take at least some bytes, or fail
	PeerEnd  Readiness = Readiness(sys.PeerEnd)  // the peer has ended its direction; data may precede the end
	HungUp   Readiness = Readiness(sys.HungUp)   // both directions are over
	Failed   Readiness = Readiness(sys.Failed)   // an error is pending
)

// String is the conditions' names, separated by |.
func (r Readiness) String() string { return sys.Ready(r).String() }

// Wait waits until one of the conditions in want is met, or HungUp or Failed,
// and returns those that are. Nothing is consumed and no turn is taken: reads
// and writes may be at work. low is the number of bytes that make a
// connection Readable (1 if it is smaller; at most half the receive buffer);
// the peer's end or an error makes it so with fewer.
//
// The time-out is ctx's; then the error matches ctx's. After Close or Abort
// it matches net.ErrClosed. Without a descriptor two things can be waited for,
// and others are ErrUnsupported: Readable, for which Wait takes the reader's
// turn and keeps what it receives for the next Read; and failure alone (want
// 0), where the transport can tell.
func (c *Conn) Wait(ctx context.Context, want Readiness, low int) (Readiness, error) {
	if c.trace == nil {
		return c.wait(ctx, want, max(low, 1))
	}
	start, detail := time.Now(), want.String()
	if t, ok := ctx.Deadline(); ok {
		detail += ", at most " + t.Sub(start).Round(time.Millisecond).String()
	}
	r, err := c.wait(ctx, want, max(low, 1))
	c.emit(Event{Time: start, Duration: time.Since(start), Op: OpWait, Detail: detail, Err: err})
	return r, err
}

func (c *Conn) wait(ctx context.Context, want Readiness, low int) (Readiness, error) {
	if c.is(flagGone) {
		return 0, closedError(OpWait, c.peerName())
	}
	fd := c.kernel()
	if fd == nil {
		if want&^(HungUp|Failed) == 0 {
			return c.waitForFailure(ctx)
		}
		return c.waitByReading(ctx, want, low)
	}
	if low > 1 {
		if v, err := fd.Int(sys.ReceiveBuffer); err == nil {
			low = max(1, min(low, v/2))
		}
	}
	r, err := watchReadiness(ctx, c, fd, want, low)
	if errors.Is(err, errors.ErrUnsupported) {
		return c.waitByReading(ctx, want, low)
	}
	if err != nil {
		return 0, c.callErrorOnWait(err)
	}
	return r, nil
}

func (c *Conn) callErrorOnWait(err error) error {
	if c.is(flagGone) {
		return closedError(OpWait, c.peerName())
	}
	return c.opError(OpWait, err)
}

// ready looks once; 0 if none of the wanted conditions is met.
func (c *Conn) ready(fd *sys.FD, want Readiness, low int) (Readiness, error) {
	sr, err := fd.Readiness()
	if err != nil {
		return 0, err
	}
	r := Readiness(sr)
	kept := len(c.unread())
	if kept > 0 {
		r |= Readable
	}
	if r&Readable != 0 && low > 1 && r&(PeerEnd|HungUp|Failed) == 0 {
		n, err := fd.Unread()
		if err != nil {
			return 0, err
		}
		if n+kept < low {
			r &^= Readable
		}
	}
	return r & (want | HungUp | Failed), nil
}

// waitForFailure is Wait for HungUp and Failed alone, without a descriptor of
// its own. A stream that knows of a reset or a cut without being read has a
// method Failed, whose channel is closed then; a layer's carrier may know too.
func (c *Conn) waitForFailure(ctx context.Context) (Readiness, error) {
	s, tells := optionally[interface{ Failed() <-chan struct{} }](c.s)
	fd := c.bottom()
	if !tells && fd == nil {
		return 0, unsupported(OpWait, c.peerName(), c.network()+" cannot tell a failure without being read")
	}
	if !tells {
		r, err := watchReadiness(ctx, c, fd, 0, 1)
		if err != nil {
			err = c.callErrorOnWait(err)
		}
		return r, err
	}
	var below chan Readiness
	if fd != nil {
		below = make(chan Readiness, 1)
		bctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if r, err := watchReadiness(bctx, c, fd, 0, 1); err == nil {
				below <- r
			}
		}()
		defer func() {
			cancel()
			<-done
		}()
	}
	select {
	case r := <-below:
		return r, nil
	case <-s.Failed():
		return Failed, nil
	case <-c.Done():
		if c.is(flagFailed) {
			return Failed, nil
		}
		return 0, closedError(OpWait, c.peerName())
	case <-ctx.Done():
		return 0, c.opError(OpWait, ctx.Err())
	}
}

// waitByReading is Wait for a carrier without readiness: it reads ahead.
func (c *Conn) waitByReading(ctx context.Context, want Readiness, low int) (Readiness, error) {
	if want&^(HungUp|Failed|PeerEnd) != Readable {
		return 0, unsupported(OpWait, c.peerName(), "waiting for "+want.String()+" needs a descriptor")
	}
	low = min(low, DefaultReadBuffer)
	if err := c.rd.lock(ctx); err != nil {
		return 0, c.opError(OpWait, err)
	}
	defer c.rd.unlock()
	for {
		switch f := c.flags.Load(); {
		case f&flagGone != 0:
			return 0, closedError(OpWait, c.peerName())
		case f&flagReadEnded != 0:
			return Readable | PeerEnd, nil
		case f&flagFailed != 0:
			return Readable | Failed, nil
		case len(c.unread()) >= low:
			return Readable, nil
		}
		buf := make([]byte, low-len(c.unread()))
		w, err := c.rd.begin(ctx)
		if err != nil {
			return 0, c.opError(OpWait, err)
		}
		n, err := c.s.Read(buf)
		c.rd.end(w)
		if n > 0 {
			c.gotBytes(n)
			c.setUnread(append(c.unread(), buf[:n]...))
		}
		if err == nil {
			continue
		}
		err = c.readError(ctx, err)
		if !errors.Is(err, io.EOF) && !c.is(flagFailed) {
			return 0, err // a deadline, the context, or Close
		}
	}
}

// readiness is the process's one epoll instance for Conn.Wait. Its goroutine
// runs while anybody waits.
var readiness readinessWatch

type readinessWatch struct {
	mu      sync.Mutex
	poller  *sys.Poller
	entries map[uint64]*watched // by the connection's number
}

// A watched is one connection that somebody waits for.
type watched struct {
	c       *Conn
	fd      *sys.FD
	poller  *sys.Poller
	want    Readiness // all that the waiters want
	waiters map[chan struct{}]struct{}
	err     error // the poller failed
}

// watchReadiness waits for c. Registration is edge-triggered, so every
// arrival wakes the waiters, and each looks for itself.
func watchReadiness(ctx context.Context, c *Conn, fd *sys.FD, want Readiness, low int) (Readiness, error) {
	if r, err := c.ready(fd, want, low); r != 0 || err != nil {
		return r, err
	}
	wake := make(chan struct{}, 1)
	e, err := readiness.enter(c, fd, want, wake)
	if err != nil {
		return 0, err
	}
	defer readiness.leave(e, wake)
	for {
		// Looking after entering misses nothing: later events wake us.
		if c.is(flagGone) {
			return 0, closedError(OpWait, c.peerName())
		}
		if r, err := c.ready(fd, want, low); r != 0 || err != nil {
			return r, err
		}
		select {
		case <-wake:
			if err := e.failed(); err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (w *readinessWatch) enter(c *Conn, fd *sys.FD, want Readiness, wake chan struct{}) (*watched, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poller == nil {
		p, err := sys.NewPoller()
		if err != nil {
			return nil, err
		}
		w.poller = p
		w.entries = make(map[uint64]*watched)
		go w.run(p)
	}
	e := w.entries[c.id]
	var err error
	if e == nil {
		e = &watched{c: c, fd: fd, poller: w.poller, want: want, waiters: make(map[chan struct{}]struct{})}
		err = w.poller.Add(fd, c.id, sys.Ready(want), true)
	} else if e.want|want != e.want {
		e.want |= want
		err = w.poller.Modify(fd, c.id, sys.Ready(e.want), true)
	}
	if err != nil {
		w.stopIfIdle()
		return nil, err
	}
	e.waiters[wake] = struct{}{}
	w.entries[c.id] = e
	c.waiting.Add(1)
	return e, nil
}

func (w *readinessWatch) leave(e *watched, wake chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.c.waiting.Add(-1)
	delete(e.waiters, wake)
	if e.poller != w.poller || len(e.waiters) > 0 {
		return
	}
	delete(w.entries, e.c.id)
	_ = e.poller.Remove(e.fd) // a closed one has left by itself
	w.stopIfIdle()
}

// stopIfIdle ends the goroutine when nobody waits; mu is held.
func (w *readinessWatch) stopIfIdle() {
	if len(w.entries) == 0 && w.poller != nil {
		w.poller.Close()
		w.poller = nil
	}
}

// run is owned by those who wait: it ends when the last has left, or when the
// poller fails, which all of them are told.
func (w *readinessWatch) run(p *sys.Poller) {
	var events []sys.PollEvent
	var err error
	for err == nil {
		events, err = p.Wait(events[:0])
		w.mu.Lock()
		for _, ev := range events {
			if e := w.entries[ev.Key]; e != nil && e.poller == p {
				e.wake()
			}
		}
		if err != nil && w.poller == p {
			for _, e := range w.entries {
				e.err = err
				e.wake()
			}
			p.Close()
			w.poller = nil
		}
		w.mu.Unlock()
	}
}

// wakeConn lets those who wait for c look again: it was closed.
func (w *readinessWatch) wakeConn(c *Conn) {
	if c.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	if e := w.entries[c.id]; e != nil {
		e.wake()
	}
	w.mu.Unlock()
}

func (e *watched) wake() {
	for ch := range e.waiters {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// failed is the poller's error, read by a waiter that was woken.
func (e *watched) failed() error {
	readiness.mu.Lock()
	defer readiness.mu.Unlock()
	return e.err
}
