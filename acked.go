package anysock

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// This file asks what is under way: unacknowledged, and received and not read.

// Unacked is how many bytes that Write has accepted are not acknowledged yet,
// by whoever acknowledges on this carrier (Ack). On layered transports the
// bytes are counted as the carrier sends them, so the figure can be a little
// higher than what Write was given. Without CapCloseAck the error matches
// errors.ErrUnsupported.
func (c *Conn) Unacked() (int64, error) {
	if !c.caps.Has(CapCloseAck) {
		return 0, unsupported("unacked", c.peerName(), c.network()+" has no acknowledgement")
	}
	n, err := c.s.Unacked()
	if err != nil {
		return 0, c.opError("unacked", err)
	}
	if n > 0 && c.is(flagEndSent) {
		n-- // our end counts one
	}
	return int64(n), nil
}

// Unread is how many bytes wait to be read: those that were received ahead, and
// those in the carrier, as far as it can tell without waiting. Where it cannot
// the error matches errors.ErrUnsupported.
func (c *Conn) Unread() (int, error) {
	n, err := c.s.Unread()
	if err != nil {
		return 0, c.opError("unread", err)
	}
	return n + len(c.unread()), nil
}

// WaitAcked waits until everything that was written, and our end if it was
// sent, is acknowledged. It holds up writers meanwhile. The wait is bounded by
// ctx and by the write deadline; both leave the connection usable. Without
// CapCloseAck the error matches errors.ErrUnsupported.
func (c *Conn) WaitAcked(ctx context.Context) error {
	if !c.caps.Has(CapCloseAck) {
		return unsupported("wait acknowledged", c.peerName(), c.network()+" has no acknowledgement")
	}
	if err := c.lockWrite(ctx, "wait acknowledged"); err != nil {
		return err
	}
	err := c.waitAcked(ctx)
	c.wr.unlock()
	c.afterWrite(err)
	return err
}

// waitAcked is WaitAcked for whoever has the turn.
func (c *Conn) waitAcked(ctx context.Context) error {
	switch f := c.flags.Load(); {
	case f&flagGone != 0:
		return closedError("wait acknowledged", c.peerName())
	case f&flagFailed != 0:
		return c.failed("wait acknowledged")
	}
	if fd := c.kernel(); fd != nil && !c.is(flagEndSent) {
		return c.pollAcked(ctx, fd)
	}
	w, err := c.wr.begin(ctx)
	if err != nil {
		return c.opError("wait acknowledged", err)
	}
	err = c.s.WaitAcked()
	c.wr.end(w)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), !errors.Is(err, errors.ErrUnsupported):
		return c.callError(ctx, "wait acknowledged", err)
	}
	return c.opError("wait acknowledged", err)
}

// minAckPoll and maxAckPoll pace the looks at what is unacknowledged.
const (
	minAckPoll = 500 * time.Microsecond
	maxAckPoll = 20 * time.Millisecond
)

// pollAcked waits for the acknowledgement of data alone, which raises no event
// (docs/notes/ack-events).
func (c *Conn) pollAcked(ctx context.Context, fd *sys.FD) error {
	for pause := minAckPoll; ; pause = min(2*pause, maxAckPoll) {
		n, err := fd.Unacked()
		switch {
		case err != nil:
			return c.callError(ctx, "wait acknowledged", err)
		case fd.Dead(): // a reset empties the kernel's queue
			reason := fd.TakeError()
			if reason == nil && n > 0 {
				reason = syscall.ECONNRESET
			}
			if reason == nil {
				return nil
			}
			return c.callError(ctx, "wait acknowledged", reason)
		case n == 0:
			// A reset sets the error, empties the queue, and then is dead.
			if r, err := fd.Readiness(); err == nil && Readiness(r)&Failed != 0 {
				continue
			}
			return nil
		}
		if _, err := c.wr.waitFor(ctx, nil, pause); err != nil {
			if c.is(flagFailed) {
				return c.failed("wait acknowledged")
			}
			return c.opError("wait acknowledged", err)
		}
	}
}
