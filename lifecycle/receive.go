// This file holds the receiving half: taking frames apart without copying
// large payloads, and without losing the place when a deadline passes.

package lifecycle

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// receiving is the half's state. What is marked with + belongs to the reader,
// the others to the stream's mu.
type receiving struct {
	reader      user
	wanted      bool          // the program wants the carrier: whoever watches leaves
	left        chan struct{} // closed when the watcher has left
	readBy      time.Time     // the caller's deadline
	readApplied time.Time     // what is set below
	trim        bool          // the reader is to give its buffer back

	theirEnd bool // the peer's END was read
	endTaken bool // and the program was told: END_ACK is due or gone

	heard  heard        // atomic
	unread atomic.Int64 // payload that is announced and not taken, when nobody reads

	buf     []byte           // + small[:] or pooled[:]
	pooled  *[readAhead]byte // +
	holding atomic.Bool      // pooled is set
	from    int              // + buf[from:upTo] was received and is not parsed
	upTo    int              // +
	payload int              // + of the DATA frame at hand, still to be taken
	skip    int              // + of a frame that is skipped, still to come
	got     int64            // + DATA bytes taken
	small   [smallAhead]byte // +
	big     bool             // + the last payload was a big one
	large   bool             // + headers come with data behind them: use the pooled buffer
}

var aheadBuffers = sync.Pool{New: func() any { return new([readAhead]byte) }}

func (s *stream) startReceiving() {
	s.buf = s.small[:]
	s.heard.now()
	s.mu.Lock()
	s.armTick()
	s.mu.Unlock()
}

// release gives the buffer back when nobody uses it any more.
func (s *stream) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == nobody {
		s.giveBuffer()
	}
}

// SetReadDeadline bounds Read, a pending one too.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	if s.reader == program && s.failure == nil {
		s.applyRead(t)
	}
	return nil
}

// applyRead sets the deadline below; mu is held.
func (s *stream) applyRead(t time.Time) {
	if !s.readApplied.Equal(t) || s.readApplied.IsZero() != t.IsZero() {
		s.readApplied = t
		_ = s.below.SetReadDeadline(t)
	}
}

// Unread is how much announced payload the program could still read; 0 while
// somebody reads.
func (s *stream) Unread() (int, error) { return int(s.unread.Load()), nil }

// Read takes payload, waiting for the first byte. The first io.EOF makes the
// END_ACK due: the program has taken everything.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.takeReading(); err != nil {
		return 0, err
	}
	n, err := s.read(p)
	s.leaveReading()
	return n, err
}

// takeReading makes the program the reader.
func (s *stream) takeReading() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.reader == ourselves {
		s.wanted = true
		s.readApplied = longAgo
		_ = s.below.SetReadDeadline(longAgo)
		left := s.left
		s.mu.Unlock()
		<-left
		s.mu.Lock()
	}
	if s.theirEnd {
		return s.tellEnd()
	}
	if s.failure != nil {
		return s.failure
	}
	if !s.readBy.IsZero() && !time.Now().Before(s.readBy) {
		return os.ErrDeadlineExceeded // also when something is in the buffer
	}
	s.stopFailureWatch()
	s.wanted, s.trim = false, false
	s.reader = program
	s.unread.Store(0)
	s.applyRead(s.readBy)
	return nil
}

// tellEnd is what the program is told when the peer has ended: io.EOF, and the
// peer that it was. mu is held.
func (s *stream) tellEnd() error {
	if !s.endTaken {
		s.endTaken = true
		if s.failure == nil {
			s.due |= dueEndAck
			s.kick()
		}
	}
	return io.EOF
}

func (s *stream) leaveReading() {
	s.mu.Lock()
	s.reader = nobody
	s.unread.Store(int64(s.payload))
	s.armTick()
	s.mu.Unlock()
}

// read is Read for the reader.
func (s *stream) read(p []byte) (n int, err error) {
	for {
		if s.payload > 0 {
			ahead := s.from < s.upTo
			m, err := s.takePayload(p[n:])
			n += m
			if err != nil {
				if n > 0 {
					return n, nil // it comes again
				}
				if err = s.readFailed(err); err != nil {
					return 0, err
				}
				continue
			}
			if n == len(p) {
				return n, nil
			}
			if ahead && s.big && s.payload > 0 {
				continue // the first bytes came with the header, the rest is on its way
			}
		}
		// Small frames that are here already come with one call.
		if n > 0 && !s.dataHere() {
			return n, nil
		}
		if s.payload > 0 {
			continue
		}
		if err := s.step(); err != nil {
			if err = s.readFailed(err); err != nil {
				if n > 0 {
					return n, nil
				}
				return 0, err
			}
		}
		if end, err := s.over(); end {
			return n, err
		}
	}
}

// over reports that the program is to be told of an end.
func (s *stream) over() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.theirEnd {
		return true, s.tellEnd()
	}
	return false, nil
}

// dataHere reports whether the next payload is in the buffer, or follows a
// header that is.
func (s *stream) dataHere() bool {
	if s.payload > 0 {
		return s.upTo > s.from
	}
	return s.skip == 0 && s.upTo-s.from > headerSize && s.buf[s.from] == frameData
}

// takePayload moves payload to p: from the buffer, else straight from below.
func (s *stream) takePayload(p []byte) (int, error) {
	p = p[:min(len(p), s.payload)]
	var n int
	var err error
	if s.from < s.upTo {
		n = copy(p, s.buf[s.from:s.upTo])
		s.from += n
	} else {
		n, err = s.below.Read(p)
		s.heard.now()
	}
	s.payload -= n
	s.got += int64(n)
	if n > 0 {
		return n, nil
	}
	return n, err
}

// readFailed is the reader's answer to an error from below: nil to go on, else
// what the program is told.
func (s *stream) readFailed(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	if isDeadline(err) {
		if s.trim {
			s.trim = false
			s.large = false
			s.giveBuffer()
			s.applyRead(s.readBy)
			return nil
		}
		return err
	}
	return s.carrierEnded(err)
}

// step takes the next frame apart, or receives more of it. A DATA frame leaves
// its payload to be taken.
func (s *stream) step() error {
	here := s.buf[s.from:s.upTo]
	if s.skip > 0 && len(here) > 0 {
		n := min(s.skip, len(here))
		s.skip -= n
		s.from += n
		return nil
	}
	if s.skip > 0 || len(here) < headerSize {
		return s.receive(headerSize)
	}
	kind := here[0]
	length := int(here[1])<<16 | int(here[2])<<8 | int(here[3])
	if err := checkLength(kind, length); err != nil {
		return s.reject(err)
	}
	switch {
	case kind == frameData:
		s.from += headerSize
		s.payload = length
		s.big = length >= bigFrame
		return s.onData()
	case kind&ignorable != 0:
		s.from += headerSize
		s.skip = length
		return nil
	}
	if len(here) < headerSize+length {
		return s.receive(headerSize + length)
	}
	s.from += headerSize + length
	return s.onControl(kind, here[headerSize:headerSize+length])
}

// receive reads more into the buffer, which has room for need bytes then.
func (s *stream) receive(need int) error {
	if s.from == s.upTo {
		s.from, s.upTo = 0, 0
	}
	if s.pooled == nil && (s.large || need > len(s.buf)) {
		s.pooled = aheadBuffers.Get().(*[readAhead]byte)
		s.holding.Store(true)
		s.upTo = copy(s.pooled[:], s.buf[s.from:s.upTo])
		s.from, s.buf = 0, s.pooled[:]
	}
	if len(s.buf)-s.from < need {
		s.upTo = copy(s.buf, s.buf[s.from:s.upTo])
		s.from = 0
	}
	room := s.buf[s.upTo:]
	if s.big {
		room = room[:min(len(room), max(smallAhead, need-(s.upTo-s.from)))]
	}
	n, err := s.below.Read(room)
	if n > 0 {
		s.upTo += n
		s.heard.now()
		s.large = s.large || n == len(room) && !s.big
		return nil
	}
	return err
}

// giveBuffer gives the pooled buffer back if the small one holds all there is;
// only the reader calls it, or who knows that there is none.
func (s *stream) giveBuffer() {
	if s.pooled == nil || s.upTo-s.from > len(s.small) {
		return
	}
	s.upTo = copy(s.small[:], s.buf[s.from:s.upTo])
	s.from, s.buf = 0, s.small[:]
	aheadBuffers.Put(s.pooled)
	s.pooled = nil
	s.holding.Store(false)
}

// reject is a breach found by the reader.
func (s *stream) reject(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breach(err)
}

// onData checks that DATA may come.
func (s *stream) onData() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.theirEnd {
		s.payload = 0
		return s.breach(broken("DATA after END"))
	}
	return nil
}

// onControl acts on a frame that is no DATA; the program has taken all before
// it.
func (s *stream) onControl(kind byte, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == frameAbort {
		if s.complete() {
			return nil
		}
		return s.fail(s.newError(anysock.KindReset, parseAbort(payload), ""))
	}
	count := int64(binary.BigEndian.Uint64(payload))
	switch kind {
	case frameEnd:
		switch {
		case s.theirEnd:
			return s.breach(broken("a second END"))
		case count != s.got:
			return s.breach(broken("END after %d bytes, but %d came", uint64(count), s.got))
		}
		s.theirEnd = true
		s.move()
	case frameEndAck:
		switch {
		case !s.endOut, s.endAcked:
			return s.breach(broken("END_ACK without an END"))
		case count != s.sent:
			return s.breach(broken("END_ACK of %d bytes, but %d were sent", uint64(count), s.sent))
		}
		s.endAcked = true
		s.confirmed = s.sent
		s.move()
	case framePing:
		if count != s.got {
			return s.breach(broken("PING after %d bytes, but %d came", uint64(count), s.got))
		}
		s.owePong(count)
	case framePong:
		if !s.pinged || count < s.ponged || count > s.lastPing {
			return s.breach(broken("PONG of %d bytes; asked were %d to %d", uint64(count), s.ponged, s.lastPing))
		}
		s.ponged = count
		if count > s.confirmed {
			s.confirmed = count
		}
		s.move()
	}
	return nil
}
