// This file holds the stream: what both halves share, how it fails, and how it
// is released. receive.go and send.go have the halves, watch.go what happens
// while nobody reads, live.go the signs of life.

package lifecycle

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anysock/anysock"
)

// A stream is one end of a connection that speaks lc. It is driven by a Conn,
// which lets one Read and one of Write, CloseWrite and WaitAcked be at work at
// a time; everything else may come at any time.
//
// The deadlines of the connection below are the stream's own tools: the
// caller's deadline is put there while the caller's call is at work, and a
// call of the stream itself is woken by one in the past.
type stream struct {
	below *anysock.Conn
	live  liveness

	mu      sync.Mutex     // guards what follows, but for what is marked
	changed chan struct{}  // closed when something moved that somebody waits for; nil until somebody does
	closed  bool           // Close or Abort was called
	failure error          // why the receiving half has failed; the sending half too
	noticed chan struct{}  // closed when the stream has failed, or its carrier has
	wasTold bool           // noticed is closed
	owned   sync.WaitGroup // the goroutines of flush and watch

	receiving
	sending
	tick
	aliveness
}

// streamOverReset is a stream over a carrier that has a reset: a failure shows
// at the carrier's descriptor, where nobody needs a goroutine to see it.
type streamOverReset struct{ *stream }

// Below is the connection that carries the stream.
func (s streamOverReset) Below() *anysock.Conn { return s.stream.below }

// newStream begins after the openings.
func newStream(below *anysock.Conn, live liveness) net.Conn {
	s := &stream{below: below, live: live, noticed: make(chan struct{})}
	s.startReceiving()
	s.startLiveness()
	if below.Caps().Has(anysock.CapAbort) {
		return streamOverReset{s}
	}
	return s
}

// Caps is what this stream can do.
func (s *stream) Caps() anysock.Caps { return capsOver(s.below.Caps()) }

// CloseRead is Conn's own: the peer is not told.
func (s *stream) CloseRead() error { return errors.ErrUnsupported }

// AckedBy says that it is the peer's program that acknowledges.
func (s *stream) AckedBy() anysock.Ack { return anysock.AckedPeer }

// LocalAddr is the carrier's.
func (s *stream) LocalAddr() net.Addr { return s.below.LocalAddr() }

// RemoteAddr is the carrier's.
func (s *stream) RemoteAddr() net.Addr { return s.below.RemoteAddr() }

// SetDeadline sets both.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// Failed is closed when the stream, or its carrier, is known to have failed.
func (s *stream) Failed() <-chan struct{} { return s.noticed }

// TakeError is the failure that was noticed, if any. It stays.
func (s *stream) TakeError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.complete() {
		return nil
	}
	return s.failure
}

// longAgo as a deadline wakes what waits.
var longAgo = time.Unix(1, 0)

// move wakes those who wait for something to change; mu is held.
func (s *stream) move() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// await waits for the next move, bounded by the write deadline; mu is held
// before and after. The error is os.ErrDeadlineExceeded.
func (s *stream) await() error {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	moved, deadline := s.changed, s.writeBy
	s.mu.Unlock()
	defer s.mu.Lock()
	if deadline.IsZero() {
		<-moved
		return nil
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-moved:
		return nil
	case <-t.C:
		return os.ErrDeadlineExceeded
	}
}

// awaitFor is await for a bound of its own; false if that is reached.
func (s *stream) awaitFor(limit <-chan time.Time) bool {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	moved := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-moved:
		return true
	case <-limit:
		return false
	}
}

// complete reports that both directions have ended and were confirmed: nothing
// that comes now matters. mu is held.
func (s *stream) complete() bool { return s.endAcked && s.ackOut }

// fail makes err the failure of both halves, once, and wakes every call; mu is
// held. It returns the failure.
func (s *stream) fail(err error) error {
	if s.failure != nil {
		return s.failure
	}
	s.failure = err
	if s.writeErr == nil {
		s.writeErr = err
	}
	s.due &= dueAbort
	s.notice()
	s.move()
	if s.reader != nobody {
		_ = s.below.SetReadDeadline(longAgo)
		s.readApplied = longAgo
	}
	if s.writer != nobody {
		_ = s.below.SetWriteDeadline(longAgo)
		s.writeApplied = longAgo
	}
	s.stopLiveness()
	return err
}

// notice closes Failed's channel; mu is held.
func (s *stream) notice() {
	if !s.wasTold {
		s.wasTold = true
		close(s.noticed)
	}
}

// carrierEnded is what the end, or the failure, of the carrier means; mu is
// held. An end is a cut unless both directions had ended before.
func (s *stream) carrierEnded(err error) error {
	switch {
	case s.complete():
		return io.EOF
	case errors.Is(err, io.EOF):
		what := "the carrier ended before the peer's end"
		if s.theirEnd {
			what = "the carrier ended before the peer confirmed our end"
			if !s.ourEnd {
				what = "the carrier ended while we were sending"
			}
		}
		return s.fail(s.newError(anysock.KindTruncated, errors.New(what), "the peer or something between was stopped: data may be missing"))
	}
	return s.fail(err)
}

// breach ends the connection because the peer broke the protocol; it is told.
// mu is held.
func (s *stream) breach(err error) error {
	first := s.failure == nil
	failure := s.fail(s.newError(anysock.KindTruncated, err, "the peer's implementation is wrong, or the carrier loses or changes bytes"))
	if first {
		s.abortWith = &AbortError{Code: CodeProtocol, Reason: err.Error()}
		s.due |= dueAbort
		s.kick()
	}
	return failure
}

func (s *stream) newError(kind anysock.Kind, err error, hint string) *anysock.Error {
	return &anysock.Error{Op: anysock.OpRead, Addr: peerName(s.below), Kind: kind, Err: err, Hint: hint}
}

// Close releases the stream: answers that are on their way are waited for a
// moment, then the carrier is closed, which goes on gracefully in its Group.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	limit := time.NewTimer(closeGrace)
	for (s.writer != nobody || s.due != 0) && s.awaitFor(limit.C) {
	}
	limit.Stop()
	s.shut()
	s.mu.Unlock()
	err := s.below.Close()
	s.owned.Wait()
	s.release()
	return err
}

// shut turns everybody away; mu is held.
func (s *stream) shut() {
	s.closed = true
	if s.failure == nil {
		s.failure = net.ErrClosed
	}
	if s.writeErr == nil {
		s.writeErr = net.ErrClosed
	}
	s.due = 0
	s.move()
	s.stopLiveness()
	s.stopTick()
	s.stopFailureWatch()
}

// Abort is AbortAs for who has no reason to give.
func (s *stream) Abort() error { return s.AbortAs(anysock.AbortedByUs, nil) }

// AbortAs releases the stream at once. The peer is told by an ABORT, if the
// carrier takes one, with the code and reason of an *AbortError in cause, else
// with the code for how; then the carrier is reset where it can be, else
// closed.
func (s *stream) AbortAs(how anysock.How, cause error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	over := s.complete()
	var said *AbortError
	if !errors.As(cause, &said) {
		said = &AbortError{Code: codeFor(how)}
	}
	if s.failure == nil && !over {
		s.sendAbort(said)
	}
	s.shut()
	s.mu.Unlock()
	var err error
	if !over && s.resets() {
		if err = s.below.Abort(); errors.Is(err, errors.ErrUnsupported) {
			err = nil // closed, behind an ABORT
		}
	} else {
		// In order, so that the ABORT is not lost with the carrier.
		err = s.below.Close()
	}
	s.owned.Wait()
	s.release()
	return err
}

// resets reports that the carrier may be released at once: its reset is heard,
// or it is a kernel socket, whose peer has what was written.
func (s *stream) resets() bool {
	if s.below.Caps().Has(anysock.CapAbort) {
		return true
	}
	_, err := s.below.SyscallConn()
	return err == nil
}

// isDeadline reports whether the carrier was cut short by a deadline of ours.
func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// errSilent is the cause of a verdict of liveness.
var errSilent error = syscall.ETIMEDOUT

// A side of the carrier is used by one at a time.
type user int

const (
	nobody    user = iota
	program        // a call of the Conn
	ourselves      // a goroutine of the stream
)

// born is what elapsed counts from; the monotonic clock in an atomic.
var born = time.Now()

func elapsed() int64 { return int64(time.Since(born)) }

// heard is when the last byte came.
type heard struct{ at atomic.Int64 }

func (h *heard) now()                 { h.at.Store(elapsed()) }
func (h *heard) since() time.Duration { return time.Duration(elapsed() - h.at.Load()) }
