package loop

import (
	"errors"
	"net"
	"syscall"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// ErrFull is the cause of a Write that was not taken because the peer does not
// take what was written before: Handler.Sent is told when there is room.
var ErrFull = errors.New("the write buffer is full: the peer does not take what was written")

// Write takes p, all or nothing, and returns its length. What the kernel does
// not take now goes out when there is room, in order; p may be used again at
// once. As long as Server.WriteBuffer bytes are waiting or more, Write takes
// nothing, with an error of KindLimit that matches ErrFull. After CloseWrite and
// Close the error is of KindState, after the ending it matches net.ErrClosed,
// and after a failure it is that.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.writable(); err != nil {
		return 0, err
	}
	if c.full() {
		return 0, &anysock.Error{Op: anysock.OpWrite, Addr: c.name(), Kind: anysock.KindLimit, Err: ErrFull}
	}
	c.put(p)
	return len(p), nil
}

// put sends p, collects it, or queues it behind what waits.
func (c *Conn) put(p []byte) {
	core := c.core
	switch {
	case c.queue() != nil:
		c.trouble.out.add(p)
	case core.corked != c:
		c.sendOrQueue(p)
	case len(p) >= largeWrite && len(core.out) == 0:
		c.sendOrQueue(p)
	default:
		if len(core.out)+len(p) > corkSize {
			c.push()
		}
		switch {
		case c.queue() != nil:
			c.trouble.out.add(p)
		case len(p) > corkSize:
			c.sendOrQueue(p)
		default:
			core.out = append(core.out, p...)
		}
	}
	c.active = core.loop.Elapsed()
	c.sent += int64(len(p))
}

// writable is nil if more may be written.
func (c *Conn) writable() error {
	switch {
	case c.trouble != nil && c.trouble.err != nil && !c.is(aborted):
		return c.failure(anysock.OpWrite, c.trouble.err)
	case c.is(over):
		return &anysock.Error{Op: anysock.OpWrite, Addr: c.name(), Kind: anysock.KindClosed, Err: net.ErrClosed}
	case c.is(writeEnded):
		return &anysock.Error{Op: anysock.OpWrite, Addr: c.name(), Kind: anysock.KindState, Err: errWriteEnded}
	}
	return nil
}

var errWriteEnded = errors.New("our direction has ended")

// push sends what was collected of a handler's writes.
func (c *Conn) push() {
	core := c.core
	if len(core.out) > 0 {
		out := core.out
		core.out = core.out[:0]
		if !c.is(over) {
			c.sendOrQueue(out)
		}
	}
}

// sendOrQueue sends p, and keeps what the kernel does not take; there is no
// queue before.
func (c *Conn) sendOrQueue(p []byte) {
	n, err := c.core.loop.Send(&c.node, p)
	if n > 0 {
		c.owe()
	}
	if n == len(p) {
		return
	}
	if err != nil && !errors.Is(err, sys.ErrWouldBlock) && sys.ClassOf(err) != sys.Exhausted {
		c.breakOff(err)
		return
	}
	q := c.core.getQueue()
	q.add(p[n:])
	c.extra().out = q
	if err != nil && !errors.Is(err, sys.ErrWouldBlock) {
		c.rest()
		return
	}
	c.watch()
}

// flush sends from the queue.
func (c *Conn) flush() {
	q := c.queue()
	if q == nil || c.is(resting|over) {
		return
	}
	n, err := c.core.loop.Send(&c.node, q.bytes())
	if n > 0 {
		q.drop(n)
		c.active = c.core.loop.Elapsed()
		c.owe()
	}
	switch {
	case err != nil && !errors.Is(err, sys.ErrWouldBlock):
		if sys.ClassOf(err) == sys.Exhausted {
			c.rest()
			return
		}
		c.breakOff(err)
		return
	case q.len() > 0:
		return
	}
	c.dropQueue()
	if c.is(closing) {
		c.goOn()
		return
	}
	c.sendEnd()
	if c.co != nil {
		c.co.writable()
		c.watch()
		return
	}
	// What had to wait for this comes before more is written, so that who always
	// has something to write hears of its peer.
	unheard := c.is(readable) || c.node.Wanted()&sys.EventIn == 0
	if unheard && !c.is(over|readEnded) && !c.held() {
		c.receive(0)
	}
	if c.core.handler.Sent != nil && c.queue() == nil && !c.is(over|closing) {
		c.call(func() { c.core.handler.Sent(c) })
	}
	c.watch()
}

// breakOff keeps the failure of a write. What the peer had sent before is there
// to be read, and its end or the failure after it; unless it had ended before.
func (c *Conn) breakOff(err error) {
	c.dropQueue()
	if c.is(readEnded) {
		c.fail(anysock.OpWrite, err)
		return
	}
	t := c.extra()
	if t.err == nil {
		t.err = err
	}
	// Whether or not anything is reported of it: what is there is read now.
	c.flags |= readable | hungUp | broken
	c.core.loop.Again(&c.node)
	if errors.Is(err, syscall.EPIPE) && c.is(closing) {
		// Their end comes first, and is still to be read.
		c.watch()
		return
	}
	if c.co != nil {
		c.co.writable()
	}
	c.watch()
}

// A queue is what waits for the kernel, in one piece.
type queue struct {
	b   []byte
	off int
}

func (q *queue) len() int      { return len(q.b) - q.off }
func (q *queue) bytes() []byte { return q.b[q.off:] }

func (q *queue) drop(n int) {
	q.off += n
	if q.off == len(q.b) {
		q.b, q.off = q.b[:0], 0
	}
}

func (q *queue) add(p []byte) {
	// What was sent makes room before more is asked for.
	if q.off > 0 && len(q.b)+len(p) > cap(q.b) {
		q.b = q.b[:copy(q.b, q.b[q.off:])]
		q.off = 0
	}
	q.b = append(q.b, p...)
}

// dropQueue gives the connection's queue back, if it has one.
func (c *Conn) dropQueue() {
	if q := c.queue(); q != nil {
		c.core.putQueue(q)
		c.trouble.out = nil
	}
}

// getQueue takes one of those that the loop keeps.
func (core *core) getQueue() *queue {
	if n := len(core.queues); n > 0 {
		q := core.queues[n-1]
		core.queues = core.queues[:n-1]
		return q
	}
	return new(queue)
}

func (core *core) putQueue(q *queue) {
	q.b, q.off = q.b[:0], 0
	if len(core.queues) < keptQueues && cap(q.b) <= keptQueue {
		core.queues = append(core.queues, q)
	}
}
