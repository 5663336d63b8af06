package anysock

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// Read receives what is there, at most len(p) bytes, waiting for the first.
//
// io.EOF means that the peer ended its direction in order, as far as the
// carrier can tell; a reset (KindReset), a cut carrier (KindTruncated) or a
// silent peer (KindLost) is never io.EOF, whoever noticed it first. Past the
// read deadline the error matches os.ErrDeadlineExceeded, after Close or
// Abort net.ErrClosed. An empty p returns at once.
func (c *Conn) Read(p []byte) (int, error) { return c.read(background, p) }

// ReadContext is Read that ctx can cut short: the error then matches ctx's,
// the count says what was received, and the connection and its deadlines are
// as before.
func (c *Conn) ReadContext(ctx context.Context, p []byte) (int, error) { return c.read(ctx, p) }

func (c *Conn) read(ctx context.Context, p []byte) (int, error) {
	start := c.now()
	if err := c.rd.lock(ctx); err != nil {
		return 0, c.opError(OpRead, err)
	}
	n, err := c.receive(ctx, p)
	c.step(OpRead, start, int64(n), err)
	c.rd.unlock()
	c.afterRead(err)
	return n, err
}

// afterRead makes a failure that a read noticed the ending. It comes after the
// turn was given back, because the ending waits for calls at work.
func (c *Conn) afterRead(err error) {
	if err != nil && c.is(flagFailed) && !c.is(flagDisconnecting) {
		c.finishFailed()
	}
}

// receive is Read for whoever has the turn.
func (c *Conn) receive(ctx context.Context, p []byte) (int, error) {
	f := c.flags.Load()
	if f&flagGone != 0 {
		return 0, closedError(OpRead, c.peerName())
	}
	if f&flagReadClosed != 0 {
		return 0, &Error{Op: OpRead, Addr: c.peerName(), Kind: KindClosed, Err: errReadClosed}
	}
	return c.receiveAny(ctx, p)
}

// receiveAny is receive that goes on while the connection is closing.
func (c *Conn) receiveAny(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if n := c.takeUnread(p); n > 0 {
		return n, nil
	}
	if c.is(flagReadEnded) {
		return 0, io.EOF
	}
	w, err := c.rd.begin(ctx)
	if err != nil {
		return 0, c.opError(OpRead, err)
	}
	n, err := c.s.Read(p)
	c.rd.end(w)
	if n > 0 {
		c.gotBytes(n)
	}
	if err == nil {
		return n, nil
	}
	return n, c.readError(ctx, err)
}

// gotBytes counts what was received; only the turn's holder calls it.
func (c *Conn) gotBytes(n int) {
	old := c.received.Load()
	if old == 0 {
		c.firstReceived.Store(time.Now().UnixNano())
	}
	c.received.Store(old + int64(n))
}

var errReadClosed = errors.New("our reading side was closed by CloseRead")

// readError turns what the carrier's Read returned into what ours does.
func (c *Conn) readError(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) {
		return c.readEnded()
	}
	return c.callError(ctx, OpRead, err)
}

// readEnded records the peer's end and returns io.EOF, or the error that
// makes it no end: after a reset that a write noticed first, the kernel says
// end of file (docs/notes/so-error). If that write saw EPIPE, the end had
// come in before the reset and is true.
//
// The other calls that can take the reset from the kernel have the write turn
// until they have recorded it, so a connection that is over is not judged
// before that is free.
func (c *Conn) readEnded() error {
	if fd := c.kernel(); fd != nil && !c.is(flagFailed) && fd.Dead() && c.wr.lockWithin(endingGrace) {
		c.wr.unlock()
	}
	if c.is(flagFailed) {
		c.mu.Lock()
		genuine := errors.Is(c.so.failure, syscall.EPIPE)
		c.mu.Unlock()
		if !genuine {
			return c.failed(OpRead)
		}
	}
	c.mu.Lock()
	k := c.known()
	if k.readEnd == 0 {
		k.readEnd = c.sinceOpened()
	}
	if k.by == Nobody {
		k.by = Peer
	}
	c.mu.Unlock()
	c.set(flagReadEnded)
	return io.EOF
}

// setUnread changes what was received and not read; the caller has the turn.
func (c *Conn) setUnread(p []byte) {
	if len(p) == 0 {
		c.kept.Store(nil)
		return
	}
	kept := p // p itself would be an object, also where it is empty
	c.kept.Store(&kept)
}

// unread is what was received and not read. Whoever lacks the turn may look at
// its length only.
func (c *Conn) unread() []byte {
	if p := c.kept.Load(); p != nil {
		return *p
	}
	return nil
}

// takeUnread moves bytes that came in earlier to p.
func (c *Conn) takeUnread(p []byte) int {
	kept := c.unread()
	if len(kept) == 0 {
		return 0
	}
	n := copy(p, kept)
	c.setUnread(kept[n:])
	return n
}

// pushBack puts bytes back that were received and not used; the caller has
// the turn. They were counted when they came in.
func (c *Conn) pushBack(p []byte) {
	if len(p) > 0 {
		kept := c.unread()
		c.setUnread(append(append(make([]byte, 0, len(p)+len(kept)), p...), kept...))
	}
}

// ReadAtLeast reads into p until low bytes are there, at most len(p). It
// tells the kernel how much it waits for (SO_RCVLOWAT, socket(7)), so that
// it is not woken for less; the result is exact with or without that.
//
// It returns io.EOF if the peer ended before the first byte and
// io.ErrUnexpectedEOF if it ended after it; otherwise the errors of Read.
// Whenever n < low the error is not nil, and the n bytes are consumed. A low
// outside 1..len(p) is a KindState error.
func (c *Conn) ReadAtLeast(ctx context.Context, p []byte, low int) (int, error) {
	if low < 1 || low > len(p) {
		return 0, stateError(OpRead, c.peerName(), "the low-water mark must be between 1 and the buffer's size")
	}
	start := c.now()
	if err := c.rd.lock(ctx); err != nil {
		return 0, c.opError(OpRead, err)
	}
	n, err := c.receive(ctx, p)
	if err == nil && n < low {
		fd := c.kernel()
		for err == nil && n < low {
			if fd != nil && fd.SetInt(sys.LowWater, low-n) != nil {
				fd = nil // only a hint
			}
			var m int
			m, err = c.receive(ctx, p[n:])
			n += m
		}
		if fd != nil {
			_ = fd.SetInt(sys.LowWater, 1)
		}
	}
	if errors.Is(err, io.EOF) && n > 0 {
		err = io.ErrUnexpectedEOF
	}
	if n >= low {
		err = nil // what ended it is there for the next read
	}
	c.step(OpRead, start, int64(n), err)
	c.rd.unlock()
	c.afterRead(err)
	return n, err
}

// Peek copies bytes that wait to be read into p without consuming them,
// waiting for the first. The errors are those of ReadContext; like them, an
// ending that is noticed here is remembered.
func (c *Conn) Peek(ctx context.Context, p []byte) (int, error) {
	start := c.now()
	if err := c.rd.lock(ctx); err != nil {
		return 0, c.opError(OpPeek, err)
	}
	n, err := c.peek(ctx, p)
	if err != nil {
		c.step(OpPeek, start, int64(n), err)
	}
	c.rd.unlock()
	c.afterRead(err)
	return n, err
}

func (c *Conn) peek(ctx context.Context, p []byte) (int, error) {
	switch f := c.flags.Load(); {
	case f&flagGone != 0:
		return 0, closedError(OpPeek, c.peerName())
	case len(p) == 0:
		return 0, nil
	case len(c.unread()) > 0:
		return copy(p, c.unread()), nil
	case f&flagReadEnded != 0:
		return 0, io.EOF
	}
	fd := c.kernel()
	if fd == nil || !peekWorks {
		err := c.fillUnread(ctx, len(p))
		return copy(p, c.unread()), err
	}
	w, err := c.rd.begin(ctx)
	if err != nil {
		return 0, c.opError(OpPeek, err)
	}
	n, err := fd.Peek(p)
	c.rd.end(w)
	if err != nil {
		err = c.readError(ctx, err)
	}
	return n, err
}

// fillUnread reads ahead, once, where the carrier cannot peek.
func (c *Conn) fillUnread(ctx context.Context, size int) error {
	buf := make([]byte, min(size, DefaultReadBuffer))
	n, err := c.receive(ctx, buf)
	if n > 0 {
		c.pushBack(buf[:n])
		return nil
	}
	return err
}

// CloseRead turns away our readers, pending ones included: their error
// matches net.ErrClosed. The peer is not told; what it still sends is kept
// back by flow control and drained by Disconnect or Close. A second call does
// nothing.
func (c *Conn) CloseRead() error {
	if c.is(flagClosing) {
		return closedError(OpShutdown, c.peerName())
	}
	if c.flags.Or(flagReadClosed)&flagReadClosed == 0 {
		c.rd.take()
		if c.trace != nil {
			c.emit(Event{Op: OpShutdown, Detail: "read"})
		}
	}
	return nil
}

var readBuffers = sync.Pool{New: func() any { return new([DefaultReadBuffer]byte) }}

// ActiveRead calls fn with what comes in until the peer ends (nil), fn
// returns an error (that error), ctx is done (its error) or the connection
// fails. Exactly one read is pending at all times, also while fn is at work:
// what it brings waits until fn has returned, and no further read is made
// before. Not returning is therefore backpressure on the peer.
//
// p is valid until fn returns; at most DefaultReadBuffer bytes are held. What
// was received when fn failed or ctx was done is kept for the next read. fn
// must not call Disconnect, which would wait for the pending read: return,
// and then call it.
func (c *Conn) ActiveRead(ctx context.Context, fn func(p []byte) error) error {
	rctx, cancel := context.WithCancel(ctx)
	buf := readBuffers.Get().(*[DefaultReadBuffer]byte)
	a := activeRead{c: c, out: make(chan received), stop: make(chan struct{}), done: make(chan struct{})}
	go a.run(rctx, buf)

	var err error
	for err == nil {
		r := <-a.out
		if len(r.p) > 0 {
			err = fn(r.p)
		}
		if err == nil {
			err = r.err
		}
	}
	close(a.stop)
	cancel()
	<-a.done
	readBuffers.Put(buf)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// received is the outcome of one read.
type received struct {
	p   []byte
	err error
}

// An activeRead is the goroutine that keeps a read pending; ActiveRead owns
// it and waits for done.
type activeRead struct {
	c    *Conn
	out  chan received
	stop chan struct{}
	done chan struct{}
}

func (a *activeRead) run(ctx context.Context, buf *[DefaultReadBuffer]byte) {
	defer close(a.done)
	half := len(buf) / 2
	bufs := [2][]byte{buf[:half], buf[half:]}
	for i := 0; ; i = 1 - i {
		n, err := a.c.read(ctx, bufs[i])
		select {
		case a.out <- received{bufs[i][:n], err}:
		case <-a.stop:
			if n > 0 {
				a.c.giveBack(bufs[i][:n])
			}
			return
		}
		if err != nil {
			return
		}
	}
}
