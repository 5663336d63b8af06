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
	c.wr.acquire()
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

// spliceFrom is readFromConn between kernel sockets. It has both turns until
// the end; the deadlines of each side bound it.
func (c *Conn) spliceFrom(src *Conn) (int64, error) {
	if err := src.rd.lock(background); err != nil {
		return 0, src.opError(OpRead, err)
	}
	c.wr.acquire()
	before := c.sent.Load()
	readErr, writeErr := c.splice(src)
	moved := c.sent.Load() - before
	if writeErr != nil {
		c.step(OpWrite, c.now(), 0, writeErr)
	}
	c.wr.unlock()
	if readErr != nil {
		src.step(OpRead, src.now(), 0, readErr)
	}
	src.rd.unlock()

	src.afterRead(readErr)
	c.afterWrite(writeErr)
	if writeErr != nil {
		return moved, writeErr
	}
	if errors.Is(readErr, io.EOF) {
		return moved, nil
	}
	return moved, readErr
}

func (c *Conn) splice(src *Conn) (readErr, writeErr error) {
	// What is in memory goes first, and takes part in no splice.
	for {
		if err := c.canSend(); err != nil {
			return nil, err
		}
		switch f := src.flags.Load(); {
		case f&(flagGone|flagReadClosed) != 0:
			_, err := src.receive(background, nil)
			return err, nil
		case len(src.unread) > 0:
			p := src.unread
			src.setUnread(nil)
			n, err := c.send(background, p)
			if err != nil {
				src.pushBack(p[n:])
				return nil, err
			}
			continue
		case f&flagReadEnded != 0:
			return io.EOF, nil
		}
		break
	}
	t := sys.Transfer{
		Dst: c.kernel(), Src: src.kernel(),
		Received: func(n int) {
			src.gotBytes(n)
			if src.trace != nil {
				src.emit(Event{Op: OpRead, Bytes: int64(n)})
			}
		},
		Sent: func(n int) {
			c.sent.Store(c.sent.Load() + int64(n))
			if c.trace != nil {
				c.emit(Event{Op: OpWrite, Bytes: int64(n)})
			}
		},
	}
	left, rerr, werr := t.Run()
	src.pushBack(left)
	switch {
	case werr != nil:
		return nil, c.callError(background, OpWrite, werr)
	case errors.Is(rerr, errors.ErrUnsupported):
		return rerr, nil
	case rerr != nil:
		return src.readError(background, rerr), nil
	}
	return src.readEnded(), nil
}
