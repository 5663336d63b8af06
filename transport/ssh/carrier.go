// This file holds the connection below as the SSH library sees it. It watches
// what the library does, because the library tells its channels apart badly:
// a stream's own end, the closing of its channel and the loss of the whole
// connection all read as io.EOF.

package ssh

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// A carrier is the net.Conn that the library gets. Its deadlines do nothing:
// those of streams end in front of the library.
//
// It knows two things from which the meaning of an io.EOF follows: whether the
// connection below has ended, and whether the library waits for more from it.
// The library reads from one goroutine, which passes on all that it got before
// it reads again.
type carrier struct {
	below *anysock.Conn
	heard atomic.Int64 // when bytes came in last, as time.Since(epoch)
	// gaveUp is closed when the library has called Close.
	gaveUp chan struct{}
	once   sync.Once

	mu        sync.Mutex    // guards what follows
	reading   bool          // the library waits for bytes
	lost      error         // why there will be no more; nil as long as there may be
	released  bool          // the connection below is closed, by us
	undecided int           // streams that may still have to look at an end of theirs
	changed   chan struct{} // closed and removed when any of these changed; nil if nobody waits
}

// epoch is what times are measured from, on the monotonic clock.
var epoch = time.Now()

func newCarrier(below *anysock.Conn) *carrier {
	c := &carrier{below: below, gaveUp: make(chan struct{})}
	c.heard.Store(int64(time.Since(epoch)))
	return c
}

// wake tells who waits for a change; mu is held.
func (c *carrier) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// change is closed at the next change; mu is held.
func (c *carrier) change() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Read is the library's.
func (c *carrier) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.reading = true
	c.wake()
	c.mu.Unlock()
	n, err := c.below.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(epoch)))
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.settle()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if err != nil {
		c.lose(err)
	}
	return n, err
}

// settle gives streams the time to look at ends that came before that of the
// connection. They are only late if the machine is busy.
func (c *carrier) settle() {
	t := time.NewTimer(cutGrace)
	defer t.Stop()
	for {
		c.mu.Lock()
		settled, changed := c.undecided == 0, c.change()
		c.mu.Unlock()
		if settled {
			return
		}
		select {
		case <-changed:
		case <-t.C:
			return
		}
	}
}

// lose records why the connection below has ended, once; mu is held.
func (c *carrier) lose(err error) {
	if c.lost == nil {
		c.lost = err
		c.wake()
	}
}

// Write is the library's. A failure shows in Read, too.
func (c *carrier) Write(p []byte) (int, error) { return c.below.Write(p) }

// Close is the library's, when it gives up. After an end of the connection
// below it is the same for our direction; else the other side must not take a
// failure for an end.
func (c *carrier) Close() error {
	defer c.once.Do(func() { close(c.gaveUp) })
	c.mu.Lock()
	lost, released := c.lost, c.released
	c.released = true
	c.mu.Unlock()
	if released {
		return nil
	}
	if isEOF(lost) {
		return c.below.Close()
	}
	_ = c.below.Abort()
	return nil
}

// release closes the connection below in order; the library will follow.
func (c *carrier) release() {
	c.mu.Lock()
	c.released = true
	c.mu.Unlock()
	_ = c.below.Close()
}

// abort closes it at once.
func (c *carrier) abort() {
	c.mu.Lock()
	c.released = true
	c.mu.Unlock()
	_ = c.below.Abort()
}

// fail ends the connection for a reason of ours.
func (c *carrier) fail(err error) {
	c.mu.Lock()
	c.lose(err)
	c.released = true
	c.mu.Unlock()
	_ = c.below.AbortAs(anysock.Lost, err)
}

// expect and decided count the streams that settle waits for.
func (c *carrier) expect(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undecided += n
}

func (c *carrier) decided() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undecided--
	c.wake()
}

// alive reports how things stand with the connection below: whether the library
// waits for more, what to wait for if not, and why there will be no more.
func (c *carrier) alive() (waiting bool, changed <-chan struct{}, lost error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reading, c.change(), c.lost
}

// silence is how long nothing has come in.
func (c *carrier) silence() time.Duration {
	return time.Since(epoch) - time.Duration(c.heard.Load())
}

// LocalAddr is that of the connection below.
func (c *carrier) LocalAddr() net.Addr { return c.below.LocalAddr() }

// RemoteAddr is that of the connection below.
func (c *carrier) RemoteAddr() net.Addr { return c.below.RemoteAddr() }

// SetDeadline does nothing.
func (c *carrier) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *carrier) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *carrier) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*carrier)(nil)

// isEOF reports an end in order of the connection below: not of a stream.
func isEOF(err error) bool { return errors.Is(err, io.EOF) }
