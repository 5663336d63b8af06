// This file holds the Lookout: somebody looks at what comes, the caller or,
// while there is none, a goroutine.

package deadline

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Relief is how long after the last Read, or after the start, a Lookout begins
// to look by itself.
const Relief = 50 * time.Millisecond

// A Lookable is what a Lookout looks at: a source that waits in front of
// whatever must not be interrupted, by a deadline that it can be given. One
// goroutine at a time calls Read, Wait and Held.
type Lookable interface {
	// Read reads into p, which is never empty, and waits for the first byte.
	// Past the deadline it returns os.ErrDeadlineExceeded, and nothing is lost.
	// Any other error is for good. All of p may be written to.
	Read(p []byte) (int, error)
	// Wait waits until Read would return something, with little memory. Its
	// errors are Read's.
	Wait() error
	// Held is how many bytes Read would return without looking at what is below.
	Held() int
	// SetDeadline bounds Read and Wait, pending ones too; zero is no bound. It
	// may be called at any time.
	SetDeadline(t time.Time) error
}

// A Lookout has a source read all the time, so that what the other side says
// between the bytes is answered and a failure is noticed, and costs no
// goroutine of its own while there is a caller. A caller of Read looks for
// itself. When there was none for the time of Relief, a goroutine reads ahead,
// by at most BufferSize bytes; the next caller that finds nothing read ahead
// sends it away.
//
// One call of Read is at work at a time; the other methods may be called from
// several goroutines. The zero Lookout is made usable by Over.
type Lookout struct {
	src Lookable
	wg  sync.WaitGroup // the goroutine, and the timer that will be one

	mu       sync.Mutex // guards what follows
	seat     seat       // who looks
	relieved bool       // the goroutine is to leave
	filling  bool       // the goroutine reads into ring
	applied  bool       // the source has a deadline
	gone     bool       // Close was called
	ring     ring
	err      error         // what follows the bytes of ring; sticky
	deadline *time.Time    // of the caller; nil is none
	timer    *time.Timer   // until the goroutine begins; nil if there is nothing to wait for
	reads    uint32        // how often a caller has looked
	seen     uint32        // the same, when the timer was set
	changed  chan struct{} // closed and removed when something has changed; nil if nobody waits
	failed   chan struct{} // see Failed; nil until somebody asks
}

// A seat says who calls the source.
type seat uint8

const (
	seatFree seat = iota
	seatCaller
	seatGoroutine
)

// Over begins to look at src. Close must be called.
func (l *Lookout) Over(src Lookable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.src = src
	l.arm()
}

// Read gives what was read ahead, or looks: until the deadline
// (os.ErrDeadlineExceeded) or Close (net.ErrClosed). A deadline that has passed
// counts for what is there, too. After the bytes comes the source's error,
// io.EOF included, at every call.
func (l *Lookout) Read(p []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.gone:
			return 0, net.ErrClosed
		case l.deadline != nil && !time.Now().Before(*l.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case l.ring.n > 0:
			n = l.ring.take(p)
			if l.ring.n == 0 && l.filling {
				l.apply(longAgo) // to wait without the buffer
			}
			l.idle()
			l.announce() // there is room
			return n, nil
		case l.err != nil:
			return 0, l.err
		}
		if l.seat == seatFree {
			if n, err = l.look(p); !errors.Is(err, os.ErrDeadlineExceeded) {
				return n, err
			}
			continue // why it was woken is seen above
		}
		// The goroutine leaves as soon as it is woken, without anything else to
		// wait for, unless it brings something.
		if !l.relieved {
			l.relieved = true
			l.wake()
		}
		l.wait()
	}
}

// look is a caller's turn; mu is held.
func (l *Lookout) look(p []byte) (int, error) {
	l.seat = seatCaller
	var until time.Time
	if l.deadline != nil {
		until = *l.deadline
	}
	l.apply(until)
	l.mu.Unlock()
	n, err := l.src.Read(p)
	l.mu.Lock()
	l.seat = seatFree
	l.reads++
	l.judge(err)
	l.announce()
	if l.timer == nil {
		l.arm()
	}
	return n, err
}

// apply gives the source a deadline; mu is held, as it is in everything that
// follows. A source that takes none any more says so in Read.
func (l *Lookout) apply(t time.Time) {
	if t.IsZero() && !l.applied {
		return
	}
	l.applied = !t.IsZero()
	_ = l.src.SetDeadline(t)
}

// longAgo as a deadline wakes what waits.
var longAgo = time.Unix(1, 0)

// wake makes whoever looks come back.
func (l *Lookout) wake() {
	if l.seat != seatFree {
		l.apply(longAgo)
	}
	l.announce()
}

// wait waits for a change.
func (l *Lookout) wait() {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	changed := l.changed
	l.mu.Unlock()
	<-changed
	l.mu.Lock()
}

// announce tells who waits for a change.
func (l *Lookout) announce() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// idle gives an empty buffer back that nobody is filling.
func (l *Lookout) idle() {
	if !l.filling {
		l.ring.release(l.gone)
	}
}

// judge takes what the source has returned.
func (l *Lookout) judge(err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.applied = true // whoever set it
	case err != nil:
		l.end(err)
	}
}

// end records why nothing more comes, once.
func (l *Lookout) end(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	if l.failed != nil && l.hasFailed() {
		close(l.failed)
	}
}

func (l *Lookout) hasFailed() bool {
	return l.err != nil && !errors.Is(l.err, io.EOF)
}

// arm sets the timer, if there is something to look at.
func (l *Lookout) arm() {
	if l.gone || l.err != nil {
		return
	}
	l.seen = l.reads
	l.wg.Add(1)
	l.timer = time.AfterFunc(Relief, l.relieve)
}

// relieve is called by the timer, on a goroutine of its own: that becomes the
// one that looks, if no caller does or has done so lately. A caller that looks
// sets the timer again when it has done.
func (l *Lookout) relieve() {
	defer l.wg.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	switch {
	case l.seat == seatFree && l.reads != l.seen:
		l.arm()
	case l.seat == seatFree:
		l.readAhead()
	}
}

// readAhead looks until it is sent away, or until there is nothing more to look
// for.
func (l *Lookout) readAhead() {
	l.seat = seatGoroutine
	for !l.relieved && !l.gone && l.err == nil {
		// With little room a caller that takes little would cause as many small
		// reads.
		if l.ring.free() < BufferSize/4 {
			l.wait()
			continue
		}
		l.judge(l.fill())
		l.announce()
	}
	l.seat, l.relieved = seatFree, false
	l.idle()
	l.announce()
	// It may have brought what the caller came for, who then does not look.
	l.arm()
}

// fill reads once, into the ring. It holds no buffer while it waits, unless
// there are bytes in it.
func (l *Lookout) fill() error {
	l.apply(time.Time{})
	if l.ring.n == 0 {
		l.mu.Unlock()
		err := l.src.Wait()
		l.mu.Lock()
		if err != nil || l.gone {
			return err
		}
	}
	room := l.ring.room()
	l.filling = true
	l.mu.Unlock()
	n, err := l.src.Read(room)
	l.mu.Lock()
	l.filling = false
	l.ring.added(n)
	l.idle()
	return err
}

// Buffered is how many bytes are there for Read.
func (l *Lookout) Buffered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.ring.n
	if l.seat == seatFree && l.src != nil && !l.gone {
		n += l.src.Held()
	}
	return n
}

// Failed is closed when the source has ended with another error than io.EOF,
// also while bytes from before are still to be read. Close does not close it.
func (l *Lookout) Failed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = make(chan struct{})
		if l.hasFailed() {
			close(l.failed)
		}
	}
	return l.failed
}

// Err is the error that follows what was read ahead; nil as long as there is
// none.
func (l *Lookout) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Fail ends reading with err, as if the source had said so.
func (l *Lookout) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(err)
	l.wake()
}

// SetDeadline bounds Read, a pending one too; zero is no bound. After Close it
// returns net.ErrClosed.
func (l *Lookout) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return net.ErrClosed
	}
	l.deadline = nil
	if !t.IsZero() {
		l.deadline = &t
	}
	if l.seat == seatCaller {
		l.apply(t)
	}
	return nil
}

// Close turns callers away and discards what was read ahead. Whoever looks
// returns with the call of the source that is at work, which is woken. A second
// Close does nothing.
func (l *Lookout) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return
	}
	l.gone = true
	if l.timer != nil && l.timer.Stop() {
		l.timer = nil
		l.wg.Done()
	}
	l.idle()
	l.wake()
}

// Wait waits until nobody looks any more, after Close.
func (l *Lookout) Wait() {
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.seat != seatFree {
		l.wait()
	}
}
