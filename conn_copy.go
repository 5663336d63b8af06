package anysock

import (
	"errors"
	"io"
	"os"

	"github.com/anysock/anysock/internal/sys"
)

// ReadFrom writes to c what r gives until io.EOF and returns how many bytes
// c took. It uses splice(2) when r is a Conn and both are kernel sockets,
// and sendfile(2) when r is a regular file (or an io.LimitedReader of one);
// otherwise it copies through DefaultReadBuffer bytes.
//
// The error says which side failed: a *Error with Op "read" is r's, if r is a
// Conn, and one with Op "write" is c's. What had been received from a Conn and
// could not be written is kept for r's next reader.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	switch src := r.(type) {
	case *Conn:
		return c.readFromConn(src)
	case *os.File:
		if n, err, ok := c.sendFile(src, -1); ok {
			return n, err
		}
	case *io.LimitedReader:
		if f, ok := src.R.(*os.File); ok {
			n, err, ok := c.sendFile(f, src.N)
			src.N -= n
			if ok {
				return n, err
			}
		}
	}
	return c.copyFrom(r)
}

// WriteTo writes to w what c receives until the peer's end: see ReadFrom.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if dst, ok := w.(*Conn); ok {
		return dst.readFromConn(c)
	}
	buf := readBuffers.Get().(*[DefaultReadBuffer]byte)
	defer readBuffers.Put(buf)
	var total int64
	for {
		n, err := c.Read(buf[:])
		if n > 0 {
			m, werr := w.Write(buf[:n])
			m = max(0, min(m, n))
			total += int64(m)
			if werr == nil && m < n {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				c.giveBack(buf[m:n])
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// giveBack keeps received bytes for the next reader.
func (c *Conn) giveBack(p []byte) {
	if c.rd.lock(background) != nil {
		return // closing: there is no next reader
	}
	c.pushBack(p)
	c.rd.unlock()
}

// copyFrom is ReadFrom for a reader that is no Conn.
func (c *Conn) copyFrom(r io.Reader) (int64, error) {
	buf := readBuffers.Get().(*[DefaultReadBuffer]byte)
	defer readBuffers.Put(buf)
	var total int64
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			m, werr := c.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// sendFile is ReadFrom for a regular file; false means that nothing was sent
// and the caller copies.
func (c *Conn) sendFile(f *os.File, n int64) (int64, error, bool) {
	fd := c.kernel()
	if fd == nil || n == 0 {
		return 0, nil, n == 0
	}
	start := c.now()
	var sent int64
	if err := c.lockWrite(background, OpWrite); err != nil {
		return 0, err, true
	}
	err := c.canSend()
	if err == nil {
		err = fd.Sendfile(f, n, func(m int) {
			sent += int64(m)
			c.sent.Add(int64(m))
		})
		if errors.Is(err, errors.ErrUnsupported) {
			c.wr.unlock()
			return 0, nil, false
		}
		if err != nil {
			err = c.callError(background, OpWrite, err)
		}
	}
	c.step(OpWrite, start, sent, err)
	c.wr.unlock()
	c.afterWrite(err)
	return sent, err, true
}

// readFromConn moves bytes from src to c until src's peer ends.
func (c *Conn) readFromConn(src *Conn) (int64, error) {
	if c.kernel() == nil || src.kernel() == nil {
		return c.copyFromConn(src)
	}
	n, err := c.spliceFrom(src)
	if errors.Is(err, errors.ErrUnsupported) {
		m, err := c.copyFromConn(src)
		return n + m, err
	}
	return n, err
}

func (c *Conn) copyFromConn(src *Conn) (int64, error) {
	buf := readBuffers.Get().(*[DefaultReadBuffer]byte)
	defer readBuffers.Put(buf)
	var total int64
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			m, werr := c.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				src.giveBack(buf[m:n])
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// spliceFrom is readFromConn between kernel sockets. It has src's turn while it
// receives and c's while it sends, never one while it waits for the other:
// whoever ends one of the two connections is not held up by the other.
func (c *Conn) spliceFrom(src *Conn) (int64, error) {
	var moved int64
	t, err := sys.NewTransfer(c.kernel(), src.kernel(),
		func(n int) {
			src.gotBytes(n)
			if src.trace != nil {
				src.emit(Event{Op: OpRead, Bytes: int64(n)})
			}
		},
		func(n int) {
			moved += int64(n)
			c.sent.Store(c.sent.Load() + int64(n))
			if c.trace != nil {
				c.emit(Event{Op: OpWrite, Bytes: int64(n)})
			}
		})
	if err != nil {
		return 0, err
	}
	defer t.Close()
	for {
		kept, err := c.spliceIn(src, t)
		if errors.Is(err, io.EOF) {
			return moved, nil
		}
		if err != nil {
			return moved, err
		}
		if kept != nil {
			n, err := c.Write(kept)
			moved += int64(n)
			if err != nil {
				src.giveBack(kept[n:])
				return moved, err
			}
			continue
		}
		if err := c.spliceOut(t); err != nil {
			src.giveBack(t.Left())
			return moved, err
		}
	}
}

// spliceIn receives from src: what is in memory, which takes part in no
// splice, or into t.
func (c *Conn) spliceIn(src *Conn, t *sys.Transfer) (kept []byte, err error) {
	if err := src.rd.lock(background); err != nil {
		return nil, src.opError(OpRead, err)
	}
	switch f := src.flags.Load(); {
	case f&(flagGone|flagReadClosed) != 0:
		_, err = src.receive(background, nil)
	case len(src.unread()) > 0:
		kept = src.unread()
		src.setUnread(nil)
	case f&flagReadEnded != 0:
		err = io.EOF
	default:
		if err = t.Fill(); err != nil {
			err = src.readError(background, err)
			src.step(OpRead, src.now(), 0, err)
		}
	}
	src.rd.unlock()
	src.afterRead(err)
	return kept, err
}

// spliceOut sends what t has.
func (c *Conn) spliceOut(t *sys.Transfer) error {
	if err := c.lockWrite(background, OpWrite); err != nil {
		return err
	}
	err := c.canSend()
	if err == nil {
		if err = t.Flush(); err != nil {
			err = c.callError(background, OpWrite, err)
		}
	}
	if err != nil {
		c.step(OpWrite, c.now(), 0, err)
	}
	c.wr.unlock()
	c.afterWrite(err)
	return err
}
