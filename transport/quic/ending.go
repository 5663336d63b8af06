// This file ends streams. What each ending is on the wire:
//
//	CloseWrite      FIN, and END on the control stream
//	Close           after the peer's TAKEN_END: STOP_SENDING(closed) unless its end was taken;
//	                the dialed connection is closed: done if both ends were taken, once the peer
//	                says the same, else closed
//	Close before    the same when TAKEN_END comes, or after lingerTimeout RESET_STREAM(aborted)
//	Close, no end   RESET_STREAM(aborted): a direction that was not ended is not ended in order
//	Abort           RESET_STREAM and STOP_SENDING(aborted), and if the connection has no other
//	                stream CONNECTION_CLOSE(aborted), which needs no acknowledgement to get
//	                out, and is repeated since it gets none

package quic

import (
	"context"
	"errors"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// carrierEnded notes that the connection is over.
func (s *stream) carrierEnded(cause error) {
	s.mu.Lock()
	if s.broken == nil {
		s.broken = cause
	}
	if isDone(cause) && s.ended {
		// The peer closes so when it has our end and knows that we have its own.
		s.endTaken, s.taken, s.done = true, s.sent, true
		s.complete = s.gotEnd
	}
	if !s.complete {
		s.fail()
	}
	if s.collecting != nil {
		s.collecting.Stop()
	}
	lingers := s.linger != nil
	s.signal()
	s.mu.Unlock()
	if lingers {
		s.stopLingering(codeDone)
	}
}

// writeSideEnded is called when the library's sending side has ended: by us,
// or by the peer's STOP_SENDING.
func (s *stream) writeSideEnded() {
	var reset *quicgo.StreamError
	cause := context.Cause(s.qs.Context())
	if !errors.As(cause, &reset) || !reset.Remote {
		return
	}
	s.mu.Lock()
	if s.broken == nil {
		s.broken = cause
	}
	s.fail()
	lingers := s.linger != nil
	s.signal()
	s.mu.Unlock()
	if lingers {
		s.stopLingering(codeAbort)
	}
}

// fail closes failed; mu is held.
func (s *stream) fail() {
	select {
	case <-s.failed:
	default:
		close(s.failed)
	}
}

// shut marks the stream closed; false if it was.
func (s *stream) shut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	if s.collecting != nil {
		s.collecting.Stop()
	}
	s.signal()
	return true
}

// Close releases the stream at once. What the peer has not confirmed yet is
// waited for in the background, at most lingerTimeout.
func (s *stream) Close() error {
	if !s.shut() {
		return nil
	}
	s.mu.Lock()
	ended, gotEnd, acked, waited := s.ended, s.gotEnd, s.endTaken, s.done
	s.mu.Unlock()
	if !gotEnd {
		s.qs.CancelRead(codeClosed)
	}
	switch {
	case !ended:
		s.qs.CancelWrite(codeAbort)
		s.se.drop(s, codeAbort)
	case s.se.qc.Context().Err() != nil:
		s.se.drop(s, codeDone) // it is closed already
	case !s.se.mapped:
		if waited || !s.se.client {
			s.se.drop(s, codeDone) // a listener keeps the connection for a while
			return nil
		}
		time.AfterFunc(foreignLinger, func() { s.se.drop(s, codeDone) })
	case acked && gotEnd && (waited || !s.se.ends()):
		s.se.drop(s, codeDone)
	case acked && !gotEnd:
		s.se.drop(s, codeClosed)
	default:
		s.startLingering()
	}
	return nil
}

// startLingering waits in the background for the acknowledgement, and the one
// who closes the connection for the peer's word that it has its own.
func (s *stream) startLingering() {
	if lingering.Add(1) > maxLingering {
		lingering.Add(-1)
		s.giveUp()
		return
	}
	s.mu.Lock()
	s.linger = time.AfterFunc(lingerTimeout, func() {
		lingering.Add(-1)
		s.giveUp()
	})
	settled := s.settled()
	s.mu.Unlock()
	if settled {
		s.stopLingering(codeClosed)
	}
}

// settled reports whether a closed stream has nothing to wait for any more; mu
// is held.
func (s *stream) settled() bool {
	return s.broken != nil || s.endTaken && (s.done || !s.gotEnd || !s.se.ends())
}

// stopLingering ends the wait: the acknowledgement came, or never will.
func (s *stream) stopLingering(code quicgo.ApplicationErrorCode) {
	s.mu.Lock()
	if s.gotEnd && s.endTaken {
		code = codeDone
	}
	first := s.linger.Stop()
	s.mu.Unlock()
	if first {
		lingering.Add(-1)
		s.se.drop(s, code)
	}
}

// giveUp is for a peer that has not confirmed in time: it is not to take the
// end of the connection for that of the stream, unless both are known.
func (s *stream) giveUp() {
	s.mu.Lock()
	complete := s.gotEnd && s.endTaken
	s.mu.Unlock()
	if complete {
		s.se.drop(s, codeDone)
		return
	}
	s.qs.CancelWrite(codeAbort)
	s.se.drop(s, codeAbort)
}

// Abort resets both directions.
func (s *stream) Abort() error {
	s.reset(codeAbort)
	return nil
}

// reset is Abort with a reason.
func (s *stream) reset(code uint64) {
	if !s.shut() {
		return
	}
	s.qs.CancelWrite(quicgo.StreamErrorCode(code))
	s.qs.CancelRead(quicgo.StreamErrorCode(code))
	if s.se.alone(s) {
		s.se.close(quicgo.ApplicationErrorCode(code), "")
	}
	s.se.drop(s, quicgo.ApplicationErrorCode(code))
}
