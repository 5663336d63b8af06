// This file takes the end of a stream into memory. The library throws away
// what it has received and nobody has read when the connection is closed, or
// when its peer falls silent; and a peer that has ended wants to know that all
// has arrived, whether or not it is being read. So once the peer has said where
// its direction ends, what is left is taken from the library, at most the
// stream's window at a time, and kept for the reader.

package quic

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/anysock/anysock"
)

// A tail is what was collected and not read; the stream's mu guards it.
type tail struct {
	chunks [][]byte
	size   int
	err    error // what came after the last chunk: io.EOF, or the carrier's error
}

// longAgo as a deadline wakes a read.
var longAgo = time.Unix(1, 0)

// collectSoon is the timer's: a reader that makes progress is left alone for a
// while.
func (s *stream) collectSoon() {
	s.mu.Lock()
	before := s.got
	if s.gotEnd || s.closed || s.broken != nil || s.tail != nil {
		s.mu.Unlock()
		return
	}
	if s.postponed < collectPatience && before > s.lookedAt {
		s.postponed++
		s.lookedAt = before
		s.collecting.Reset(collectAfter)
		s.mu.Unlock()
		return
	}
	s.tail = &tail{}
	// A Read at work is woken and reads from the tail.
	_ = s.qs.SetReadDeadline(longAgo)
	s.mu.Unlock()
	s.collect()
}

// collect reads until the end. It ends with the stream: Close cancels reading
// in the library.
func (s *stream) collect() {
	_ = s.await(func() bool { return !s.reading }, forever, 0)
	_ = s.qs.SetReadDeadline(time.Time{})
	buf := make([]byte, collectChunk)
	for {
		room := s.se.tailRoom()
		_ = s.await(func() bool { return s.tail.size < room || s.closed || s.broken != nil }, forever, 0)
		n, err := s.qs.Read(buf)
		s.mu.Lock()
		if n > 0 {
			s.tail.chunks = append(s.tail.chunks, append([]byte(nil), buf[:n]...))
			s.tail.size += n
		}
		if err != nil {
			s.tail.err = err
		}
		reports := s.take(n, errors.Is(err, io.EOF))
		s.signal()
		s.mu.Unlock()
		s.send(reports)
		if err != nil {
			return
		}
	}
}

// readTail is Read from what was collected.
func (s *stream) readTail(p []byte) (int, error) {
	var n int
	var end error
	var closed bool
	err := s.await(func() bool {
		t := s.tail
		if !s.readDeadline.IsZero() && !time.Now().Before(s.readDeadline) {
			end = os.ErrDeadlineExceeded
			return true
		}
		for n < len(p) && len(t.chunks) > 0 {
			m := copy(p[n:], t.chunks[0])
			n += m
			if t.chunks[0] = t.chunks[0][m:]; len(t.chunks[0]) == 0 {
				t.chunks = t.chunks[1:]
			}
		}
		if n > 0 {
			t.size -= n
			s.signal()
			return true
		}
		end, closed = t.err, s.closed
		return end != nil || closed
	}, func() time.Time { return s.readDeadline }, 0)
	switch {
	case err != nil:
		return 0, err
	case n > 0:
		return n, nil
	case errors.Is(end, io.EOF):
		return 0, io.EOF
	case end == nil && closed:
		return 0, net.ErrClosed
	}
	return 0, s.fault(anysock.OpRead, end)
}
