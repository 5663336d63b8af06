// This file ends WebSockets: by the close frame 1000, and by an abort.

package ws

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/coder/websocket"
)

// CloseWrite ends both directions: it sends the close frame behind what is
// queued, bounded by the write deadline. A Conn calls it for Disconnect and
// Close only, because CapHalfClose is not declared, and then reads until the
// peer's close frame, which is the answer to ours. Called again, it sends what
// was left.
//
// If the peer has closed first, the library has answered, and that answer is
// what is sent. A peer that does not wait for it has lost nothing.
func (s *stream) CloseWrite() error {
	s.frames.Lock()
	s.wire.sendClose(int(websocket.StatusNormalClosure), "")
	s.frames.Unlock()
	err := s.wire.Flush()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if data, _ := s.wire.owed(); data == 0 && errors.Is(s.rcv.reason(), io.EOF) {
		return nil
	}
	return s.broken(err)
}

// reply queues a close frame that says why we take no more. It is called by
// who reads, and does not wait.
func (s *stream) reply(code websocket.StatusCode, reason string) {
	s.frames.Lock()
	s.wire.sendClose(int(code), reason)
	s.frames.Unlock()
	s.wire.FlushLater()
}

// bothEnded tells the other side, by an end below, that nothing more comes
// behind the library's answer to its close frame: a client waits for that (RFC
// 6455 section 7.1.1), while our program may take its time. putAway waits for it.
func (s *stream) bothEnded() {
	defer s.ending.Done()
	if s.wire.Flush() == nil {
		_ = s.below.CloseWrite() // where that is unsupported, Close does it
	}
}

// Close releases the WebSocket. What was to be sent has been sent by
// CloseWrite, but for the answer to a failure. The connection below ends in
// order, in the background.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		s.lastFrames()
		err = s.putAway(s.wire.Carrier.Close)
	})
	return err
}

// lastFrames sends the control frames that wait, if the other side takes them
// at once. Where data waits it does not, and nothing is sent.
func (s *stream) lastFrames() {
	if data, _ := s.wire.owed(); data == 0 {
		_ = s.wire.SetFlushDeadline(time.Now().Add(lastGrace))
		_ = s.wire.Flush()
	}
}

// abortCode is that of a close frame for an abort: "unexpected condition" (RFC
// 6455 section 7.4.1). Those from 4000 on belong to the programs above.
const abortCode = websocket.StatusInternalError

// Abort ends the connection at once. A peer that reads gets a close frame that
// says so; one that does not, because it takes nothing, finds the carrier
// aborted, or at least without a close frame. Either is no end.
//
// If the other side has broken off or broken the protocol, it has been sent the
// close frame that answers that. A reset could overtake it, so the connection
// below ends in order then.
func (s *stream) Abort() error {
	s.once.Do(func() {
		end := s.wire.Carrier.Abort
		if s.TakeError() != nil && s.wire.hasClosed() {
			end = s.wire.Carrier.Close
		}
		s.frames.Lock()
		s.wire.sendClose(int(abortCode), "aborted")
		s.frames.Unlock()
		s.lastFrames()
		_ = s.putAway(end) // that below has no abort does not matter: see above
	})
	return nil
}

// putAway ends what is below by end, and waits for the goroutines of the
// stream, which that wakes.
func (s *stream) putAway(end func() error) error {
	s.pings.halt()
	s.in.Close()
	err := end()
	s.in.Wait()
	s.rcv.drop()
	s.ending.Wait()
	_ = s.conn.CloseNow() // gives the library's buffers back
	s.pings.wait()
	return err
}
