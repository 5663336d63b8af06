package loop

import (
	"errors"
	"syscall"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file receives: what is reported of a connection, what it is watched for,
// and how the peer's end and its failures are come to.

// Ready is called by the loop.
func (c *Conn) Ready(found sys.Events) {
	if found&sys.EventOut != 0 && c.queue() != nil {
		c.flush()
		if c.is(over | disconnecting) {
			return
		}
	}
	if found&^sys.EventOut != 0 {
		c.receive(found)
	}
}

// receive takes what has come, once: if there is more it comes to that after
// the others had their turn.
func (c *Conn) receive(found sys.Events) {
	if c.is(readEnded) {
		c.afterEnd(found&sys.EventError != 0)
		return
	}
	c.flags |= readable
	if found&(sys.EventPeerEnd|sys.EventHangUp|sys.EventError) != 0 {
		c.flags |= hungUp
	}
	if found&sys.EventError != 0 {
		c.flags |= broken
	}
	failing := c.is(broken)
	if c.held() {
		// Nothing is to be received for now.
		c.watch()
		return
	}
	if c.co != nil && !c.is(closing) {
		c.co.readable(failing)
		return
	}
	buffer := c.core.loop.Buffer
	n, err := c.core.loop.Recv(&c.node, buffer)
	if c.emptied(n, len(buffer)) {
		c.flags &^= readable
	}
	c.took(buffer, n, err, failing)
	if c.is(readable) && c.is(byEdge|broken) && !c.is(readEnded|over|disconnecting) && !c.held() {
		c.core.loop.Again(&c.node)
	}
}

// emptied reports whether a receive that brought n bytes of at most size has
// left nothing. That of a Unix socket may end where a message with descriptors
// does; but it is watched by level, so that what is left is reported.
func (c *Conn) emptied(n, size int) bool {
	return n <= 0 || !c.is(broken) && (n < size && !c.is(hungUp) || !c.is(byEdge))
}

// took has the bytes of one receive handled, or its end or failure.
func (c *Conn) took(p []byte, n int, err error, failing bool) {
	switch {
	case n > 0:
		c.gotBytes(n)
		if c.is(closing) {
			c.discard(n)
			return
		}
		c.call(func() { c.core.handler.Data(c, p[:n]) })
	case err == nil:
		c.peerEnded()
	case errors.Is(err, sys.ErrWouldBlock):
		if failing {
			c.fail(anysock.OpRead, c.core.loop.TakeError(&c.node))
		}
	default:
		c.recvFailed(err)
	}
}

// recvFailed rests if that may help.
func (c *Conn) recvFailed(err error) {
	if sys.ClassOf(err) == sys.Exhausted {
		c.flags |= readable // it has emptied nothing, and no edge will come for it again
		c.rest()
		return
	}
	c.fail(anysock.OpRead, err)
}

func (c *Conn) gotBytes(n int) {
	c.active = c.core.loop.Elapsed()
	if c.received == 0 {
		c.firstReceived = c.active
	}
	c.received += int64(n)
}

// held reports whether nothing may be received: the peer does not take what is
// written, or the handler does not want more.
func (c *Conn) held() bool {
	if c.is(broken) {
		return false
	}
	if c.is(closing) {
		return c.is(flooded)
	}
	if c.trouble != nil && c.trouble.err != nil {
		return false // the failure is what comes
	}
	return c.is(paused|resting|unwanted) || c.full()
}

// watch asks for what is wanted now.
func (c *Conn) watch() {
	if c.is(over | disconnecting) {
		return
	}
	held := c.held()
	var want sys.Events
	if c.is(byEdge) {
		// All that there is, and once asked for always: it is told once.
		want = inOrder | c.node.Wanted()&sys.EventOut
	} else if !c.is(readEnded) && !held {
		want = sys.EventIn // a hang-up would be reported for ever
	}
	if c.is(readable) && c.is(byEdge|broken) && !held && !c.is(readEnded) {
		c.core.loop.Again(&c.node)
	}
	if c.queue() != nil && !c.is(resting) {
		want |= sys.EventOut
	}
	if c.is(edged) {
		want |= sys.EventEdge
	}
	if err := c.core.loop.Want(&c.node, want); err != nil {
		c.fail(anysock.OpWait, err)
	}
}

// inOrder is what a connection that is watched by edges is watched for.
const inOrder = sys.EventIn | sys.EventPeerEnd | sys.EventEdge

// peerEnded: what came was an end, unless a write has failed before with
// anything but the kernel's word that the peer's end had come first
// (docs/notes/so-error).
func (c *Conn) peerEnded() {
	if t := c.trouble; t != nil && t.err != nil && !errors.Is(t.err, syscall.EPIPE) {
		c.fail(anysock.OpRead, t.err)
		return
	}
	c.theyEnded()
	switch {
	case c.trouble != nil && c.trouble.err != nil:
		c.fail(anysock.OpWrite, c.trouble.err)
		return
	case c.is(closing):
		c.goOn()
		return
	case c.co != nil:
		c.co.readable(false)
	case c.core.handler.End == nil:
		c.Close()
	default:
		c.call(func() { c.core.handler.End(c) })
	}
	c.watch()
}

// afterEnd is called for what is reported of a connection whose peer has ended.
func (c *Conn) afterEnd(failing bool) {
	if failing {
		if err := c.core.loop.TakeError(&c.node); err != nil {
			c.fail(anysock.OpWrite, err)
			return
		}
	}
	// A Unix socket whose peer is gone hangs up, and would do so for ever.
	c.flags |= edged
	c.watch()
}

// PauseRead stops receiving until ResumeRead, so that the peer is held up once
// the kernel's buffers are full. That it resets is noticed all the same.
func (c *Conn) PauseRead() { c.flags |= paused } // asked for when something has come: often that is never

// ResumeRead ends a PauseRead.
func (c *Conn) ResumeRead() {
	if c.is(paused) {
		c.flags &^= paused
		c.watch()
	}
}
