package loop

import (
	"errors"
	"syscall"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
)

// This file ends a connection in order: our end behind everything written, then
// Close, until all is acknowledged.

// CloseWrite ends our direction (shutdown(2)) when everything written has gone
// out. What the peer sends is received further on. The error is of KindState
// after Close and after the ending.
func (c *Conn) CloseWrite() error {
	if err := c.writable(); err != nil {
		if c.is(writeEnded) && !c.is(closing|over) {
			return nil
		}
		return err
	}
	c.flags |= writeEnded
	if c.core.corked != c { // else it goes out behind the rest
		c.sendEnd()
	}
	return nil
}

// sendEnd sends our end if it is due and nothing is in front of it.
func (c *Conn) sendEnd() {
	if !c.is(writeEnded) || c.is(endSent|over) || c.queue() != nil || !c.node.Open() {
		return
	}
	c.flags |= endSent
	c.weEnded()
	if err := c.core.loop.CloseWrite(&c.node); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		c.fail(anysock.OpShutdown, err)
		return
	}
	c.owe()
}

// weEnded notes when our end went out, and theyEnded when the peer's came in,
// for the record of the ending.
func (c *Conn) weEnded() {
	if c.core.records {
		c.extra().writeEnded = max(1, c.core.loop.Elapsed())
	}
}

func (c *Conn) theyEnded() {
	c.flags |= readEnded
	if c.core.records {
		c.extra().readEnded = max(1, c.core.loop.Elapsed())
	}
}

// owe has the connection looked at for silence.
func (c *Conn) owe() {
	if c.is(isTCP) && c.core.monitor != nil {
		c.core.monitor.Owe(&c.node)
	}
}

// Close ends the connection in order, on the loop: what was written goes out,
// then our end; what still comes is discarded until the peer's end or the
// bounds of Options are reached; and acknowledgement is waited for. The handler
// hears no more of it but Ended. In all it takes Options.CloseTimeout at most.
// Closing twice does nothing.
func (c *Conn) Close() {
	if c.is(closing | over) {
		return
	}
	c.flags |= closing | writeEnded
	if c.core.corked != c { // else when the handler has returned
		c.goOn()
	}
}

// goOn does the next step of a Close: the queue, then the disconnect.
func (c *Conn) goOn() {
	if !c.is(closing) || c.is(over|disconnecting) {
		return
	}
	if t := c.trouble; t != nil && t.err != nil {
		c.fail(anysock.OpDisconnect, t.err) // a write has found that out
		return
	}
	core := c.core
	now := core.loop.Elapsed()
	if q := c.queue(); q != nil {
		t := c.trouble
		if t.closeBy == 0 {
			t.closeBy = now + core.opts.CloseTimeout
			t.until = now + core.opts.DrainTimeout
			t.queued = int64(q.len())
			if !c.is(resting) { // else the timer is set, and its end looks at the bounds
				core.loop.SetTimer(&c.node, min(core.opts.DrainTimeout, core.opts.CloseTimeout))
			}
		}
		c.watch()
		return
	}
	if c.is(readEnded) && !c.is(edged) && c.settled() {
		return
	}
	b := reactor.Bounds{DrainBytes: core.opts.DrainBytes, Patience: core.opts.DrainTimeout, Total: core.opts.CloseTimeout}
	var before int64
	if t := c.trouble; t != nil {
		before = t.drained
		if b.DrainBytes > 0 {
			b.DrainBytes = max(0, b.DrainBytes-before)
			if b.DrainBytes == 0 {
				b.DrainBytes = -1
			}
		}
		if t.closeBy > 0 {
			b.Total = max(1, t.closeBy-now)
		}
	}
	if !c.is(endSent) {
		c.weEnded()
	}
	sent := c.is(endSent)
	c.flags |= endSent | disconnecting
	core.loop.Disconnect(&c.node, c.is(isTCP), sent, c.is(readEnded), b, c.disconnected)
}

// settled closes at once what has nothing to wait for: the peer has ended, and
// all of ours is acknowledged. Its kernel has our end from then on to deliver.
func (c *Conn) settled() bool {
	if c.counted() && c.sent > 0 {
		if n, err := c.core.loop.Unacked(&c.node); err != nil || n > 0 {
			return false
		}
	}
	if !c.is(endSent) {
		c.weEnded()
	}
	end := anysock.End{How: anysock.Graceful}
	if c.is(isTCP) && reactor.AcksKnown {
		end.AckedBy = anysock.AckedKernel
	}
	c.finish(end)
	return true
}

// disconnected has the outcome of the reactor's disconnect.
func (c *Conn) disconnected(o reactor.Outcome) {
	c.received += o.Drained
	if c.received > 0 && c.firstReceived == 0 {
		c.firstReceived = max(1, c.core.loop.Elapsed())
	}
	if o.Drained > 0 {
		c.extra().drained += o.Drained
	}
	if o.TheirEnd && !c.is(readEnded) {
		c.theyEnded()
	}
	end := anysock.End{Unacked: int64(o.Unacked)}
	switch {
	case c.is(aborted):
		end.How, end.Err = anysock.AbortedByUs, c.trouble.err
	case o.Err != nil:
		var how int
		how, end.Err = bridge.Failure(anysock.OpDisconnect, c.name(), o.Err)
		end.How = anysock.How(how)
		c.blame(end.How)
	case o.Unacked > 0:
		end.How = anysock.Lost
		end.Err = &anysock.Error{
			Op: anysock.OpDisconnect, Addr: c.name(), Kind: anysock.KindLost, Err: &UnackedError{Bytes: end.Unacked},
			Hint: "the peer does not read, or the path to it is gone; allow more time, or abort",
		}
	default:
		end.How = anysock.Delivered
		if o.TheirEnd {
			end.How = anysock.Graceful
		}
		if c.is(isTCP) && reactor.AcksKnown {
			end.AckedBy = anysock.AckedKernel
		}
	}
	c.finish(end)
}

// discard counts what comes while the queue of a Close empties.
func (c *Conn) discard(n int) {
	t := c.extra()
	t.drained += int64(n)
	if c.core.opts.DrainBytes < 0 || t.drained >= c.core.opts.DrainBytes {
		c.flags |= flooded // we have seen enough
		c.watch()
	}
}
