// This file holds the Carrier: the connection below as a library sees it that
// must not be interrupted in the middle of a frame.

package deadline

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// The bounds of a Carrier, in bytes.
const (
	// MaxChunk is how much of the caller's data may be written by the library
	// between two Flushes.
	MaxChunk = 64 << 10
	// MaxQueued bounds the queue: the frames of one chunk, and what the library
	// says on its own (alerts, pongs, key updates).
	MaxQueued = MaxChunk + 16<<10
)

// ErrCut is what Read returns where the connection below says io.EOF: to the
// library that is a carrier without an end of the protocol above. It matches
// io.ErrUnexpectedEOF and is not that value, which crypto/tls would take for
// an end between two records.
var ErrCut error = cutError{}

type cutError struct{}

func (cutError) Error() string        { return "the carrier ended without the peer's end" }
func (cutError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// ErrQueueFull is what Write returns when the queue would grow beyond
// MaxQueued: more than a chunk was written without a Flush, or the peer makes
// the library answer and does not read the answers.
var ErrQueueFull = errors.New("the peer does not read the answers that it asks for")

// A Carrier is the connection below as a library sees it. It is a net.Conn.
//
// Read passes through, bounded by below's own read deadline. Write queues: it
// never blocks, and no deadline makes it fail. Flush sends the queue. The
// stream over the library writes so:
//
//	for each chunk of at most MaxChunk bytes:
//	    Flush            a passed deadline ends the call here, nothing of the chunk is taken
//	    Cork
//	    library's write  queues whole frames: the chunk is accepted
//	    Flush            always, whatever the library's write returned
//
// The caller's write deadline belongs to the Carrier (SetFlushDeadline) and not
// to the connection below: it is put there only while a Flush or Within is at
// work. What a Flush leaves when the deadline passes is sent by a goroutine of
// the Carrier without a deadline, since nobody may write again. The same
// goroutine sends what the library writes while it reads: Read starts it, and
// the stream by FlushLater where the library's read has returned an error. It
// exists only as long as there is something to send; Close and Abort wait for
// it.
//
// All methods may be called from several goroutines. An idle Carrier has no
// goroutine and no buffer.
type Carrier struct {
	below net.Conn

	mu       sync.Mutex // guards what follows
	head     *block     // what is sent first; belongs to who sends while busy
	tail     *block     // what was queued after it
	queued   int        // bytes in both
	busy     bool       // somebody is in a call of below that writes
	bounded  bool       // and is bounded by deadline
	corked   bool       // a Flush will follow
	through  bool       // Write sends at once
	closed   bool
	applied  bool          // below has a write deadline
	err      error         // of below, for good
	deadline *time.Time    // of Flush, Within and a Write that goes through; nil is none
	changed  chan struct{} // closed when any of these changed; nil until somebody waits
	later    chan struct{} // closed at the end of the goroutine that sends; nil without one
}

var _ net.Conn = (*Carrier)(nil)

// NewCarrier takes over the writing side of below, whose write deadline must
// not be set by others from now on.
func NewCarrier(below net.Conn) *Carrier {
	c := new(Carrier)
	c.Over(below)
	return c
}

// Over makes the zero Carrier what NewCarrier makes: for one that is a part of
// another object.
func (c *Carrier) Over(below net.Conn) { c.below = below }

// A block is a piece of the queue. It comes from a pool, so that only what is
// not sent yet costs memory.
type block struct {
	off, end int
	p        [MaxQueued]byte
}

var blocks = sync.Pool{New: func() any { return new(block) }}

// Read is below's Read. Its io.EOF becomes ErrCut. What the library has queued
// on its own is sent meanwhile, as FlushLater does it.
func (c *Carrier) Read(p []byte) (int, error) {
	c.FlushLater()
	n, err := c.below.Read(p)
	switch {
	case n > 0:
		return n, nil // below says the error again
	case errors.Is(err, io.EOF):
		return 0, ErrCut
	}
	return 0, err
}

// Write queues p, whole or not at all. It fails with ErrQueueFull, with the
// error that below has failed with, and with net.ErrClosed. After
// SetThrough(true) it sends p, as Flush does.
func (c *Carrier) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.through {
		return c.writeThrough(p)
	}
	if err := c.broken(); err != nil {
		return 0, err
	}
	if c.queued+len(p) > MaxQueued {
		return 0, ErrQueueFull
	}
	c.push(p)
	return len(p), nil
}

// writeThrough is Write for a handshake; mu is held.
func (c *Carrier) writeThrough(p []byte) (n int, err error) {
	for n < len(p) {
		m := min(len(p)-n, MaxQueued-c.queued)
		c.push(p[n : n+m])
		n += m
		if err := c.flush(true); err != nil {
			return n - m, err
		}
	}
	return n, nil
}

// push appends p to the queue, which has room for it; mu is held.
func (c *Carrier) push(p []byte) {
	if len(p) == 0 {
		return
	}
	if c.tail == nil {
		c.tail = blocks.Get().(*block)
	}
	// Both blocks together hold at most MaxQueued, so one has room for it.
	c.tail.end += copy(c.tail.p[c.tail.end:], p)
	c.queued += len(p)
}

// SetThrough makes Write send at once, bounded by the flush deadline, until it
// is called with false: for a handshake, where the library waits for the answer
// to what it wrote.
func (c *Carrier) SetThrough(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.through = on
}

// Cork says that a Flush will follow at once: until then what is queued is
// left to that.
func (c *Carrier) Cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

// Flush sends what is queued, bounded by the flush deadline: past it the error
// is os.ErrDeadlineExceeded, also when nothing is queued, and what is left is
// sent later. Other errors are below's, for good, and net.ErrClosed.
func (c *Carrier) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	err := c.flush(true)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.startLater()
	}
	return err
}

// FlushLater sends what is queued from a goroutine of the Carrier, bounded by
// Close and Abort only. It does nothing if nothing is queued or somebody sends
// already.
func (c *Carrier) FlushLater() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.startLater()
}

// Within sends what is queued and then calls f, which may wait for what was
// sent; below's write deadline is the flush deadline meanwhile, also when that
// is moved. Nothing is sent while f is at work.
func (c *Carrier) Within(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if err := c.flush(true); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.startLater()
		}
		return err
	}
	err := c.occupy(true, f)
	c.startLater()
	return err
}

// Queued is how many bytes wait to be sent, or are being sent.
func (c *Carrier) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// SetFlushDeadline is the write deadline of the stream's caller: the instant
// after which Flush and Within give up, pending ones too; zero is none.
func (c *Carrier) SetFlushDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = nil
	if !t.IsZero() {
		c.deadline = &t
	}
	c.announce()
	if c.busy && c.bounded {
		return c.apply(t)
	}
	return nil
}

// Close drops what is queued, closes the connection below and waits for the
// goroutine that sends.
func (c *Carrier) Close() error { return c.end(c.below.Close) }

// Abort is Close that calls below's Abort, if it has one.
func (c *Carrier) Abort() error {
	if b, ok := c.below.(interface{ Abort() error }); ok {
		return c.end(b.Abort)
	}
	return c.Close()
}

func (c *Carrier) end(below func() error) error {
	c.mu.Lock()
	c.closed = true
	if !c.busy {
		c.drop()
	}
	c.announce()
	later := c.later
	c.mu.Unlock()
	err := below() // wakes who sends
	if later != nil {
		<-later
	}
	return err
}

// LocalAddr is below's.
func (c *Carrier) LocalAddr() net.Addr { return c.below.LocalAddr() }

// RemoteAddr is below's.
func (c *Carrier) RemoteAddr() net.Addr { return c.below.RemoteAddr() }

// SetDeadline does nothing: the library has no say over deadlines.
func (c *Carrier) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: see SetDeadline. Readers are bounded by the
// read deadline of the connection below, which is the stream's to set.
func (c *Carrier) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: see SetDeadline and SetFlushDeadline.
func (c *Carrier) SetWriteDeadline(time.Time) error { return nil }

// broken is why nothing is sent any more, or nil; mu is held, as it is in
// everything that follows.
func (c *Carrier) broken() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.err != nil:
		return c.err
	}
	return nil
}

// flush sends until nothing is queued; bounded, until the deadline at most,
// which counts as passed before anything is sent.
func (c *Carrier) flush(bounded bool) error {
	for first := true; ; first = false {
		for c.busy && c.broken() == nil && !(bounded && c.expired()) {
			c.wait(bounded)
		}
		if err := c.broken(); err != nil {
			return err
		}
		switch {
		case bounded && (first || c.busy) && c.expired():
			return os.ErrDeadlineExceeded
		case c.queued == 0:
			return nil
		}
		if err := c.occupy(bounded, c.send); err != nil {
			return err
		}
	}
}

// expired reports whether the flush deadline has passed.
func (c *Carrier) expired() bool {
	return c.deadline != nil && !time.Now().Before(*c.deadline)
}

// wait waits for a change; bounded, until the deadline at most.
func (c *Carrier) wait(bounded bool) {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	changed := c.changed
	var expired <-chan time.Time
	if bounded && c.deadline != nil {
		t := time.NewTimer(time.Until(*c.deadline))
		defer t.Stop()
		expired = t.C
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-changed:
	case <-expired:
	}
}

// announce wakes those who wait.
func (c *Carrier) announce() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// occupy calls f, which works on below's writing side, without mu and with
// the deadline in place that is due.
func (c *Carrier) occupy(bounded bool, f func() error) error {
	var due time.Time
	if bounded && c.deadline != nil {
		due = *c.deadline
	}
	if err := c.apply(due); err != nil {
		return c.fail(err)
	}
	if c.head == nil {
		c.head, c.tail = c.tail, nil
	}
	c.busy, c.bounded = true, bounded
	c.mu.Unlock()
	err := f()
	c.mu.Lock()
	c.busy = false
	c.announce()
	if c.closed {
		c.drop()
		if err != nil {
			err = net.ErrClosed
		}
	}
	return err
}

// apply puts below's write deadline in place.
func (c *Carrier) apply(t time.Time) error {
	if t.IsZero() && !c.applied {
		return nil
	}
	c.applied = !t.IsZero()
	return c.below.SetWriteDeadline(t)
}

// send is what flush occupies below with: one call of its Write, for head.
func (c *Carrier) send() error {
	b := c.head
	n, err := c.below.Write(b.p[b.off:b.end])
	c.mu.Lock()
	defer c.mu.Unlock()
	b.off += n
	c.queued -= n
	switch {
	case b.off == b.end:
		c.recycle(&c.head)
	case err == nil:
		err = io.ErrShortWrite
	}
	switch {
	case err == nil:
		return nil
	case c.bounded && errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return c.fail(err)
}

// fail makes err the one of every later call; nothing more is sent.
func (c *Carrier) fail(err error) error {
	if broken := c.broken(); broken != nil {
		return broken
	}
	c.err = err
	c.drop()
	return err
}

// drop empties the queue.
func (c *Carrier) drop() {
	c.queued = 0
	c.recycle(&c.head)
	c.recycle(&c.tail)
}

// recycle gives a block back.
func (*Carrier) recycle(b **block) {
	if *b != nil {
		(*b).off, (*b).end = 0, 0
		blocks.Put(*b)
		*b = nil
	}
}

// startLater is FlushLater. Whoever is at work sends all, or comes here when
// its deadline has passed.
func (c *Carrier) startLater() {
	if c.queued == 0 || c.corked || c.through || c.busy || c.later != nil || c.broken() != nil {
		return
	}
	c.later = make(chan struct{})
	go c.sendLater(c.later)
}

// sendLater is the goroutine that sends what is left. Close and Abort wait for
// done.
func (c *Carrier) sendLater(done chan struct{}) {
	defer close(done)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.flush(false) // an error is kept for the next call
	c.later = nil
}
