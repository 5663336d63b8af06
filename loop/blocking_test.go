package loop_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// A blocking is a net.Conn over a connection whose handler is written as
// callbacks, so that what is written for blocking connections can judge it.
type blocking struct {
	c    *loop.Conn
	caps anysock.Caps

	mu      sync.Mutex
	moved   chan struct{} // closed when something below has changed
	in      []byte
	paused  bool
	ended   bool         // the peer's end was told
	end     *anysock.End // the ending was
	room    int          // how often Sent was told
	readBy  time.Time
	writeBy time.Time
	closed  bool
}

// readAhead is how much is kept of what nobody reads.
const readAhead = 64 << 10

// blockingHandler has accept given a blocking for each connection.
func blockingHandler(accept func(b *blocking)) loop.Handler {
	of := func(c *loop.Conn) *blocking { return c.Value().(*blocking) }
	return loop.Handler{
		Open: func(c *loop.Conn) {
			b := &blocking{c: c, moved: make(chan struct{})}
			c.SetValue(b)
			accept(b)
		},
		Data: func(c *loop.Conn, p []byte) {
			b := of(c)
			b.change(func() {
				b.in = append(b.in, p...)
				if len(b.in) >= readAhead {
					b.paused = true
					c.PauseRead()
				}
			})
		},
		End:   func(c *loop.Conn) { b := of(c); b.change(func() { b.ended = true }) },
		Sent:  func(c *loop.Conn) { b := of(c); b.change(func() { b.room++ }) },
		Ended: func(c *loop.Conn, end anysock.End) { b := of(c); b.change(func() { b.end = &end }) },
	}
}

// change changes something and wakes those who wait.
func (b *blocking) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.moved)
	b.moved = make(chan struct{})
}

// await waits until ready, which is called with mu held.
func (b *blocking) await(by *time.Time, ready func() bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.closed:
			return net.ErrClosed
		case !by.IsZero() && !time.Now().Before(*by):
			return os.ErrDeadlineExceeded
		case ready():
			return nil
		}
		var late <-chan time.Time
		if !by.IsZero() {
			late = time.After(time.Until(*by))
		}
		moved := b.moved
		b.mu.Unlock()
		select {
		case <-moved:
		case <-late:
		}
		b.mu.Lock()
	}
}

// on runs f on the loop and waits for it.
func (b *blocking) on(f func() error) error {
	done := make(chan error, 1)
	if err := b.c.Post(func() { done <- f() }); err != nil {
		return err
	}
	return <-done
}

func (b *blocking) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, resume := 0, false
	var over error
	err := b.await(&b.readBy, func() bool {
		n = copy(p, b.in)
		b.in = b.in[n:]
		if resume = b.paused && len(b.in) == 0; resume {
			b.paused = false
		}
		switch {
		case n > 0:
		case b.ended:
			over = io.EOF
		case b.end != nil && b.end.Err != nil:
			over = b.end.Err
		case b.end != nil:
			over = net.ErrClosed
		}
		return n > 0 || over != nil
	})
	if err != nil {
		return 0, err
	}
	if resume {
		_ = b.on(func() error { b.c.ResumeRead(); return nil }) // it may have ended
	}
	return n, over
}

// piece is what is written at once.
const piece = 16 << 10

func (b *blocking) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if err := b.await(&b.writeBy, func() bool { return true }); err != nil {
			return n, err
		}
		b.mu.Lock()
		room := b.room
		b.mu.Unlock()
		m := 0
		err := b.on(func() (err error) {
			m, err = b.c.Write(p[n:min(len(p), n+piece)])
			return err
		})
		n += m
		if errors.Is(err, loop.ErrFull) {
			err = b.await(&b.writeBy, func() bool { return b.room > room || b.end != nil })
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (b *blocking) CloseWrite() error { return b.on(b.c.CloseWrite) }

// Abort lets the peer see a reset.
func (b *blocking) Abort() error {
	defer b.change(func() { b.closed = true })
	return b.on(b.c.Abort)
}

// Close ends the connection in order.
func (b *blocking) Close() error {
	b.change(func() { b.closed = true })
	return b.on(func() error { b.c.Close(); return nil })
}

func (b *blocking) LocalAddr() net.Addr  { return nowhere{} }
func (b *blocking) RemoteAddr() net.Addr { return nowhere{} }

// nowhere is an address: the loop alone may ask for the true one.
type nowhere struct{}

func (nowhere) Network() string { return "loop" }
func (nowhere) String() string  { return "loop" }

func (b *blocking) SetDeadline(t time.Time) error {
	b.change(func() { b.readBy, b.writeBy = t, t })
	return nil
}

func (b *blocking) SetReadDeadline(t time.Time) error {
	b.change(func() { b.readBy = t })
	return nil
}

func (b *blocking) SetWriteDeadline(t time.Time) error {
	b.change(func() { b.writeBy = t })
	return nil
}

// Caps is what it can do: see socktest.
func (b *blocking) Caps() anysock.Caps { return b.caps }
