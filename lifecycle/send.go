// This file holds the sending half: frames go to the carrier one behind the
// other, whoever sends them, and a frame that a deadline cuts is finished
// later.

package lifecycle

import (
	"bytes"
	"sync"
	"time"
)

// sending is the half's state, guarded by the stream's mu.
type sending struct {
	writer       user
	waiting      int       // callers who want to be the writer
	writeBy      time.Time // the caller's deadline
	writeApplied time.Time // what is set below
	writeErr     error     // why nothing more can be sent

	due       due         // control frames that are to be sent
	abortWith *AbortError // what the due ABORT says
	pong      int64       // the count that the due PONG answers

	ourEnd    bool  // CloseWrite was called
	endOut    bool  // END is in the carrier's hands, or announced
	ackOut    bool  // END_ACK is
	sent      int64 // DATA bytes announced
	confirmed int64 // of them the peer's program has taken
	endAcked  bool  // END_ACK came
	pinged    bool  // a PING was sent
	lastPing  int64 // and its count
	ponged    int64 // the last PONG's count

	rest []byte // announced and not sent: the rest of a frame, and what was behind it
}

// due is a set of control frames. One of each kind at most: a later PING or
// PONG replaces the one that is due.
type due uint8

const (
	duePong due = 1 << iota
	dueEndAck
	duePing
	dueEnd
	dueAbort
)

// maxFront is the longest that can be due before a DATA frame's payload.
const maxFront = 4*(headerSize+countSize) + maxControl + headerSize

// maxFrame is a DATA frame with what goes before and behind it.
const maxFrame = maxFront + MaxData + headerSize + countSize

var frameBuffers = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// SetWriteDeadline bounds Write, CloseWrite and WaitAcked, pending ones too.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	if s.writer == program && s.writeErr == nil {
		s.applyWrite(t)
	}
	s.move()
	return nil
}

// applyWrite sets the deadline below; mu is held.
func (s *stream) applyWrite(t time.Time) {
	if !s.writeApplied.Equal(t) || s.writeApplied.IsZero() != t.IsZero() {
		s.writeApplied = t
		_ = s.below.SetWriteDeadline(t)
	}
}

// takeWriting makes the program the writer, within its deadline. What was
// announced before is sent first, so on success rest is empty. mu is held.
func (s *stream) takeWriting() error {
	for s.writer != nobody && s.writeErr == nil {
		s.waiting++
		err := s.await()
		s.waiting--
		if err != nil {
			return err
		}
	}
	if s.writeErr != nil {
		return s.writeErr
	}
	s.writer = program
	s.applyWrite(s.writeBy)
	if len(s.rest) > 0 {
		if err := s.push(nil); err != nil {
			s.leaveWriting()
			return err
		}
	}
	return nil
}

// leaveWriting gives the carrier back; what is left to send goes on without
// the program. mu is held.
func (s *stream) leaveWriting() {
	s.writer = nobody
	s.kick()
	s.move()
}

// kick has the due frames and the rest sent by a goroutine, unless somebody is
// at it who will send them too; mu is held.
func (s *stream) kick() {
	switch {
	case s.writer != nobody, s.closed, s.due == 0 && len(s.rest) == 0:
		return
	case s.writeErr != nil && s.due&dueAbort == 0:
		return // only the reason of a breach is still sent
	}
	s.writer = ourselves
	s.owned.Add(1)
	go s.flush()
}

// flush sends what is due until there is no more, or the program wants to
// write; the stream's Close and Abort wait for it.
func (s *stream) flush() {
	defer s.owned.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyWrite(time.Time{})
	for s.due != 0 || len(s.rest) > 0 {
		if s.push(s.takeDue(nil)) != nil {
			break
		}
		if s.waiting > 0 && s.writeErr == nil {
			break // the program sends what is due before its own
		}
	}
	s.leaveWriting()
}

// takeDue appends the frames that are due, in the order they must have. mu is
// held, by the writer.
func (s *stream) takeDue(b []byte) []byte {
	if s.due == 0 {
		return b
	}
	if s.due&duePong != 0 {
		b = appendCount(b, framePong, s.pong)
	}
	if s.due&dueEndAck != 0 {
		b = appendCount(b, frameEndAck, s.got)
		s.ackOut = true
	}
	if s.due&dueEnd != 0 {
		b = appendCount(b, frameEnd, s.sent)
		s.endOut = true
	}
	if s.due&duePing != 0 {
		b = appendCount(b, framePing, s.sent)
		s.pinged, s.lastPing = true, s.sent
	}
	if s.due&dueAbort != 0 {
		b = appendAbort(b, s.abortWith)
	}
	s.due = 0
	return b
}

// push sends the rest and then p; what the carrier does not take in time is
// the new rest, and the error that of a deadline. mu is held, by the writer,
// but not meanwhile.
func (s *stream) push(p []byte) error {
	s.rest = append(s.rest, p...)
	for len(s.rest) > 0 {
		out := s.rest
		s.mu.Unlock()
		n, err := s.below.Write(out)
		s.mu.Lock()
		s.rest = out[n:]
		if err != nil {
			return s.writeFailed(err)
		}
	}
	s.rest = nil
	return nil
}

// writeFailed sorts an error of the carrier's Write out: a deadline's, or the
// end of the sending half. mu is held.
func (s *stream) writeFailed(err error) error {
	switch {
	case s.writeErr != nil:
		return s.writeErr // it was us who woke the call
	case isDeadline(err):
		return err
	}
	s.writeErr = err
	s.due &= dueAbort
	s.move()
	return err
}

// Write sends p in DATA frames. Bytes whose frame was begun count as
// accepted: what a deadline keeps of them is sent afterwards, by the next call
// or without one.
func (s *stream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := s.writeFrame(p[n:min(len(p), n+MaxData)])
		n += m
		if err != nil && n < len(p) {
			return n, s.explain(err)
		}
	}
	return n, nil
}

// writeFrame sends p as one frame behind what is due, and a PING behind it
// when it is time for one. It returns how much of p was accepted: all or
// nothing.
//
// Everything goes to the carrier as one piece: any but a kernel socket would
// make something of its own of each, and there copying 64 KiB costs less than
// handing over three pieces does.
func (s *stream) writeFrame(p []byte) (int, error) {
	buf := frameBuffers.Get().(*[maxFrame]byte)
	defer frameBuffers.Put(buf)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeWriting(); err != nil {
		return 0, err
	}
	out := s.takeDue(buf[:0])
	control := len(out)
	before, asked := s.lastPing, s.pinged
	s.sent += int64(len(p))
	count, mark := s.sent, s.sent-s.lastPing >= MarkEvery
	if mark {
		s.pinged, s.lastPing = true, count
	}
	s.mu.Unlock()
	out = append(appendHeader(out, frameData, len(p)), p...)
	if mark {
		out = appendCount(out, framePing, count)
	}
	n, err := s.below.Write(out)
	s.mu.Lock()
	if err != nil {
		err = s.writeFailed(err)
		if n <= control {
			// Nothing of the frame is out: it was never sent.
			out = out[:control]
			s.sent -= int64(len(p))
			s.lastPing, s.pinged = before, asked
			p = nil
		}
		s.rest = bytes.Clone(out[n:])
	}
	s.leaveWriting()
	return len(p), err
}

// explain gives a failed write the reason that the peer may have told: an
// ABORT that waits to be read. The caller has no turn of the stream's.
func (s *stream) explain(err error) error {
	if isDeadline(err) {
		return err
	}
	s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil && !s.closed {
		return s.failure
	}
	return err
}

// CloseWrite sends END behind everything else. If the write deadline cuts
// that, it is sent later; another call waits for it.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	if !s.ourEnd {
		s.ourEnd = true
		s.due |= dueEnd
	}
	err := s.sendDue()
	s.mu.Unlock()
	if err != nil {
		return s.explain(err)
	}
	return nil
}

// sendDue sends everything that is due or left, bounded by the write deadline;
// mu is held.
func (s *stream) sendDue() error {
	if err := s.takeWriting(); err != nil {
		return err
	}
	err := s.push(s.takeDue(nil))
	s.leaveWriting()
	return err
}

// sendAbort sends what is left of the last frame and ABORT, if the carrier
// takes that within abortGrace; mu is held.
func (s *stream) sendAbort(said *AbortError) {
	s.abortWith = said
	s.due = dueAbort
	s.writeBy = time.Now().Add(abortGrace)
	s.move()
	_ = s.sendDue() // a peer that cannot be told sees the carrier fail
}

// Unacked is how many bytes the peer's program is not known to have taken,
// plus one for an END that is not confirmed.
func (s *stream) Unacked() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int(s.sent - s.confirmed)
	if s.ourEnd && !s.endAcked {
		n++
	}
	return n, nil
}

// WaitAcked waits until the peer's program has taken everything: for END_ACK
// if our direction has ended, else for the answer to a PING. What we owe the
// peer is sent first. While the program does not read, the carrier is read up
// to the next DATA, behind which answers wait.
func (s *stream) WaitAcked() error {
	s.mu.Lock()
	err := s.waitAcked()
	s.mu.Unlock()
	if err != nil {
		return s.explain(err)
	}
	return nil
}

func (s *stream) waitAcked() error {
	if !s.ourEnd && s.confirmed < s.sent && (!s.pinged || s.lastPing < s.sent) {
		s.due |= duePing
	}
	for {
		// Whatever came meanwhile may owe an answer.
		if s.due != 0 || len(s.rest) > 0 || s.writer == ourselves {
			if err := s.sendDue(); err != nil {
				return err
			}
		}
		switch {
		case s.ourEnd && s.endAcked, !s.ourEnd && s.confirmed == s.sent:
			return nil
		case s.failure != nil:
			return s.failure
		}
		s.watch()
		if err := s.await(); err != nil {
			return err
		}
	}
}
