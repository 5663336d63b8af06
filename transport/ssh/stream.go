// This file holds the stream over one channel.

package ssh

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	xssh "golang.org/x/crypto/ssh"
)

// An addr is where a stream leads to.
type addr struct{ network, name string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.name }

// An owner has several streams on one connection.
type owner interface {
	left()   // the channel of one is gone for good
	closed() // one was closed on our side, and starts nothing more
}

// A stream is one channel (RFC 4254 section 5) as a transport's stream.
type stream struct {
	n             *connection
	ch            xssh.Channel
	reqs          <-chan *xssh.Request
	local, remote net.Addr
	owner         owner // nil on a hop

	r      *deadline.Reader
	w      *deadline.Writer
	readBy deadline.Instant // that of r, for waits of our own

	// The source of r.
	first [smallRead]byte
	ahead []byte // of first: read and not passed on
	bulk  bool   // there was a lot last time

	judged  chan struct{} // closed when verdict is known
	verdict error         // nil: their direction ended in order; else why not
	failed  chan struct{} // closed when verdict is an error
	gone    chan struct{} // closed when the channel is: by the other side's close, or with the connection
	goneErr error         // nil: by the other side's close; after gone
	closed  chan struct{} // closed by Close
	// sentClose is closed when our close of the channel is out.
	sentClose chan struct{}
	once      struct{ close, goodbye sync.Once }

	sendingEnd sync.Mutex // held from before our end goes out until sentEnd says so

	mu      sync.Mutex // guards what follows
	endsNow bool       // our end is on its way, and may be there already
	sentEnd bool       // our end is out
	sawEnd  bool       // their end was read
}

// newStream starts reading the channel.
func newStream(n *connection, ch xssh.Channel, reqs <-chan *xssh.Request, local, remote net.Addr, o owner) *stream {
	s := &stream{
		n: n, ch: ch, reqs: reqs, local: local, remote: remote, owner: o,
		judged: make(chan struct{}), failed: make(chan struct{}), gone: make(chan struct{}), closed: make(chan struct{}), sentClose: make(chan struct{}),
	}
	n.expect(2)
	n.wg.Go(s.watchEnd)
	n.wg.Go(s.watchClose)
	s.r = deadline.NewReader(deadline.Source{Read: s.fetch, Wait: s.await, Eager: true})
	s.w = deadline.NewWriter(s.send)
	return s
}

// watchEnd waits for the other side's end in the queue of extended data, which
// should be empty (RFC 4254 section 5.2): an end shows there at once, however
// much data waits in front of it in the other queue.
func (s *stream) watchEnd() {
	discard := make([]byte, 64)
	for {
		if _, err := s.ch.Stderr().Read(discard); err != nil {
			break
		}
	}
	s.verdict = s.n.judge(s.ended)
	if s.verdict == nil && s.aborted() {
		s.verdict = &anysock.Error{Op: anysock.OpRead, Addr: s.n.name(), Kind: anysock.KindReset, Err: errAborted}
	}
	s.n.decided()
	close(s.judged)
	if s.verdict != nil && !s.isClosed() {
		close(s.failed)
	}
}

var errAborted = errors.New("the other side gave the stream up")

// aborted recognizes an abort of ours at the other end: a close without an end
// before it, while our direction is open. Others close so in order, too (RFC
// 4254 section 5.3 allows it), and servers like to; a peer of ours does not.
func (s *stream) aborted() bool {
	theirs := s.n.ssh.ServerVersion()
	if s.n.server {
		theirs = s.n.ssh.ClientVersion()
	}
	if s.ended() || !strings.HasPrefix(string(theirs), version) {
		return false
	}
	select {
	case req, ok := <-s.reqs:
		if ok {
			refuse(req)
		}
		return !ok && !s.endWasOut()
	default:
	}
	// The library tells of the end a moment before it closes the queue of
	// requests. But when it tells of a close, its own close is out by then, and
	// nothing can be sent behind that; after an end it can.
	sent := make(chan error, 1)
	s.n.wg.Go(func() {
		_, err := s.ch.SendRequest(seenEnd, false, nil)
		sent <- err
	})
	grace := time.NewTimer(abortGrace)
	defer grace.Stop()
	select {
	case err := <-sent:
		return err != nil && isEOF(err) && !s.endWasOut()
	case <-grace.C:
		return false // it cannot be sent now: no close was
	}
}

// endWasOut reports, of a channel that is closed, whether our end went out
// before: then the close was its answer.
func (s *stream) endWasOut() bool {
	s.sendingEnd.Lock() // shortly: nothing is sent any more
	defer s.sendingEnd.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sentEnd
}

// seenEnd is a request of the channel that asks for nothing (RFC 4254 section
// 5.4): only peers of ours get it.
const seenEnd = "seen-end@anysock"

// abortGrace bounds the wait for a carrier that takes nothing.
const abortGrace = 100 * time.Millisecond

// watchClose refuses requests (RFC 4254 section 5.4) until the other side
// closes the channel.
func (s *stream) watchClose() {
	for req := range s.reqs {
		refuse(req)
	}
	s.goneErr = s.n.judge(s.ended)
	s.n.decided()
	if s.owner != nil {
		s.owner.left() // first: who waits for the stream's ending may exit then
	}
	close(s.gone)
}

func refuse(req *xssh.Request) {
	if req.WantReply {
		_ = req.Reply(false, nil)
	}
}

// await waits for data in a small buffer, unless there was a lot last time.
func (s *stream) await() error {
	if s.bulk {
		return nil
	}
	n, err := s.read(s.first[:])
	s.ahead = s.first[:n]
	return err // none with bytes
}

// fetch is the Reader's source.
func (s *stream) fetch(p []byte) (int, error) {
	if len(s.ahead) > 0 {
		n := copy(p, s.ahead)
		s.ahead = s.ahead[n:]
		s.bulk = n == smallRead
		return n, nil
	}
	n, err := s.read(p)
	s.bulk = n >= smallRead
	return n, err
}

// read reads the channel and gives its end a meaning. An error that comes with
// bytes is that of telling the other side that there is room again: what is
// wrong shows at the next read, behind what has come in.
func (s *stream) read(p []byte) (int, error) {
	n, err := s.ch.Read(p)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF { //nolint:errorlint // the library's is bare
		<-s.judged
		if s.verdict != nil {
			err = s.verdict
		}
	}
	return n, err
}

// send is the Writer's sink.
func (s *stream) send(p []byte) (int, error) {
	n, err := s.ch.Write(p)
	if err == nil {
		return n, nil
	}
	return n, s.sendError(err)
}

// sendError is why the channel takes no more: the connection is gone, or the
// other side has closed the channel, as a socket whose reader has gone.
func (s *stream) sendError(err error) error {
	if !isEOF(err) {
		var e *anysock.Error
		if errors.As(err, &e) {
			return e
		}
		return s.n.cut(err)
	}
	<-s.gone
	if s.goneErr != nil {
		return s.goneErr
	}
	return syscall.EPIPE
}

// Read gives io.EOF only after the stream's own end.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if isEOF(err) {
		s.mu.Lock()
		s.sawEnd = true
		s.mu.Unlock()
		s.goodbye()
	}
	return n, err
}

// Write returns when the bytes are taken: at most deadline.BufferSize of them
// are still on their way to the connection below. An error there is that of the
// next call; CloseWrite waits for them.
func (s *stream) Write(p []byte) (int, error) { return s.w.Write(p) }

// CloseWrite sends our end behind what was written, and waits until it is out.
func (s *stream) CloseWrite() error {
	s.w.End(s.sendEnd)
	return s.w.Flush()
}

// sendEnd is SSH_MSG_CHANNEL_EOF.
func (s *stream) sendEnd() error {
	if err := s.w.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	s.endsNow = true // the answer can be faster than we are
	s.mu.Unlock()
	s.sendingEnd.Lock()
	err := s.ch.CloseWrite()
	if err == nil {
		s.mu.Lock()
		s.sentEnd = true
		s.mu.Unlock()
	}
	s.sendingEnd.Unlock()
	if err != nil {
		return s.sendError(err)
	}
	s.goodbye()
	return nil
}

// ended reports whether the other side may have seen our end.
func (s *stream) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endsNow
}

// goodbye closes the channel on the listener's side as soon as both directions
// have ended and everything of theirs was read: this is what a client waits for.
func (s *stream) goodbye() {
	s.mu.Lock()
	both := s.sentEnd && s.sawEnd
	s.mu.Unlock()
	if both && s.n.server {
		s.sendClose()
	}
}

// sendClose sends SSH_MSG_CHANNEL_CLOSE, aside: it may have to wait for others
// that write.
func (s *stream) sendClose() {
	s.once.goodbye.Do(func() {
		s.n.wg.Go(func() {
			_ = s.ch.Close()
			close(s.sentClose)
		})
	})
}

// WaitPeer waits until the other side has closed the channel. OpenSSH does when
// what it passes the stream on to has taken our last byte and our end. An error
// is the read deadline, or on a hop that the connection ended before that: a
// client may hang up as soon as both directions have ended.
func (s *stream) WaitPeer() error {
	select {
	case <-s.gone:
		if s.n.server {
			return nil
		}
		return s.goneErr
	case <-s.readBy.Wait():
		return os.ErrDeadlineExceeded
	case <-s.closed:
		return net.ErrClosed
	}
}

// Failed is closed when the stream was cut or aborted.
func (s *stream) Failed() <-chan struct{} { return s.failed }

// TakeError is the failure that nobody has read.
func (s *stream) TakeError() error {
	select {
	case <-s.failed:
		return s.verdict
	default:
		return nil
	}
}

// Unread is how many bytes were read ahead.
func (s *stream) Unread() (int, error) { return s.r.Buffered(), nil }

// Unacked is what a deadline has left in our hands, and our end; nobody says
// what the other side has.
func (s *stream) Unacked() (int, error) {
	n := s.w.Queued()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w.Ending() && !s.sentEnd {
		n++
	}
	return n, nil
}

// LocalAddr is the destination that the client has named, on a listener; our
// end of the connection below on a hop.
func (s *stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the client, on a listener; the target on a hop.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// SetDeadline sets both.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read and WaitPeer.
func (s *stream) SetReadDeadline(t time.Time) error {
	if s.isClosed() {
		return net.ErrClosed
	}
	s.readBy.Set(t)
	return s.r.SetDeadline(t)
}

// SetWriteDeadline bounds Write and CloseWrite.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.w.SetDeadline(t) }

func (s *stream) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Close releases the stream at once. A hop's connection to the server ends in
// order, and its goroutines with it; on a listener the close of the channel is
// out, unless the client takes nothing.
func (s *stream) Close() error {
	s.end(s.n.release)
	if s.n.server {
		within(releaseBound, s.sentClose)
	}
	return nil
}

// Abort is Close without regard to what is under way. Through a server that is
// not ours the target may take it for an end.
func (s *stream) Abort() error {
	s.end(s.n.abort)
	return errors.ErrUnsupported
}

func (s *stream) end(below func()) {
	s.once.close.Do(func() {
		close(s.closed)
		s.r.Close()
		s.w.Close()
		s.readBy.Stop()
		if s.n.server {
			// Its goroutines end when the client has closed the channel, too, or
			// the connection is over, and are the connection's to wait for.
			s.sendClose()
			s.n.wg.Go(s.r.Wait)
			s.n.wg.Go(s.w.Wait)
			s.owner.closed()
			return
		}
		below()
		s.waitForGoroutines()
	})
}

// waitForGoroutines waits for those of a hop's stream and its connection, which
// end now that the connection below has. The bound is for a library that is
// stuck with what a broken server has sent.
func (s *stream) waitForGoroutines() {
	done := make(chan struct{})
	go func() {
		s.n.wg.Wait()
		s.r.Wait()
		s.w.Wait()
		close(done)
	}()
	within(releaseBound, done)
}

// within waits for c, for so long.
func within(d time.Duration, c <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}
