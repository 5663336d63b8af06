// This file holds a stream: what a Conn drives. Its reading side is in tail.go
// too, its closing in ending.go.

package quic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
)

// A stream is a bidirectional stream of a session. One goroutine reads at a
// time and one writes, as Conn sees to it; everything else may come at once.
type stream struct {
	se          *session
	qs          *quicgo.Stream
	local, peer net.Addr

	mu      sync.Mutex
	changed chan struct{} // closed when anything below changed; nil until somebody waits
	failed  chan struct{} // closed when the stream was reset or cut

	// write side
	writeDeadline time.Time
	sent          int64 // accepted by Write
	ended         bool  // our end is the library's to send
	taken         int64 // of sent, by the peer's word
	asked         int64 // what we asked to be told of
	endTaken      bool  // and our end
	done          bool  // the peer knows that it misses nothing of ours

	// read side
	readDeadline time.Time
	reading      bool  // Read is in the library's Read
	got          int64 // taken from the library
	reported     int64 // of it, told to the peer
	wanted       int64 // the peer wants to know when so much is taken; 0 is nothing
	announced    int64 // where the peer's direction ends; -1 is not known
	gotEnd       bool  // their end was taken
	collecting   *time.Timer
	postponed    int   // how often that was put off
	lookedAt     int64 // got, then
	tail         *tail // what was collected

	opened   bool // the server has taken it in
	closed   bool
	linger   *time.Timer
	broken   error // the carrier's end, or a reset
	complete bool  // when broken: it is the peer's word that nothing is missing
	doneSent bool
}

var _ net.Conn = (*stream)(nil)

func newStream(se *session, qs *quicgo.Stream) *stream {
	return &stream{
		se: se, qs: qs, local: asAddr(se.qc.LocalAddr()), peer: asAddr(se.qc.RemoteAddr()),
		failed: make(chan struct{}), announced: -1,
	}
}

// addr is a UDP address that says that QUIC is spoken there.
type addr struct{ *net.UDPAddr }

// Network is "quic".
func (addr) Network() string { return "quic" }

func asAddr(a net.Addr) net.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return addr{u}
	}
	return a
}

// LocalAddr is our UDP address.
func (s *stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the peer's UDP address when the connection was made.
func (s *stream) RemoteAddr() net.Addr { return s.peer }

func (s *stream) name() string { return "quic:" + s.peer.String() }

// Caps is what this stream can do: without our mapping nobody confirms.
func (s *stream) Caps() anysock.Caps { return capsOf(s.se.mapped) }

// signal wakes who waits for a change; mu is held.
func (s *stream) signal() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// change is closed at the next change; mu is held.
func (s *stream) change() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// await waits until met holds, the deadline passes, or limit does (nil); met
// and deadline are called with mu held.
func (s *stream) await(met func() bool, deadline func() time.Time, limit time.Duration) error {
	var enough <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		enough = t.C
	}
	for {
		s.mu.Lock()
		if met() {
			s.mu.Unlock()
			return nil
		}
		until, changed := deadline(), s.change()
		s.mu.Unlock()
		if over, err := awaitOnce(changed, until, enough); over {
			return err
		}
	}
}

func awaitOnce(changed <-chan struct{}, until time.Time, enough <-chan time.Time) (over bool, err error) {
	var expired <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-changed:
		return false, nil
	case <-expired:
		return true, os.ErrDeadlineExceeded
	case <-enough:
		return true, nil
	}
}

// forever is no deadline for await.
func forever() time.Time { return time.Time{} }

// Write sends p. What it has accepted is in the library's hands: at most one
// packet of it waits to be sent.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.qs.Write(p)
	if n > 0 {
		s.mu.Lock()
		s.sent += int64(n)
		s.mu.Unlock()
	}
	return n, s.fault(anysock.OpWrite, err)
}

// fault is the error for a call; the carrier's end, once known, is the reason
// for whatever follows.
func (s *stream) fault(op string, err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	s.mu.Lock()
	broken, gotEnd := s.broken, s.gotEnd
	s.mu.Unlock()
	if broken != nil {
		err = broken
	}
	err = fault(op, s.name(), err)
	var ce *carrierError
	if gotEnd && errors.As(err, &ce) {
		ce.closed = true
	}
	return err
}

// CloseWrite ends our direction with a FIN, and says by the control stream
// where that is.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil
	}
	broken := s.broken
	if broken == nil {
		s.ended = true
	}
	n := s.sent
	s.mu.Unlock()
	if broken != nil {
		return s.fault(anysock.OpShutdown, broken)
	}
	if err := s.qs.Close(); err != nil {
		// The only reason: the peer has asked us to stop.
		if cause := context.Cause(s.qs.Context()); cause != nil {
			err = cause
		}
		return s.fault(anysock.OpShutdown, err)
	}
	s.se.send(message{kind: msgEnd, stream: s.qs.StreamID(), count: n})
	return nil
}

// Read receives what is there, from the library or from what was collected.
func (s *stream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		if s.tail != nil {
			s.mu.Unlock()
			return s.readTail(p)
		}
		if s.gotEnd {
			s.mu.Unlock()
			return 0, io.EOF
		}
		s.reading = true
		s.mu.Unlock()
		n, err := s.qs.Read(p)
		s.mu.Lock()
		s.reading = false
		collected := s.tail != nil
		if collected {
			s.signal()
		}
		reports := s.take(n, errors.Is(err, io.EOF))
		s.mu.Unlock()
		s.send(reports)
		switch {
		case n > 0:
			return n, nil // the error comes again
		case collected && errors.Is(err, os.ErrDeadlineExceeded):
			continue // the collector has woken us
		case errors.Is(err, io.EOF):
			return 0, io.EOF
		}
		return n, s.fault(anysock.OpRead, err)
	}
}

// take counts what was taken from the library and returns what the peer is to
// be told; mu is held.
func (s *stream) take(n int, end bool) []message {
	s.got += int64(n)
	var out []message
	id := s.qs.StreamID()
	every := int64(reportEvery)
	if s.announced >= 0 || s.wanted > 0 {
		every = reportSoon // somebody waits, as long as this makes progress
	}
	if s.got-s.reported >= every || s.wanted > 0 && s.got >= s.wanted {
		if s.wanted <= s.got {
			s.wanted = 0
		}
		s.reported = s.got
		out = append(out, message{kind: msgTaken, stream: id, count: s.got})
	}
	if end && !s.gotEnd {
		s.gotEnd = true
		if s.collecting != nil {
			s.collecting.Stop()
		}
		out = append(out, message{kind: msgTakenEnd, stream: id})
		out = append(out, s.ready()...)
		s.signal()
	}
	return out
}

// ready is DONE, once nothing is missing on our side; mu is held.
func (s *stream) ready() []message {
	if !s.gotEnd || !s.endTaken || s.doneSent {
		return nil
	}
	s.doneSent = true
	return []message{{kind: msgDone, stream: s.qs.StreamID()}}
}

// confirmed says that the peer misses nothing, by its own word.
func (s *stream) confirmed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

func (s *stream) send(ms []message) {
	for _, m := range ms {
		s.se.send(m)
	}
}

// hear acts on what the peer says about this stream.
func (s *stream) hear(m message) error {
	s.mu.Lock()
	out, err := s.heard(m)
	settled := s.linger != nil && s.settled()
	s.signal()
	s.mu.Unlock()
	s.send(out)
	if settled {
		s.stopLingering(codeClosed)
	}
	return err
}

// heard is hear with mu held.
func (s *stream) heard(m message) ([]message, error) {
	switch m.kind {
	case msgEnd:
		if m.count < s.got || s.announced >= 0 && m.count != s.announced {
			return nil, fmt.Errorf("END at %d of stream %d, which has %d bytes", m.count, m.stream, s.got)
		}
		s.announced = m.count
		if !s.gotEnd && !s.closed && s.collecting == nil {
			s.collecting = time.AfterFunc(collectAfter, s.collectSoon)
		}
	case msgTaken:
		s.taken = max(s.taken, m.count)
	case msgAsk:
		if s.got < m.count {
			s.wanted = max(s.wanted, m.count)
			return nil, nil
		}
		s.reported = s.got
		return []message{{kind: msgTaken, stream: m.stream, count: s.got}}, nil
	case msgTakenEnd:
		if !s.ended {
			return nil, fmt.Errorf("TAKEN_END of stream %d, which has not ended", m.stream)
		}
		s.endTaken, s.taken = true, s.sent
		return s.ready(), nil
	case msgDone:
		s.done = true
	case msgOpened:
		if !s.se.client {
			return nil, fmt.Errorf("OPENED of stream %d, from the client", m.stream)
		}
		s.opened = true
	}
	return nil, nil
}

// SetDeadline sets both deadlines.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read and WaitPeer.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDeadline = t
	s.signal()
	if s.tail == nil {
		return s.qs.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline bounds Write and WaitAcked.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline = t
	s.signal()
	return s.qs.SetWriteDeadline(t)
}

// Unacked is how much of what was sent the peer has not taken, by its word,
// and one more for our end. What it has received and not taken counts.
func (s *stream) Unacked() (int, error) {
	if !s.se.mapped {
		return 0, errors.ErrUnsupported
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endTaken {
		return 0, nil
	}
	n := int(max(s.sent-s.taken, 0)) // a Write at work counts when it returns
	if s.ended {
		n++
	}
	return n, nil
}

// WaitAcked waits until the peer has taken everything, our end too if it was
// sent. The write deadline bounds it.
func (s *stream) WaitAcked() error {
	if !s.se.mapped {
		return errors.ErrUnsupported
	}
	s.mu.Lock()
	var ask []message
	if !s.ended && s.taken < s.sent && s.asked < s.sent {
		s.asked = s.sent
		ask = []message{{kind: msgAsk, stream: s.qs.StreamID(), count: s.sent}}
	}
	s.mu.Unlock()
	s.send(ask)
	err := s.await(func() bool {
		return s.closed || s.broken != nil || s.endTaken || !s.ended && s.taken >= s.sent
	}, func() time.Time { return s.writeDeadline }, 0)
	if err != nil {
		return err
	}
	s.mu.Lock()
	acked := s.endTaken || !s.ended && s.taken >= s.sent
	broken, closed := s.broken, s.closed
	s.mu.Unlock()
	switch {
	case acked:
		return nil
	case closed:
		return net.ErrClosed
	}
	return s.fault(anysock.OpWait, broken)
}

// WaitPeer waits, after both ends, until the peer says that it misses nothing
// either: then nobody needs this connection any more. It is bounded by
// doneWait and by the read deadline, and never fails: nothing of ours is
// missing already. Without our mapping nobody can say so, and it gives the
// last packets foreignLinger to get out.
func (s *stream) WaitPeer() error {
	limit := doneWait
	if !s.se.mapped {
		limit = foreignLinger
	}
	_ = s.await(func() bool {
		return s.closed || s.broken != nil || s.done || s.se.mapped && !s.endTaken
	}, func() time.Time { return s.readDeadline }, limit)
	if !s.se.mapped {
		s.mu.Lock()
		s.done = true // it has had its time
		s.mu.Unlock()
	}
	return nil
}

// TakeError is the reset that nobody has read.
func (s *stream) TakeError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil || s.complete {
		return nil
	}
	return fault(anysock.OpWait, s.name(), s.broken)
}

// Unread is what was collected; what the library has is not known.
func (s *stream) Unread() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tail == nil {
		return 0, errors.ErrUnsupported
	}
	return s.tail.size, nil
}

// Failed is closed when the stream was reset or cut.
func (s *stream) Failed() <-chan struct{} { return s.failed }
