// This file holds the stream that a WebSocket carries: writing, deadlines and
// what a Conn asks of it. Reading is in receive.go, ending in closing.go.

package ws

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	"github.com/coder/websocket"
)

// background is the context of all calls of the library: one that ends would
// end the connection. Time is bounded in front of the library, by the wire's
// queue and by the receiver.
var background = context.Background()

// A stream is the net.Conn of a WebSocket. Its methods mean what those of
// anysock.Conn do.
type stream struct {
	below *anysock.Conn
	wire  *wire
	conn  *websocket.Conn
	in    deadline.Lookout
	rcv   receiver // what in looks at
	pings *pinger  // nil without pings

	frames sync.Mutex     // a data frame is being queued
	ending sync.WaitGroup // bothEnded
	once   sync.Once      // what is left is put away
}

var _ net.Conn = (*stream)(nil)

// newStream takes over a connection whose handshake is done. It is read from now
// on: so pings are answered, and close frames and resets noticed, also without
// anybody who reads.
func newStream(below *anysock.Conn, w *wire, conn *websocket.Conn, s *settings) *stream {
	// No bound for a message: it is read in pieces of what room there is, and
	// never held as a whole, so its size costs no memory.
	conn.SetReadLimit(-1)
	w.start = below.Sent()
	st := &stream{below: below, wire: w, conn: conn}
	st.rcv.s, st.rcv.raw = st, w.early
	w.early = nil
	st.in.Over(&st.rcv)
	if s.ping > 0 {
		st.pings = startPinger(st, s.ping, s.pong)
	}
	return st
}

// Below is the connection that carries the WebSocket.
func (s *stream) Below() *anysock.Conn { return s.below }

// Failed is closed when a read has found the WebSocket aborted or cut.
func (s *stream) Failed() <-chan struct{} { return s.in.Failed() }

// LocalAddr is the carrier's.
func (s *stream) LocalAddr() net.Addr { return s.below.LocalAddr() }

// RemoteAddr is the carrier's.
func (s *stream) RemoteAddr() net.Addr { return s.below.RemoteAddr() }

// Read gives what was read ahead, or waits for more.
func (s *stream) Read(p []byte) (int, error) { return s.in.Read(p) }

// Unread is how many bytes are here; there may be more below.
func (s *stream) Unread() (int, error) { return s.in.Buffered(), nil }

// Write sends p in messages of at most deadline.MaxChunk bytes. A message that
// is queued whole counts as written: what is left of it at the deadline is sent
// later.
func (s *stream) Write(p []byte) (n int, err error) {
	last := 0
	for n < len(p) {
		if err := s.wire.Flush(); err != nil {
			return s.unsent(n, last, err)
		}
		last = min(len(p)-n, deadline.MaxChunk)
		if err := s.queue(p[n : n+last]); err != nil {
			return n, s.refused(err)
		}
		n += last
	}
	if err := s.wire.Flush(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return s.unsent(n, last, err)
	}
	return n, nil
}

// queue makes p a message. The library does not wait: see wire.
func (s *stream) queue(p []byte) error {
	s.frames.Lock()
	defer s.frames.Unlock()
	return s.conn.Write(background, websocket.MessageBinary, p)
}

// unsent is the outcome of a Write whose last message was queued and not sent.
func (s *stream) unsent(n, last int, err error) (int, error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		n -= last
	}
	return n, s.broken(err)
}

// broken is why the wire takes no more: what the reading side has found, if
// that is a failure too, because below only its consequence shows.
func (s *stream) broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if reason := s.rcv.reason(); reason != nil && !errors.Is(reason, io.EOF) {
		return reason
	}
	return err
}

// refused is why the library takes no message: because reading has ended, which
// it has done before the receiver knows. The peer's end is one such reason, since
// there is no half-close. It is no failure: nothing was taken that is lost.
func (s *stream) refused(err error) error {
	if !errors.Is(err, net.ErrClosed) {
		return s.broken(err)
	}
	<-s.rcv.over() // the library waits for nothing where it is now
	if reason := s.rcv.reason(); !errors.Is(reason, io.EOF) {
		return reason
	}
	return &anysock.Error{
		Op: anysock.OpWrite, Addr: "ws", Kind: anysock.KindState, Err: errPeerEnded,
		Hint: "a WebSocket has no half-close: use lc+ws, if both sides can",
	}
}

var errPeerEnded = errors.New("the peer has closed the WebSocket, which ends both directions")

// SetDeadline sets both.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read.
func (s *stream) SetReadDeadline(t time.Time) error { return s.in.SetDeadline(t) }

// SetWriteDeadline bounds Write, CloseWrite and WaitAcked.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.wire.SetFlushDeadline(t) }

// Unacked is what the next hop has not acknowledged, counted with the framing.
func (s *stream) Unacked() (int, error) {
	n, err := s.below.Unacked()
	if err != nil {
		return 0, err
	}
	return int(n) + s.wire.Queued(), nil
}

// WaitAcked waits until the next hop has acknowledged everything.
func (s *stream) WaitAcked() error {
	return s.wire.Within(func() error { return s.below.WaitAcked(background) })
}

// TakeError is the abort or cut that nobody has read yet.
func (s *stream) TakeError() error {
	if err := s.in.Err(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
