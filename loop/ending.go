package loop

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file ends a connection otherwise, by us or by a failure, and records the
// one ending that it has.

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

// finish records the ending, closes the descriptor, and tells the handler.
func (c *Conn) finish(end anysock.End) {
	if c.is(over) {
		return
	}
	c.flags |= over
	core := c.core
	tell := core.handler.Ended
	if core.records {
		c.complete(&end)
	}
	if c.is(isTCP) && (c.Queued() > 0 || !end.How.Complete() && end.How != anysock.Lost) {
		// Bytes may be missing: it must not look like an end. What is lost after
		// all of it reached the kernel, that goes on trying to deliver.
		_ = core.loop.DiscardOnClose(&c.node)
	}
	core.loop.Close(&c.node)
	c.dropQueue()
	if core.corked == c {
		core.out = core.out[:0]
	}
	core.s.places.Give()
	core.s.count.End(errors.Is(end.Err, ErrDrainDeadline))
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
	at := func(d time.Duration) time.Time {
		if d == 0 {
			return time.Time{}
		}
		return loop.At(d)
	}
	end.Opened, end.FirstReceived = loop.At(c.opened), at(c.firstReceived)
	if t := c.trouble; t != nil {
		end.WriteEnded, end.ReadEnded, end.Drained = at(t.writeEnded), at(t.readEnded), t.drained
	}
	end.Ended = loop.Now()
}

// endedFirst says which side did.
func (c *Conn) endedFirst(how anysock.How) anysock.Side {
	var theirs, ours time.Duration
	if t := c.trouble; t != nil {
		theirs, ours = t.readEnded, t.writeEnded
	}
	switch {
	case theirs != 0 && (ours == 0 || theirs <= ours):
		return anysock.Peer
	case ours != 0:
		return anysock.Us
	case c.is(peerGaveUp):
		return anysock.Peer
	case how == anysock.Lost || how == anysock.Truncated:
		return anysock.Nobody
	}
	return anysock.Us
}

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
