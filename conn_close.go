package anysock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// This file ends connections: Disconnect, Close and Abort.
//
//	call        our end   their end           our bytes             then
//	Disconnect  sent      awaited, drained    acknowledged          close, End returned
//	Close       sent      the same, in the background, owned by the Group
//	Abort       -         -                   discarded             reset
//
// Whatever the outcome, the ending is recorded before the carrier is closed.

// Disconnect ends the connection gracefully and waits until that is done: it
// ends our direction, reads and discards what the peer still sends until its
// end, waits until everything of ours is acknowledged, closes, and reports
// the ending.
//
//	their end  ours acknowledged  End.How        error
//	seen       yes                Graceful       nil
//	not seen   yes                Delivered      nil
//	either     no                 Lost           KindLost
//	reset                         AbortedByPeer  KindReset
//	cut                           Truncated      KindTruncated
//
// It waits for the peer's end at most Options.DrainTimeout and
// Options.DrainBytes, and for acknowledgements as long as they make progress
// within DrainTimeout. A Write at work is waited for; a Read at work gets
// what comes, and Disconnect drains once the reader leaves, at the latest
// after DrainTimeout, when readers are turned away. Where the carrier has no
// acknowledgement (Caps), End.AckedBy is AckedNone.
//
// If ctx is done before, its error is returned with a zero End: our direction
// has ended, the connection is still there to be read, disconnected again,
// closed or aborted. After an ending Disconnect returns that ending and its
// error; at most one Disconnect or Close is at work, a second waits for it.
func (c *Conn) Disconnect(ctx context.Context) (End, error) {
	start := c.now()
	if !c.beginDisconnect() {
		select {
		case <-c.Done():
			return c.ended()
		case <-ctx.Done():
			return End{}, c.opError(OpDisconnect, ctx.Err())
		}
	}
	o := outcome{}
	err := c.disconnect(ctx, c.opts.DrainTimeout, &o)
	if err == nil {
		c.step(OpDisconnect, start, o.drained, o.err)
		c.settle(&o)
		return c.ended()
	}
	if c.rd.isDead() {
		<-c.Done() // Abort, which found us at work, records the ending
		return c.ended()
	}
	if c.is(flagEnded) { // aborted meanwhile
		return c.ended()
	}
	c.step(OpDisconnect, start, o.drained, err)
	if old := c.flags.And(^uint32(flagDisconnecting)); old&flagClosing != 0 {
		// Close was called meanwhile and left the work to us.
		c.set(flagDisconnecting)
		c.closeLater()
	}
	return End{}, err
}

// beginDisconnect takes the right to end the connection; false if somebody
// else has it or it has ended.
func (c *Conn) beginDisconnect() bool {
	for {
		f := c.flags.Load()
		if f&(flagDisconnecting|flagClosing) != 0 {
			return false
		}
		if f&flagEnded != 0 {
			_ = c.free(false)
			return false
		}
		if c.flags.CompareAndSwap(f, f|flagDisconnecting) {
			return true
		}
	}
}

// ended is the recorded ending and the error it means.
func (c *Conn) ended() (End, error) {
	end := c.End()
	if end.How.Complete() {
		return end, nil
	}
	if end.Err != nil {
		return end, end.Err
	}
	return end, closedError(OpDisconnect, c.peerName())
}

// An outcome is what a disconnect found out.
type outcome struct {
	how     How
	ackedBy Ack
	unacked int64
	drained int64
	err     error
}

// failed makes the recorded failure the outcome.
func (o *outcome) failed(c *Conn) {
	o.err = c.failed(OpDisconnect)
	o.unacked = c.unackedBytes()
	c.mu.Lock()
	o.how = c.so.failHow
	c.mu.Unlock()
}

// lost is the outcome when the peer did not take everything in time.
func (o *outcome) lost(c *Conn, patience time.Duration) {
	o.how = Lost
	o.unacked = c.unackedBytes()
	o.err = &Error{
		Op: OpDisconnect, Addr: c.peerName(), Kind: KindLost,
		Err:  &unackedError{o.unacked, patience},
		Hint: "the peer does not read, or the path to it is gone; allow more time, or abort",
	}
}

// settle records the outcome and releases the carrier. What is not complete
// is closed all the same, not reset: the kernel goes on trying, and the bytes
// it delivers are right ones.
func (c *Conn) settle(o *outcome) {
	c.set(flagClosing)
	if o.how == Lost {
		c.liftRetransmitCap()
	}
	c.finish(o.how, Us, o.ackedBy, o.unacked, o.err)
	c.turnAway()
	_ = c.free(false)
}

// turnAway wakes everybody who is at work on c or waits for it; the flags say
// why.
func (c *Conn) turnAway() {
	c.rd.take()
	c.wr.take()
	readiness.wakeConn(c)
}

// disconnect does the work of Disconnect and Close. An error means that ctx
// was done, or that our end could not be sent; every other outcome is in o.
func (c *Conn) disconnect(ctx context.Context, patience time.Duration, o *outcome) error {
	// A writer at work ends by itself, by its deadline, or with our patience.
	if err := c.takeTurn(ctx, &c.wr, patience); err != nil {
		return c.opError(OpDisconnect, err)
	}
	var err error
	if c.endIsDue() {
		// Writers that come now have nothing to gain, and would wait as long as
		// the carrier does not take our end.
		c.wr.shut()
		err = c.endWriteWithin(ctx, patience)
		c.wr.reopen()
	}
	c.wr.unlock()
	if errors.Is(err, errors.ErrUnsupported) {
		// Only closing tells the peer that we have ended, so there is nothing
		// to wait for.
		o.how = Delivered
		if c.is(flagReadEnded) {
			o.how = Graceful
		}
		return nil
	}
	if err != nil && !c.is(flagFailed) {
		if ctx.Err() != nil {
			return c.opError(OpDisconnect, ctx.Err())
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// The carrier did not take our end: the peer does not read.
		o.lost(c, patience)
		return nil
	}

	if err := c.takeTurn(ctx, &c.rd, patience); err != nil {
		return c.opError(OpDisconnect, err)
	}
	// Readers that come now have nothing to gain, and may not hold this up.
	c.rd.shut()
	defer c.rd.unlock()
	defer c.rd.reopen()
	defer c.rd.restore()
	defer c.wr.restore()
	for _, d := range []*direction{&c.rd, &c.wr} {
		w, err := d.begin(ctx)
		if err != nil {
			return c.opError(OpDisconnect, err)
		}
		defer d.end(w)
	}

	theirEnd, err := c.drain(ctx, patience, o)
	if err == nil && !c.is(flagFailed) {
		err = c.awaitAcks(ctx, patience, o)
	}
	if err == nil && theirEnd && !c.is(flagFailed) {
		err = c.awaitPeer(ctx, patience)
	}
	if err != nil {
		return err
	}
	if c.is(flagFailed) {
		o.failed(c)
		return nil
	}
	switch {
	case o.unacked > 0:
		o.lost(c, patience)
	case theirEnd:
		o.how = Graceful
	default:
		o.how = Delivered
	}
	return nil
}

// endWriteWithin is endWrite for a carrier that must write to say so: the
// caller's deadline, or closing, is not to cut it.
func (c *Conn) endWriteWithin(ctx context.Context, patience time.Duration) error {
	w, err := c.wr.begin(ctx)
	if err != nil {
		return c.opError(OpDisconnect, err)
	}
	c.wr.lend(time.Now().Add(patience))
	err = c.endWrite()
	c.wr.restore()
	c.wr.end(w)
	return err
}

// takeTurn waits for the turn of d: for patience if nobody moves, then
// callers are turned away.
func (c *Conn) takeTurn(ctx context.Context, d *direction, patience time.Duration) error {
	if d.try() {
		return nil
	}
	tctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if d.lock(tctx) == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.set(flagTurnedAway)
	d.take()
	return d.lock(ctx)
}

// drain discards what comes until the peer's end (true), or until the bounds
// are reached.
func (c *Conn) drain(ctx context.Context, patience time.Duration, o *outcome) (theirEnd bool, err error) {
	if c.is(flagReadEnded) {
		return true, nil
	}
	if c.is(flagFailed) {
		return false, nil
	}
	buf := readBuffers.Get().(*[DefaultReadBuffer]byte)
	defer readBuffers.Put(buf)
	discard := func(n int) {
		o.drained += int64(n)
		c.mu.Lock()
		c.known().drained += int64(n)
		c.mu.Unlock()
	}
	if n := len(c.unread()); n > 0 {
		discard(n)
		c.setUnread(nil)
	}
	p := c.newPatience(patience)
	for {
		c.rd.lend(p.until)
		if c.is(flagFailed) {
			return false, nil // noticed elsewhere: after the flag comes the wake-up
		}
		if c.rd.isDead() {
			return false, closedError(OpDisconnect, c.peerName()) // Abort
		}
		if err := ctx.Err(); err != nil {
			return false, c.opError(OpDisconnect, err)
		}
		n, err := c.s.Read(buf[:])
		if n > 0 {
			c.gotBytes(n)
			discard(n)
		}
		switch {
		case err == nil:
			if c.opts.DrainBytes < 0 || o.drained >= c.opts.DrainBytes {
				return false, nil // a flood: we have seen enough
			}
		case errors.Is(err, io.EOF):
			return errors.Is(c.readEnded(), io.EOF), nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() == nil && !c.is(flagFailed) && !p.progress() {
				return false, nil
			}
		default:
			_ = c.fail(OpDisconnect, err)
			if !c.is(flagFailed) {
				return false, c.opError(OpDisconnect, err)
			}
			return false, nil
		}
	}
}

// awaitAcks waits until our bytes and our end are acknowledged, as long as
// the acknowledgements make progress.
func (c *Conn) awaitAcks(ctx context.Context, patience time.Duration, o *outcome) error {
	if !c.caps.Has(CapCloseAck) {
		return nil
	}
	p := c.newPatience(patience)
	for {
		c.wr.lend(p.until)
		if c.is(flagFailed) {
			return nil
		}
		if c.wr.isDead() {
			return closedError(OpDisconnect, c.peerName())
		}
		if err := ctx.Err(); err != nil {
			return c.opError(OpDisconnect, err)
		}
		err := c.s.WaitAcked()
		switch {
		case err == nil, errors.Is(err, errors.ErrUnsupported):
			if err == nil {
				o.ackedBy = c.acknowledger()
			} // else nobody acknowledges, whatever was declared
			// A reset that came after the acknowledgement, or after the peer's
			// end, still says that the peer gave up.
			if reason := c.s.TakeError(); reason != nil {
				_ = c.fail(OpDisconnect, reason)
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() == nil && !c.is(flagFailed) && !p.progress() {
				o.unacked = c.unackedBytes()
				if o.unacked == 0 {
					// All but the end itself is acknowledged.
					o.ackedBy = c.acknowledger()
				}
				return nil
			}
		default:
			_ = c.fail(OpDisconnect, err)
			if !c.is(flagFailed) {
				return c.opError(OpDisconnect, err)
			}
			return nil
		}
	}
}

// acknowledger says who acknowledges on this carrier.
func (c *Conn) acknowledger() Ack {
	if s, ok := optionally[interface{ AckedBy() Ack }](c.s); ok {
		return s.AckedBy()
	}
	return AckedKernel
}

// awaitPeer lets a stream whose other side can fail after its end, such as a
// program that exits, say how that went.
func (c *Conn) awaitPeer(ctx context.Context, patience time.Duration) error {
	s, ok := optionally[interface{ WaitPeer() error }](c.s)
	if !ok {
		return nil
	}
	c.rd.lend(time.Now().Add(patience))
	err := s.WaitPeer()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.fail(OpDisconnect, err)
	}
	if err := ctx.Err(); err != nil && !c.is(flagFailed) {
		return c.opError(OpDisconnect, err)
	}
	return nil
}

// A patience is the bound of a wait that progress renews: acknowledgements
// that still come in.
type patience struct {
	c       *Conn
	each    time.Duration
	until   time.Time
	unacked int
}

func (c *Conn) newPatience(each time.Duration) *patience {
	n, err := c.s.Unacked()
	if err != nil {
		n = 0
	}
	return &patience{c: c, each: each, until: time.Now().Add(each), unacked: n}
}

// progress renews the bound if it has passed and acknowledgements came in;
// false means that the patience is at its end.
func (p *patience) progress() bool {
	now := time.Now()
	if now.Before(p.until) {
		return true // woken for another reason
	}
	n, err := p.c.s.Unacked()
	if err != nil || n >= p.unacked {
		return false
	}
	p.unacked, p.until = n, now.Add(p.each)
	return true
}

// unackedError is what a Lost ending of a Disconnect says.
type unackedError struct {
	n     int64
	after time.Duration
}

func (e *unackedError) Error() string {
	if e.n == 0 {
		return "our end was not taken for " + e.after.String()
	}
	return fmt.Sprintf("%d bytes were not acknowledged, and none more for %s", e.n, e.after)
}

// Close releases the caller at once and loses nothing: if the connection has
// not ended, a graceful disconnect goes on in the background, bounded by
// Options.CloseTimeout and owned by the Group, whose Wait delays exit until
// it is done. Reads and writes that are at work return an error that matches
// net.ErrClosed; what Write had accepted by then is delivered. A second Close
// does nothing.
//
// When the Group has DefaultCloseLimit disconnects at work already, the
// carrier is closed plainly: the kernel goes on sending, nobody waits, and the
// Group's Wait lists it.
//
// The error is that of releasing the carrier, after an ending; nil otherwise.
func (c *Conn) Close() error {
	for {
		f := c.flags.Load()
		if f&flagClosing != 0 {
			return nil
		}
		if c.flags.CompareAndSwap(f, f|flagClosing) {
			break
		}
	}
	if c.is(flagEnded) {
		// A peer that went silent is not worth the kernel's further tries.
		return c.closeError(c.free(c.End().How == Lost))
	}
	c.step(OpClose, c.now(), 0, nil)
	if c.flags.Or(flagDisconnecting)&flagDisconnecting != 0 {
		// A Disconnect is at work, and goes on for the Group.
		c.turnAway()
		c.group.start(c, c.awaitDone)
		return nil
	}
	if c.closeNow() {
		return nil
	}
	c.turnAway()
	c.closeLater()
	return nil
}

// awaitDone is what the Group runs for a Disconnect that Close has found at
// work.
func (c *Conn) awaitDone() { <-c.Done() }

// closeLater leaves the disconnect to the Group.
func (c *Conn) closeLater() {
	if !c.group.start(c, c.closeInBackground) {
		c.closePlainly()
	}
}

func (c *Conn) closeError(err error) error {
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return c.opError(OpClose, err)
}

// closeNow ends without waiting when there is nothing to wait for: the peer
// has ended and, our end being sent, all is acknowledged.
func (c *Conn) closeNow() bool {
	if !c.is(flagReadEnded) || c.is(flagFailed) {
		return false
	}
	switch c.s.(type) {
	case *kernelStream, *memStream: // nothing they do here blocks
	default:
		return false
	}
	if !c.wr.try() {
		return false
	}
	defer c.wr.unlock()
	if c.endIsDue() {
		if err := c.endWrite(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return false
		}
	}
	o := outcome{how: Graceful}
	if c.caps.Has(CapCloseAck) {
		if n, err := c.s.Unacked(); err != nil || n > 0 {
			return false
		}
		if reason := c.s.TakeError(); reason != nil {
			_ = c.fail(OpClose, reason)
			return false
		}
		o.ackedBy = c.acknowledger()
	}
	c.record(o.how, Us, o.ackedBy, 0, nil)
	_ = c.free(false)
	return true
}

// closePlainly gives up the background disconnect: beyond the Group's limit.
func (c *Conn) closePlainly() {
	if c.wr.try() {
		if c.endIsDue() {
			_ = c.endWrite()
		}
		c.wr.unlock()
	}
	o := outcome{how: Delivered, unacked: c.unackedBytes()}
	if o.unacked > 0 {
		o.how = Lost
		o.err = &Error{Op: OpClose, Addr: c.peerName(), Kind: KindLimit, Err: errCloseLimit}
	}
	c.settle(&o)
	c.group.note(c)
}

var errCloseLimit = errors.New("too many disconnects in the background: closed without waiting for the acknowledgement")

// closeInBackground is Close's second half; the Group owns the goroutine.
func (c *Conn) closeInBackground() {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.CloseTimeout)
	defer cancel()
	o := outcome{}
	err := c.disconnect(ctx, c.opts.CloseTimeout, &o)
	switch {
	case err == nil:
	case c.rd.isDead():
		<-c.Done() // Abort, which found us at work, records the ending
		return
	case c.is(flagFailed):
		o.failed(c)
	default:
		// The bound is reached, or our end could not be sent.
		o.unacked = c.unackedBytes()
		switch {
		case !errors.Is(err, context.DeadlineExceeded):
			o.how, o.err = Lost, err
		case o.unacked > 0:
			o.lost(c, c.opts.CloseTimeout)
		default:
			o.how = Delivered
			if c.caps.Has(CapCloseAck) {
				o.ackedBy = c.acknowledger()
			}
		}
	}
	c.settle(&o)
}

// Abort ends the connection at once, discards what is unsent, and lets the
// peer see a reset, not an end of file. Without CapAbort the carrier is closed
// and the error matches errors.ErrUnsupported: the peer may take it for an
// end. After an ending, Abort only releases the carrier; a reset by the peer
// that nobody had read yet is the ending.
func (c *Conn) Abort() error { return c.abort(AbortedByUs, nil) }

// AbortAs is Abort for those who know more about the ending than that we gave
// up: a relay says Idle or Refused, or AbortedByPeer, Truncated or Lost when
// the other leg failed so. cause goes into End.Err.
func (c *Conn) AbortAs(how How, cause error) error { return c.abort(how, cause) }

func (c *Conn) abort(how How, cause error) error {
	start := c.now()
	first := c.flags.Or(flagClosing|flagDisconnecting)&flagReleased == 0
	if !first {
		return nil
	}
	if c.is(flagEnded) {
		return c.closeError(c.free(true))
	}
	if !c.is(flagFailed) {
		// A reset that nobody has read is the true ending, and nobody will.
		if reason := c.s.TakeError(); reason != nil {
			_ = c.fail(OpAbort, reason)
		}
	}
	unacked := c.unackedBytes()
	if cause == nil {
		cause = &Error{Op: OpAbort, Addr: c.peerName(), Kind: KindClosed, Err: errAborted}
	}
	// What the close will do is decided now: no event follows the ending.
	var lingerErr error
	if fd := c.kernel(); fd != nil {
		if lingerErr = fd.DiscardOnClose(); lingerErr != nil {
			lingerErr = c.opError(OpAbort, lingerErr)
			cause = errors.Join(cause, lingerErr)
		}
	}
	c.emit(Event{Time: start, Op: OpAbort, Err: lingerErr})
	c.rd.cutOff()
	c.wr.cutOff()
	if c.is(flagFailed) {
		c.finishFailed()
	} else {
		c.finish(how, Us, AckedNone, unacked, cause)
	}
	err := c.free(c.kernel() == nil)
	if lingerErr != nil {
		return lingerErr
	}
	if !c.caps.Has(CapAbort) {
		return unsupported(OpAbort, c.peerName(), c.network()+" has no abort: closed, and the peer may take it for an end")
	}
	return c.closeError(err)
}

var errAborted = errors.New("aborted on our side")
