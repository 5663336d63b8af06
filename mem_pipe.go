// This file holds the stream of the mem transport: two ends joined by a
// bounded buffer per direction. mem.go has the names, the dialing and the
// listening.

package anysock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A memAddr is the address of one end. Network is mem, or the name of the
// built-in service.
type memAddr struct{ network, name string }

func (a memAddr) Network() string { return a.network }
func (a memAddr) String() string  { return a.name }

// A memStream is one end of a stream within the process. It behaves like a
// TCP socket whose path is perfect:
//
//   - What Write has taken is in the peer's buffer, and that counts as
//     acknowledged: the next hop holds it, its program may not have read it.
//     What the peer then throws away, by a Close or Abort with it unread, is
//     counted as unacknowledged again, and comes with a reset.
//   - Close is an end in order, unless received data is unread: then it is a
//     reset, so that the peer learns that its bytes are lost. What is in the
//     peer's buffer stays readable either way, before the end or the reset.
//   - Abort is a reset. A peer that had read our end, or has it in its buffer,
//     still reads that end (it is true) and hears of the reset by EPIPE when
//     it writes; a peer without it gets ECONNRESET on both sides. Once both
//     directions have ended there is nothing left to reset.
//   - Writing to a closed peer is EPIPE at once.
//
// Every method may be called from several goroutines; a Conn lets only one
// Read and one Write wait at a time, and so keeps Writes whole.
type memStream struct {
	mu            *sync.Mutex // the pair's: guards all but the addresses
	peer          *memStream
	local, remote memAddr

	// receiving side
	in       memBuffer
	ended    bool      // the peer's end comes behind in
	ignoring bool      // CloseRead: what comes is dropped
	readable sync.Cond // in has data, or there will be none
	readBy   memDeadline

	// sending side
	writable sync.Cond // the peer's in has room, or will never have
	writeBy  memDeadline

	closed bool
	reset  error         // how the peer gave up: ECONNRESET, or EPIPE after its end
	thrown int           // of our bytes (and our end), what the peer then discarded unread
	failed chan struct{} // closed with reset; nil until somebody asks
}

var _ stream = (*memStream)(nil)

// newMemPair makes a stream between two addresses. aLimit and bLimit bound
// the bytes that wait to be read at each end.
func newMemPair(a, b memAddr, aLimit, bLimit int) (*memStream, *memStream) {
	mu := new(sync.Mutex)
	x := &memStream{mu: mu, local: a, remote: b, in: memBuffer{limit: aLimit}}
	y := &memStream{mu: mu, local: b, remote: a, in: memBuffer{limit: bLimit}}
	x.peer, y.peer = y, x
	for _, s := range []*memStream{x, y} {
		s.readable.L, s.writable.L = mu, mu
	}
	return x, y
}

// LocalAddr is a name of network "mem".
func (s *memStream) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the peer's name.
func (s *memStream) RemoteAddr() net.Addr { return s.remote }

// Read takes what is there, waiting for the first byte.
func (s *memStream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case s.readBy.expired:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case s.in.n > 0:
			n := s.in.take(p)
			s.peer.writable.Broadcast()
			return n, nil
		case s.ended, s.ignoring:
			return 0, io.EOF
		case s.reset != nil:
			return 0, s.reset
		}
		s.readable.Wait()
	}
}

// Write puts p into the peer's buffer, waiting for room. n < len(p) only
// with an error.
func (s *memStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for {
		if err := s.cannotWrite(); err != nil {
			return n, err
		}
		if s.peer.ignoring {
			return len(p), nil
		}
		if m := s.peer.in.put(p[n:]); m > 0 {
			n += m
			s.peer.readable.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		s.writable.Wait()
	}
}

// cannotWrite says why no byte may be sent now; mu is held.
func (s *memStream) cannotWrite() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.writeBy.expired:
		return os.ErrDeadlineExceeded
	case s.reset != nil:
		return s.reset
	case s.peer.ended, s.peer.closed:
		return syscall.EPIPE
	}
	return nil
}

// CloseWrite ends our direction behind what was written. Towards a peer that
// closed in order it succeeds, as it does on TCP.
func (s *memStream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.reset != nil:
		return s.reset
	}
	s.peer.ended = true
	s.peer.readable.Broadcast()
	s.writable.Broadcast()
	return nil
}

// CloseRead drops what waits to be read and what will come; the peer is not
// told and goes on writing.
func (s *memStream) CloseRead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.ignoring = true
	s.in.discard()
	s.readable.Broadcast()
	s.peer.writable.Broadcast()
	return nil
}

// Close releases our end. A second Close does nothing.
func (s *memStream) Close() error { return s.shut(false) }

// Abort releases our end with a reset.
func (s *memStream) Abort() error { return s.shut(true) }

func (s *memStream) shut(abort bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	p := s.peer
	over := s.ended && p.ended
	switch {
	case over:
	case abort, s.in.n > 0:
		p.reset = syscall.ECONNRESET
		if p.ended {
			p.reset = syscall.EPIPE
		}
		if p.thrown = s.in.n; p.thrown > 0 && s.ended {
			p.thrown++
		}
		if p.failed != nil {
			close(p.failed)
		}
	default:
		p.ended = true
	}
	s.in.discard()
	s.readBy.stop()
	s.writeBy.stop()
	for _, c := range []*sync.Cond{&s.readable, &s.writable, &p.readable, &p.writable} {
		c.Broadcast()
	}
	return nil
}

// Unacked is 0 as long as the peer holds, or has read, what was written.
func (s *memStream) Unacked() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thrown, nil
}

// WaitAcked never waits; the error is the peer's reset.
func (s *memStream) WaitAcked() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.reset
}

// Unread is how many bytes wait to be read.
func (s *memStream) Unread() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return s.in.n, nil
}

// TakeError is the peer's reset. Unlike a kernel's it stays: reads and writes
// go on to report it.
func (s *memStream) TakeError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reset
}

// Failed is closed when the peer gave up; Conn.Wait waits for it.
func (s *memStream) Failed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = make(chan struct{})
		if s.reset != nil {
			close(s.failed)
		}
	}
	return s.failed
}

// SetDeadline sets both.
func (s *memStream) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.readBy.set(t, &s.readable)
	s.writeBy.set(t, &s.writable)
	return nil
}

// SetReadDeadline bounds Read, a pending one too.
func (s *memStream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.readBy.set(t, &s.readable)
	return nil
}

// SetWriteDeadline bounds Write, a pending one too, which returns its count.
func (s *memStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.writeBy.set(t, &s.writable)
	return nil
}

// A memDeadline is an instant that wakes those who wait on a condition; its
// fields are guarded by the condition's lock.
type memDeadline struct {
	expired bool
	timer   *time.Timer
}

// set replaces the deadline; the caller holds the lock of wake. The instant
// is over when its timer says so, not when the clock is read, so that a clock
// that is set back cannot lose the wake-up.
func (d *memDeadline) set(t time.Time, wake *sync.Cond) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		wake.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		wake.L.Lock()
		defer wake.L.Unlock()
		if d.timer == timer { // else it was replaced as it fired
			d.expired = true
			wake.Broadcast()
		}
	})
	d.timer = timer
}

func (d *memDeadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// A memBuffer is a ring of bytes that grows with its use up to limit, so that
// an idle connection costs no buffer.
type memBuffer struct {
	ring  []byte
	start int // of the first byte
	n     int // bytes held
	limit int
}

// minMemBuffer is what a buffer starts with.
const minMemBuffer = 1 << 10

// put takes what there is room for.
func (b *memBuffer) put(p []byte) int {
	p = p[:min(len(p), b.limit-b.n)]
	if len(p) == 0 {
		return 0
	}
	if need := b.n + len(p); need > len(b.ring) {
		b.grow(min(max(need, 2*len(b.ring), minMemBuffer), b.limit))
	}
	end := b.start + b.n
	if end >= len(b.ring) {
		end -= len(b.ring)
	}
	m := copy(b.ring[end:], p)
	copy(b.ring, p[m:])
	b.n += len(p)
	return len(p)
}

func (b *memBuffer) grow(size int) {
	ring := make([]byte, size)
	m := copy(ring, b.ring[b.start:min(b.start+b.n, len(b.ring))])
	copy(ring[m:], b.ring[:b.n-m])
	b.ring, b.start = ring, 0
}

// take moves bytes to p.
func (b *memBuffer) take(p []byte) int {
	p = p[:min(len(p), b.n)]
	m := copy(p, b.ring[b.start:])
	copy(p[m:], b.ring)
	b.n -= len(p)
	b.start += len(p)
	if b.start >= len(b.ring) {
		b.start -= len(b.ring)
	}
	if b.n == 0 {
		b.start = 0
	}
	return len(p)
}

func (b *memBuffer) discard() { b.ring, b.start, b.n = nil, 0, 0 }
