package loop

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// A Conn is a connection on a loop. Its methods may be called from the
// handlers of its loop only, except Post; none of them blocks.
type Conn struct {
	node  reactor.Node
	core  *core
	flags flags

	sent, received int64

	// Times are since the loop was made; 0 is not yet.
	opened, active      time.Duration
	firstReceived       time.Duration
	readEnded, endWrote time.Duration

	peer    reactor.Peer
	out     *queue  // what waits for the kernel; nil is nothing
	co      *Stream // of Handler.Serve
	trouble *trouble
	value   any
}

// A trouble is what few connections need.
type trouble struct {
	err     error // the failure noticed by a write: the reader comes to it later
	drained int64
	queued  int64         // what waits in the queue of one that closes, at the last look
	until   time.Duration // its queue must have moved by then
	closeBy time.Duration
	result  error        // what Handler.Serve returned
	end     *anysock.End // for Stream.Disconnect
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
)

func (c *Conn) is(f flags) bool { return c.flags&f != 0 }

// extra is the Conn's trouble, made when first needed.
func (c *Conn) extra() *trouble {
	if c.trouble == nil {
		c.trouble = new(trouble)
	}
	return c.trouble
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
	if c.out != nil {
		n += c.out.len()
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

// Ready is called by the loop.
func (c *Conn) Ready(found sys.Events) {
	if found&sys.EventOut != 0 && c.out != nil {
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
	return c.is(paused|resting|unwanted) || c.out != nil && c.out.len() >= c.core.limit
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
	if c.out != nil && !c.is(resting) {
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
	c.flags |= readEnded
	c.readEnded = c.core.loop.Elapsed()
	if c.readEnded == 0 {
		c.readEnded = 1
	}
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
	if !c.is(writeEnded) || c.is(endSent|over) || c.out != nil || !c.node.Open() {
		return
	}
	c.flags |= endSent
	c.endWrote = max(1, c.core.loop.Elapsed())
	if err := c.core.loop.CloseWrite(&c.node); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		c.fail(anysock.OpShutdown, err)
		return
	}
	c.owe()
}

// owe has the connection looked at for silence.
func (c *Conn) owe() {
	if c.is(isTCP) && c.core.monitor != nil {
		c.core.monitor.Owe(&c.node)
	}
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
	if c.out != nil {
		t := c.extra()
		if t.closeBy == 0 {
			t.closeBy = now + core.opts.CloseTimeout
			t.until = now + core.opts.DrainTimeout
			t.queued = int64(c.out.len())
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
		c.endWrote = max(1, now)
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
		c.endWrote = max(1, c.core.loop.Elapsed())
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
		c.flags |= readEnded
		c.readEnded = max(1, c.core.loop.Elapsed())
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

// Abort ends the connection at once, discards what is unsent, and lets the
// peer see a reset. A Unix socket has none: it is closed, the peer may take
// that for an end, and the error matches errors.ErrUnsupported. A reset by the
// peer that nobody had read yet is the ending. Aborting twice does nothing.
func (c *Conn) Abort() error { return c.abortAs(anysock.AbortedByUs, nil) }

func (c *Conn) abortAs(how anysock.How, cause error) error {
	if c.is(over) {
		return nil
	}
	loop := c.core.loop
	if cause == nil {
		cause = &anysock.Error{Op: anysock.OpAbort, Addr: c.name(), Kind: anysock.KindClosed, Err: errAborted}
	}
	if c.is(disconnecting) {
		c.flags |= aborted
		c.extra().err = cause
		loop.Abandon(&c.node, c.is(isTCP), cause)
		return c.abortError(nil)
	}
	if reason := loop.TakeError(&c.node); reason != nil && how == anysock.AbortedByUs {
		c.fail(anysock.OpAbort, reason)
		return nil
	}
	end := anysock.End{How: how, Err: cause, Unacked: c.unacked()}
	var err error
	if c.is(isTCP) {
		err = loop.DiscardOnClose(&c.node)
	}
	c.finish(end)
	return c.abortError(err)
}

// abortError is what an abort reports: err, or that there is no such thing.
func (c *Conn) abortError(err error) error {
	if err != nil {
		return bridge.OpError(anysock.OpAbort, c.name(), err)
	}
	if !c.is(isTCP) {
		return &anysock.Error{Op: anysock.OpAbort, Addr: c.name(), Kind: anysock.KindUnsupported, Err: errNoAbort}
	}
	return nil
}

var (
	errAborted = errors.New("aborted on our side")
	errNoAbort = errors.New("unix has no abort: closed, and the peer may take it for an end")
)

// counted reports whether Unacked tells what is under way.
func (c *Conn) counted() bool { return c.is(isTCP) || !reactor.AcksKnown }

// unacked is how many bytes of ours nobody has confirmed.
func (c *Conn) unacked() int64 {
	n := int64(c.Queued())
	if c.counted() && c.node.Open() {
		if u, err := c.core.loop.Unacked(&c.node); err == nil {
			if c.is(endSent) && u > 0 {
				u--
			}
			n += int64(u)
		}
	}
	return n
}

// fail records what ended the connection.
func (c *Conn) fail(op string, err error) {
	if c.is(over) {
		return
	}
	if t := c.trouble; t != nil && t.err != nil {
		err = t.err // the kernel tells a reset once
	}
	if err == nil {
		err = syscall.ECONNRESET
	}
	c.extra().err = err
	how, e := bridge.Failure(op, c.name(), err)
	end := anysock.End{How: anysock.How(how), Err: e, Unacked: c.unacked()}
	c.blame(end.How)
	c.finish(end)
}

// failure is a cause as the error of a call.
func (c *Conn) failure(op string, err error) error {
	_, e := bridge.Failure(op, c.name(), err)
	return e
}

// lose ends the connection because the peer is silent.
func (c *Conn) lose(silent time.Duration) {
	_ = c.core.loop.SetInt(&c.node, sys.MaxRetransmit, int(fullPatience/time.Millisecond)) // unsupported: nothing to lift
	e := &anysock.Error{
		Op: anysock.OpWait, Addr: c.name(), Kind: anysock.KindLost, Err: syscall.ETIMEDOUT,
		Hint: "nothing was heard for " + silent.Round(time.Millisecond).String() + " while data is unacknowledged: the peer or the path to it is gone",
	}
	if c.is(disconnecting) {
		c.core.loop.Abandon(&c.node, false, e)
		return
	}
	c.extra().err = syscall.ETIMEDOUT
	c.finish(anysock.End{How: anysock.Lost, Err: e, Unacked: c.unacked()})
}

// fullPatience is the kernel's own for retransmissions: what is closed with
// something owed is to have it (docs/notes/lost-peer).
const fullPatience = 120 * time.Second

// blame notes that a peer which resets has ended first, unless we had.
func (c *Conn) blame(how anysock.How) {
	if how == anysock.AbortedByPeer {
		c.flags |= peerGaveUp
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
		if c.out == nil {
			return
		}
		queued := int64(c.out.len())
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
	_ = c.abortAs(anysock.Idle, &IdleError{After: core.idle})
}

// finish records the ending, closes the descriptor, and tells the handler.
func (c *Conn) finish(end anysock.End) {
	if c.is(over) {
		return
	}
	c.flags |= over
	core := c.core
	tell := core.handler.Ended
	if tell != nil || c.co != nil {
		c.complete(&end)
	}
	if c.is(isTCP) && (c.Queued() > 0 || !end.How.Complete() && end.How != anysock.Lost) {
		// Bytes may be missing: it must not look like an end. What is lost after
		// all of it reached the kernel, that goes on trying to deliver.
		_ = core.loop.DiscardOnClose(&c.node)
	}
	core.loop.Close(&c.node)
	if c.out != nil {
		core.putQueue(c.out)
		c.out = nil
	}
	if core.corked == c {
		core.out = core.out[:0]
	}
	core.gone()
	if c.co != nil {
		kept := end
		c.extra().end = &kept
		c.co.over()
	}
	if tell != nil {
		core.protect(c, func() { tell(c, end) })
	}
}

// complete fills in what the connection knows of its ending.
func (c *Conn) complete(end *anysock.End) {
	loop := c.core.loop
	end.Local, end.Peer = c.LocalAddr(), c.RemoteAddr()
	end.By = c.endedFirst(end.How)
	end.Sent, end.Received = c.sent, c.received
	if c.trouble != nil {
		end.Drained = c.trouble.drained
	}
	at := func(d time.Duration) time.Time {
		if d == 0 {
			return time.Time{}
		}
		return loop.At(d)
	}
	end.Opened, end.FirstReceived = loop.At(c.opened), at(c.firstReceived)
	end.WriteEnded, end.ReadEnded = at(c.endWrote), at(c.readEnded)
	end.Ended = loop.Now()
}

// endedFirst says which side did.
func (c *Conn) endedFirst(how anysock.How) anysock.Side {
	switch {
	case c.readEnded != 0 && (c.endWrote == 0 || c.readEnded <= c.endWrote):
		return anysock.Peer
	case c.endWrote != 0 && (c.readEnded == 0 || c.endWrote < c.readEnded):
		return anysock.Us
	case c.is(peerGaveUp):
		return anysock.Peer
	case how == anysock.Lost || how == anysock.Truncated:
		return anysock.Nobody
	}
	return anysock.Us
}

// An IdleError is the reason of an Idle ending.
type IdleError struct{ After time.Duration }

func (e *IdleError) Error() string { return "no data for " + e.After.String() }

// Timeout reports true.
func (e *IdleError) Timeout() bool { return true }

// A PanicError is the reason why a connection was aborted whose handler
// panicked.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // of the goroutine, as of package runtime/debug
}

func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// Unwrap is what it panicked with, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// An UnackedError is the reason of a Lost ending after Close.
type UnackedError struct{ Bytes int64 }

func (e *UnackedError) Error() string {
	return fmt.Sprintf("%d bytes were not acknowledged, and none more for the patience of Close", e.Bytes)
}
