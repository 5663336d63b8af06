// This file holds the stream: a tls.Conn over a Carrier.

package tls

import (
	"context"
	cryptotls "crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
)

// A stream is one side of a TLS connection after the handshake. Its methods
// mean what those of anysock.Conn do, which calls Read and Write from one
// goroutine each at a time.
type stream struct {
	tls     *cryptotls.Conn
	carrier deadline.Carrier
	below   *anysock.Conn
	record  atomic.Int32 // bytes of ours in the largest record so far
	facts   atomic.Uint32

	refusal atomic.Pointer[anysock.Error] // the alert by which the peer gave up
	awaited atomic.Pointer[chan struct{}] // closed by the Read at work, for a Write
}

// The facts about a stream.
const (
	holds    = 1 << iota // the library may have bytes that no Read has taken
	reading              // Read is at work
	ended                // the peer's close_notify was read
	unwanted             // and all but our close_notify was delivered
)

func (s *stream) is(fact uint32) bool { return s.facts.Load()&fact != 0 }

// set makes facts true; only one that is news costs anything.
func (s *stream) set(fact uint32) {
	if !s.is(fact) {
		s.facts.Or(fact)
	}
}

func (s *stream) unset(fact uint32) { s.facts.And(^fact) }

// maxRecord bounds what is in one record (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// alertGrace is how long a Write that was reset waits for a reader, who may find
// the alert that says why.
const alertGrace = 200 * time.Millisecond

// Read returns io.EOF after the peer's close_notify only.
func (s *stream) Read(p []byte) (n int, err error) {
	s.set(reading)
	defer s.readDone()
	n, err = s.tls.Read(p)
	if n > 0 {
		s.set(holds)
	}
	if err == nil {
		return n, nil
	}
	s.carrier.FlushLater() // the alert that says why, if that is for us to say
	if n > 0 {
		return n, nil // the next call says it again
	}
	return 0, s.readError(err)
}

// readDone tells a Write that waits for the reader.
func (s *stream) readDone() {
	s.unset(reading)
	if done := s.awaited.Swap(nil); done != nil {
		close(*done)
	}
}

// awaitReader waits until the alert was read, or nothing is left in which it
// could be, for alertGrace at most.
func (s *stream) awaitReader() {
	t := time.NewTimer(alertGrace)
	defer t.Stop()
	for s.refusal.Load() == nil {
		read := make(chan struct{})
		s.awaited.Store(&read)
		if n, err := s.Unread(); !s.is(reading) && (n == 0 || err != nil) {
			return
		}
		select {
		case <-read:
		case <-t.C:
			return
		}
	}
}

// Write accepts what is in records that wait to be sent: past the deadline the
// Carrier goes on sending them.
func (s *stream) Write(p []byte) (n int, err error) {
	if err := s.carrier.Flush(); err != nil {
		return 0, s.writeError(anysock.OpWrite, err)
	}
	if r := int32(min(len(p), maxRecord)); r > s.record.Load() {
		s.record.Store(r)
	}
	for n < len(p) && err == nil {
		s.carrier.Cork()
		var m int
		m, err = s.tls.Write(p[n:min(n+deadline.MaxChunk, len(p))])
		if ferr := s.carrier.Flush(); err == nil {
			err = ferr
		}
		n += m
	}
	if err != nil {
		return n, s.writeError(anysock.OpWrite, err)
	}
	return n, nil
}

// CloseWrite sends close_notify. Past the deadline it is queued, and a second
// call waits again until it is sent.
//
// Many a peer closes as soon as it has sent its close_notify. It has no use for
// ours, so that is no failure, if everything before it had arrived.
func (s *stream) CloseWrite() error {
	if s.is(ended) && s.delivered() {
		s.set(unwanted)
	}
	s.carrier.Cork()
	err := s.tls.CloseWrite() // only the first call sends anything
	if ferr := s.carrier.Flush(); err == nil {
		err = ferr
	}
	return s.endError(anysock.OpShutdown, err)
}

// endError is writeError once close_notify was sent. Of a peer that has ended in
// order, EPIPE says that it has closed (tcp(7), unix(7)); what it threw away
// would be ECONNRESET.
func (s *stream) endError(op string, err error) error {
	if s.is(unwanted) && errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return s.writeError(op, err)
}

// delivered reports whether nothing of ours is known to be on its way.
func (s *stream) delivered() bool {
	n, err := s.Unacked()
	return n == 0 || errors.Is(err, errors.ErrUnsupported)
}

// CloseRead and TakeError are as a Conn has them of a stream without.
func (s *stream) CloseRead() error { return errors.ErrUnsupported }

// TakeError finds nothing: a failure is noticed below, or by reading.
func (s *stream) TakeError() error { return nil }

// Close closes the connection below, which goes on in its own way. Without
// CloseWrite before it the peer is truncated.
func (s *stream) Close() error { return s.carrier.Close() }

// Abort aborts the connection below.
func (s *stream) Abort() error { return s.carrier.Abort() }

// Below is the connection that carries this one.
func (s *stream) Below() *anysock.Conn { return s.below }

// Caps is what the connection below can do, and added.
func (s *stream) Caps() anysock.Caps { return s.below.Caps() | added }

// Unacked is how many encrypted bytes are not sent, or not acknowledged, and
// one record more: a record of which a part is missing is lost whole.
func (s *stream) Unacked() (int, error) {
	queued := s.carrier.Queued()
	n, err := s.below.Unacked()
	if err != nil && (queued == 0 || !errors.Is(err, errors.ErrUnsupported)) {
		return 0, err
	}
	if n += int64(queued); n > 0 {
		n += int64(s.record.Load())
	}
	return int(n), nil
}

// Unread is more than 0 if bytes, maybe encrypted ones, wait to be read.
func (s *stream) Unread() (int, error) {
	if s.is(holds) {
		return 1, nil
	}
	return s.below.Unread()
}

// WaitAcked waits until the queue is sent and the connection below says that
// all of it is acknowledged.
func (s *stream) WaitAcked() error {
	return s.endError(anysock.OpWait, s.carrier.Within(func() error {
		return s.below.WaitAcked(context.Background())
	}))
}

// LocalAddr is that of the connection below.
func (s *stream) LocalAddr() net.Addr { return s.below.LocalAddr() }

// RemoteAddr is that of the connection below.
func (s *stream) RemoteAddr() net.Addr { return s.below.RemoteAddr() }

// SetDeadline sets both.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read. The library bears that: a part of a record waits
// for the next Read.
func (s *stream) SetReadDeadline(t time.Time) error { return s.below.SetReadDeadline(t) }

// SetWriteDeadline bounds Write, CloseWrite and WaitAcked.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.carrier.SetFlushDeadline(t) }
