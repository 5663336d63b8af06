package loop

import (
	"net"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/reactor"
)

// A Conn is a connection on a loop. Its methods may be called from the
// handlers of its loop only, except Post; none of them blocks.
type Conn struct {
	node  reactor.Node
	core  *core
	flags flags

	sent, received int64

	// Times are since the loop was made; 0 is not yet.
	opened, active time.Duration
	firstReceived  time.Duration

	peer    reactor.Peer
	co      *Stream // of Handler.Serve
	trouble *trouble
	value   any
}

// A trouble is what a connection does not need while nothing is wrong and
// nobody has ended: so one that is idle is small.
type trouble struct {
	out     *queue // what waits for the kernel; nil is nothing
	err     error  // the failure noticed by a write: the reader comes to it later
	drained int64
	queued  int64         // what waits in the queue of one that closes, at the last look
	until   time.Duration // its queue must have moved by then
	closeBy time.Duration
	result  error        // what Handler.Serve returned
	end     *anysock.End // for Stream.Disconnect

	readEnded, writeEnded time.Duration // 0: not yet, or nobody is told
}

type flags uint32

const (
	isTCP         flags = 1 << iota
	readEnded           // the peer's end was received
	writeEnded          // CloseWrite: nothing more may be written
	endSent             // and our end went out
	closing             // Close
	over                // the ending is recorded
	aborted             // by us
	paused              // nothing is received: PauseRead
	resting             // the kernel was out of memory for it
	edged               // watched by edges: what is level-triggered would be reported for ever
	disconnecting       // the reactor's Disconnect has it
	peerGaveUp          // reset: it ended first
	flooded             // enough of what comes after Close was discarded
	unwanted            // something came that the coroutine does not wait for
	byEdge              // watched by edges: told once, until it was read empty
	readable            // something may be there to be received
	hungUp              // an end or a failure was reported that is still to be received
	broken              // a failure was: it is come to, whatever is wanted
	running             // its coroutine is
	awaitsBytes         // its coroutine has given the loop back until bytes come
	awaitsRoom          // until what it wrote was taken
	awaitsEnding        // until the connection has ended
)

func (c *Conn) is(f flags) bool { return c.flags&f != 0 }

// extra is the Conn's trouble, made when first needed.
func (c *Conn) extra() *trouble {
	if c.trouble == nil {
		c.trouble = new(trouble)
	}
	return c.trouble
}

// queue is what waits for the kernel; nil is nothing.
func (c *Conn) queue() *queue {
	if c.trouble == nil {
		return nil
	}
	return c.trouble.out
}

// full reports whether so much waits that no more is taken.
func (c *Conn) full() bool {
	q := c.queue()
	return q != nil && q.len() >= c.core.limit
}

// Value is what SetValue kept for the handler.
func (c *Conn) Value() any { return c.value }

// SetValue keeps v for the handler.
func (c *Conn) SetValue(v any) { c.value = v }

// Received is how many bytes have come.
func (c *Conn) Received() int64 { return c.received }

// Sent is how many bytes Write has taken.
func (c *Conn) Sent() int64 { return c.sent }

// Queued is how many of the bytes that Write has taken wait for the kernel.
func (c *Conn) Queued() int {
	n := 0
	if c.core.corked == c {
		n = len(c.core.out)
	}
	if q := c.queue(); q != nil {
		n += q.len()
	}
	return n
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.peer.Addr().Net() }

// LocalAddr is the connection's own address; nil after its ending.
func (c *Conn) LocalAddr() net.Addr {
	if a := c.core.local; a != nil {
		return a // bound to one address, so all have it
	}
	if !c.node.Open() {
		return nil
	}
	a, err := c.core.loop.LocalAddr(&c.node)
	if err != nil {
		return nil
	}
	return a.Net()
}

// Post has f run on the connection's loop. It may be called from any
// goroutine, and does not wait. The connection may have ended when f runs. The
// error matches net.ErrClosed when the server has ended; it is of KindLimit
// when MaxPosts functions are waiting.
func (c *Conn) Post(f func()) error { return c.core.post(func() { c.call(f) }) }

// name is the peer for messages.
func (c *Conn) name() string {
	if !c.is(isTCP) {
		return "unix:" + c.core.name
	}
	return "tcp:" + c.RemoteAddr().String()
}

// call runs a handler: what it writes is collected until it returns, and what
// it ends is ended behind that.
func (c *Conn) call(f func()) {
	core := c.core
	before := core.corked
	if before == c {
		f()
		return
	}
	if before != nil {
		before.push()
	}
	core.corked = c
	core.protect(c, f)
	c.push()
	core.corked = before
	switch {
	case c.is(over):
	case c.is(closing):
		c.goOn()
	default:
		c.sendEnd()
	}
}

// rest stops receiving and sending for a moment: the kernel is out of memory.
func (c *Conn) rest() {
	c.flags |= resting
	c.watch()
	if c.node.Open() {
		c.core.loop.SetTimer(&c.node, shortage)
	}
}

// Expired is called by the loop: the one timer of a connection serves its
// rests, the patience of its Close, and its idle time.
func (c *Conn) Expired() {
	core := c.core
	now := core.loop.Elapsed()
	if c.is(resting) {
		c.flags &^= resting
		c.flush()
		c.watch()
		if c.is(over | disconnecting) {
			return
		}
	}
	if t := c.trouble; t != nil && t.closeBy > 0 {
		if t.out == nil {
			return
		}
		queued := int64(t.out.len())
		if queued < t.queued {
			t.queued, t.until = queued, now+core.opts.DrainTimeout
		}
		if now >= t.closeBy || now >= t.until {
			c.disconnected(reactor.Outcome{TheirEnd: c.is(readEnded), Unacked: int(c.unacked())})
			return
		}
		core.loop.SetTimer(&c.node, min(t.until, t.closeBy)-now)
		return
	}
	if core.idle <= 0 {
		return
	}
	if left := c.active + core.idle - now; left > 0 {
		core.loop.SetTimer(&c.node, left)
		return
	}
	_ = c.abortAs(anysock.Idle, &anysock.IdleError{After: core.idle})
}
