package anysock

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// Write sends all of p. Whenever n < len(p) the error says why: past the
// write deadline it matches os.ErrDeadlineExceeded, after Close or Abort
// net.ErrClosed; after CloseWrite it is a KindState error; a peer that
// aborted is KindReset, one that went silent KindLost. The n bytes are in the
// carrier's hands: on tcp and unix, the kernel's.
func (c *Conn) Write(p []byte) (int, error) { return c.write(background, p) }

// WriteContext is Write that ctx can cut short: the error then matches ctx's,
// n says what was sent, and the connection and its deadlines are as before.
func (c *Conn) WriteContext(ctx context.Context, p []byte) (int, error) { return c.write(ctx, p) }

func (c *Conn) write(ctx context.Context, p []byte) (int, error) {
	start := c.now()
	if err := c.lockWrite(ctx, OpWrite); err != nil {
		return 0, err
	}
	n, err := c.send(ctx, p)
	c.step(OpWrite, start, int64(n), err)
	c.wr.unlock()
	c.afterWrite(err)
	return n, err
}

// lockWrite takes the writer's turn. A disconnect that is sending our end, and
// waits for a carrier that does not take it, turns writers away.
func (c *Conn) lockWrite(ctx context.Context, op string) error {
	err := c.wr.lock(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, net.ErrClosed):
		if err := c.canSend(); err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Op = op
			}
			return err
		}
		return closedError(op, c.peerName())
	}
	return c.opError(op, err)
}

// send is Write for whoever has the turn.
func (c *Conn) send(ctx context.Context, p []byte) (int, error) {
	if err := c.canSend(); err != nil {
		return 0, err
	}
	w, err := c.wr.begin(ctx)
	if err != nil {
		return 0, c.opError(OpWrite, err)
	}
	n, err := c.s.Write(p)
	c.wr.end(w)
	if n > 0 {
		c.sent.Store(c.sent.Load() + int64(n)) // one writer: the turn's
	}
	if err == nil {
		if n < len(p) {
			return n, c.opError(OpWrite, io.ErrShortWrite)
		}
		return n, nil
	}
	return n, c.callError(ctx, OpWrite, err)
}

func (c *Conn) canSend() error {
	switch f := c.flags.Load(); {
	case f&flagGone != 0:
		return closedError(OpWrite, c.peerName())
	case f&flagFailed != 0:
		return c.failed(OpWrite)
	case f&flagWriteEnded != 0:
		return stateError(OpWrite, c.peerName(), "our direction has ended: CloseWrite or Disconnect was called")
	}
	return nil
}

// afterWrite makes a failure that a write noticed the ending, unless bytes
// wait to be read: those still belong to the reader, and the ending comes with
// the read that finds no more.
func (c *Conn) afterWrite(err error) {
	if err == nil || !c.is(flagFailed) || c.is(flagDisconnecting) {
		return
	}
	if n, err := c.s.Unread(); err == nil && n > 0 && !c.is(flagReadClosed) {
		return
	}
	c.finishFailed()
}

// WriteBuffers sends all of bufs, in order and without another Write between
// them, with as few system calls as the transport allows (writev(2)). The
// result is as for Write; bufs is not changed.
func (c *Conn) WriteBuffers(bufs [][]byte) (int64, error) {
	start := c.now()
	if err := c.lockWrite(background, OpWrite); err != nil {
		return 0, err
	}
	n, err := c.sendBuffers(bufs)
	c.step(OpWrite, start, n, err)
	c.wr.unlock()
	c.afterWrite(err)
	return n, err
}

func (c *Conn) sendBuffers(bufs [][]byte) (n int64, err error) {
	fd := c.kernel()
	if fd == nil {
		for _, b := range bufs {
			m, err := c.send(background, b)
			n += int64(m)
			if err != nil {
				return n, err
			}
		}
		return n, nil
	}
	if err := c.canSend(); err != nil {
		return 0, err
	}
	n, err = fd.Writev(bufs)
	c.sent.Add(n)
	if err != nil {
		err = c.callError(background, OpWrite, err)
	}
	return n, err
}

// CloseWrite ends our direction: when the peer has read what was written it
// reads end of file, and may go on sending. It waits for a Write that is at
// work. A carrier that must write to say so may be cut by the write deadline:
// call it again then. Without CapHalfClose it says ErrUnsupported and does nothing; a
// second call does nothing.
func (c *Conn) CloseWrite() error {
	if !c.caps.Has(CapHalfClose) {
		return unsupported(OpShutdown, c.peerName(), c.network()+" has no half-close")
	}
	if err := c.wr.lock(background); err != nil {
		return closedError(OpShutdown, c.peerName()) // a disconnect is sending our end
	}
	defer c.wr.unlock()
	switch f := c.flags.Load(); {
	case f&flagGone != 0:
		return closedError(OpShutdown, c.peerName())
	case f&(flagWriteEnded|flagEndUnsent) == flagWriteEnded:
		return nil
	case f&flagFailed != 0:
		return c.failed(OpShutdown)
	}
	err := c.endWrite()
	if err != nil && !c.is(flagFailed) && c.is(flagGone) {
		return closedError(OpShutdown, c.peerName()) // Close cut it, and will try again
	}
	return err
}

// endIsDue reports whether our end has still to be sent: it was not tried, or
// a deadline cut it on a carrier that writes to say so.
func (c *Conn) endIsDue() bool {
	f := c.flags.Load()
	return f&(flagWriteEnded|flagEndUnsent) != flagWriteEnded && f&flagFailed == 0
}

// endWrite sends our end; the caller has the turn.
func (c *Conn) endWrite() error {
	start := time.Now()
	c.set(flagWriteEnded)
	// Before the call: the peer's answer to our end can be faster than we are.
	c.mu.Lock()
	k := c.known()
	first := k.by == Nobody
	if first {
		k.by = Us
	}
	k.wroteEnd = c.sinceOpened()
	c.mu.Unlock()
	err := c.s.CloseWrite()
	if err != nil {
		c.mu.Lock()
		if first {
			k.by = Nobody
		}
		k.wroteEnd = 0
		c.mu.Unlock()
		if !errors.Is(err, errors.ErrUnsupported) {
			if err = c.shutdownError(err); !c.is(flagFailed) {
				c.set(flagEndUnsent)
			}
		}
	} else {
		c.set(flagEndSent)
		c.flags.And(^uint32(flagEndUnsent))
	}
	if c.trace != nil {
		c.emit(Event{Time: start, Duration: time.Since(start), Op: OpShutdown, Detail: "write", Err: err})
	}
	return err
}

// shutdownError is the error of a shutdown(2). ENOTCONN says that the
// connection is dead already: the reason is its pending error, which is taken
// and remembered here because the kernel would next say end of file.
func (c *Conn) shutdownError(err error) error {
	if sys.ClassOf(err) == sys.NotConnected {
		if reason := c.s.TakeError(); reason != nil {
			err = reason
		} else {
			err = syscall.ECONNRESET
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return c.opError(OpShutdown, err)
	}
	return c.fail(OpShutdown, err)
}
