//go:build linux && !anysock_portable

package load

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file holds what a line does on an event loop.

// turns is how often a socket in bulk is read or written before the others have
// their turn. Messages end by themselves.
const turns = 16

// messageEvents is what a socket with messages is watched for, from beginning
// to end: edge-triggered, it is read until it is empty and written until it is
// full, and asking again costs nothing. In bulk it is level-triggered.
const messageEvents = sys.EventIn | sys.EventOut | sys.EventPeerEnd | sys.EventEdge

// endEvents say that reading finds more than data, so that a short read is not
// the last.
const endEvents = sys.EventPeerEnd | sys.EventHangUp | sys.EventError

// A socket is a line's connection on a loop. Which bytes it sends and wants
// follows from counts, so it has no buffer.
type socket struct {
	node   reactor.Node
	handle reactor.Handle // until it is on the loop
	l      *line
	b      *loop
	peer   string
	tcp    bool

	first  int64 // the line's first message on this connection
	out    int64 // bytes sent
	got    int64 // bytes received
	ending bool  // it is being disconnected

	call   *call // mode connect; nil in the others
	verify bool  // down
	seen   int64
	since  time.Duration // nothing has moved
	pause  time.Duration // before the line is made again
}

// begin puts the socket on its loop.
func (s *socket) begin() {
	s.first = s.l.sent.Load()
	s.verify = !s.b.r.unverified.Load()
	if s.pause == 0 {
		s.pause = redialPause
	}
	want := sys.EventIn
	if !s.b.r.work.Mode.Bulk() {
		want = messageEvents
	}
	if err := s.b.loop.Add(&s.node, s.handle, want); err != nil {
		s.handle.Close()
		s.lost(bridge.OpError(anysock.OpConnect, s.peer, err), false, false, anysock.AbortedByUs)
		return
	}
	s.push()
}

// here reports whether there is something for the loop to do: a connection, or
// a caller between two.
func (s *socket) here() bool { return s.node.Open() || s.call != nil && !s.call.over }

// Ready is called when something has come or there is room to send.
func (s *socket) Ready(found sys.Events) {
	if s.call != nil && s.call.connecting && !s.connected() {
		return
	}
	if found&^sys.EventOut == 0 || s.receive(found) {
		s.push()
	}
}

// Expired is the end of a caller's pause; others have no timer.
func (s *socket) Expired() { s.push() }

// receive takes what is there; false if the connection is over.
func (s *socket) receive(found sys.Events) bool {
	buf, bulk := s.b.loop.Buffer, s.b.r.work.Mode.Bulk()
	for turn := 0; !bulk || turn < turns; turn++ {
		n, err := s.b.loop.Recv(&s.node, buf)
		switch {
		case errors.Is(err, sys.ErrWouldBlock):
			return true
		case err != nil:
			s.broken(anysock.OpRead, err)
			return false
		case n == 0:
			return s.peerEnded()
		}
		if !s.take(buf[:n]) {
			return false
		}
		if n < len(buf) && found&endEvents == 0 {
			return true
		}
	}
	return true
}

// peerEnded is the peer's end, which a discard server may tell at once.
func (s *socket) peerEnded() bool {
	switch {
	case s.b.r.work.Mode == Up:
		_ = s.b.loop.Want(&s.node, sys.EventOut) // a failure shows when it is sent to
		return true
	case s.b.r.work.Mode == Down && s.b.r.isOver():
		s.finish(true)
		return false
	}
	s.fail(&EndedError{s.peer}, false, false)
	return false
}

// take compares what came, and counts the answers; false if the connection is
// over.
func (s *socket) take(p []byte) bool {
	l, r := s.l, s.b.r
	switch r.work.Mode {
	case Up:
		s.handOver(&PeerError{Peer: s.peer, Mode: Up, Msg: "it sends, and a discard server does not"})
		return false
	case Down:
		return s.takeLines(p)
	}
	size := int64(r.work.Size)
	now := r.now()
	due := (l.sent.Load() - s.first) * size
	if at := r.pattern.differs(l.start+s.got, p[:min(int64(len(p)), due-s.got)]); at >= 0 {
		s.fail(&WrongBytesError{Peer: s.peer, At: s.got + int64(at)}, false, false)
		return false
	}
	s.got += int64(len(p))
	if s.got > due {
		s.fail(&WrongBytesError{Peer: s.peer, At: due, More: true}, false, false)
		return false
	}
	answered := l.answered.Load()
	if whole := s.first + s.got/size; whole > answered {
		if !r.work.Mode.Bulk() {
			l.count(answered, whole, now)
		}
		l.answered.Store(whole)
		s.pause = redialPause
	}
	return true
}

// takeLines compares what came with the lines of RFC 864, if it began so.
func (s *socket) takeLines(p []byte) bool {
	r := s.b.r
	if s.verify {
		if at := r.chargen.differs(s.got, p); at >= 0 {
			if s.got+int64(at) >= chargenWidth {
				s.fail(&WrongBytesError{Peer: s.peer, At: s.got + int64(at)}, false, false)
				return false
			}
			r.unverified.Store(true)
			s.verify = false
		}
	}
	s.got += int64(len(p))
	s.pause = redialPause
	if r.grant(r.now(), len(p)) < len(p) {
		s.finish(false)
		return false
	}
	return true
}

// push sends what may be sent, and ends the connection in order when all is
// done.
func (s *socket) push() {
	if s.ending || s.call != nil && (s.call.connecting || !s.node.Open() && !s.nextCall()) {
		return
	}
	switch s.b.r.work.Mode {
	case Up:
		s.pushBytes()
	case Down:
		if s.b.closing {
			s.finish(false)
		}
	default:
		s.pushMessages()
	}
}

// pushMessages begins messages and sends them.
func (s *socket) pushMessages() {
	l, size, bulk := s.l, int64(s.b.r.work.Size), s.b.r.work.Mode.Bulk()
	for turn := 0; !bulk || turn < turns; turn++ {
		total := (l.sent.Load() - s.first) * size
		more := true
		if s.out == total {
			var n int64
			if n, more = s.may(); n > 0 {
				total += n * size
			}
		}
		if s.out == total {
			if !more && l.sent.Load() == l.answered.Load() {
				s.finish(false)
				return
			}
			if bulk {
				_ = s.b.loop.Want(&s.node, sys.EventIn) // else it goes on to be told of room, which does no harm
			}
			return
		}
		if !s.send(int(min(total-s.out, max(writePiece, size)))) {
			return
		}
	}
	s.wantOut()
}

// may begins as many messages as may be sent now; more says that there will be
// others.
func (s *socket) may() (n int64, more bool) {
	l, r, w := s.l, s.b.r, &s.b.r.work
	sent, now := l.sent.Load(), r.now()
	most := int64(max(1, writePiece/w.Size))
	switch {
	case w.Mode == Connect:
		return 0, false
	case w.Mode == Both:
		n = int64(min(r.grant(now, w.Size), 1))
	case w.Depth > 0:
		if most = min(most, int64(w.Depth)-(sent-l.answered.Load())); most == 0 {
			return 0, true
		}
		fallthrough
	default:
		if w.Rate == 0 {
			n = int64(r.grant(now, int(most)))
			for i := range n {
				l.starts[(sent+i)%int64(len(l.starts))] = now
			}
			break
		}
		until := r.until.Load()
		more = now < until
		if n = max(0, min(most, r.schedule.lineBefore(l.n, min(now+1, until))-sent)); n > 0 {
			l.late(sent, sent+n, now)
		}
	}
	l.sent.Store(sent + n)
	return n, more
}

// pushBytes sends until it is enough.
func (s *socket) pushBytes() {
	r := s.b.r
	for range turns {
		n := r.grant(r.now(), r.work.Size)
		if n == 0 {
			s.finish(false)
			return
		}
		before := s.out
		if !s.send(n) {
			return
		}
		// What there was no room for is granted again.
		r.giveBack(n - int(s.out-before))
	}
	s.wantOut()
}

// send sends at most n bytes; false if there is no room for more, or the
// connection has failed.
func (s *socket) send(n int) bool {
	r := s.b.r
	m, err := s.b.loop.Send(&s.node, r.pattern.at(s.l.start+s.out, n))
	s.out += int64(m)
	switch {
	case errors.Is(err, sys.ErrWouldBlock):
		if r.work.Mode == Up {
			r.giveBack(n)
		}
		s.wantOut()
		return false
	case err != nil:
		s.broken(anysock.OpWrite, err)
		return false
	}
	return true
}

// wantOut has push called when there is room.
func (s *socket) wantOut() {
	if !s.b.r.work.Mode.Bulk() {
		return // it is watched for room all the time
	}
	if err := s.b.loop.Want(&s.node, s.node.Wanted()|sys.EventOut); err != nil {
		s.broken(anysock.OpWait, err)
	}
}

// finish ends the connection in order; theirEnd says that the peer has.
func (s *socket) finish(theirEnd bool) {
	s.ending = true
	s.b.loop.Disconnect(&s.node, s.tcp, false, theirEnd, reactor.Bounds{
		DrainBytes: anysock.DefaultDrainBytes,
		Patience:   min(anysock.DefaultDrainTimeout, time.Duration(s.b.r.work.Timeout)),
		Total:      time.Duration(s.b.r.work.Timeout),
	}, s.finished)
}

// finished has the outcome of a disconnect.
func (s *socket) finished(o reactor.Outcome) {
	how := anysock.Delivered
	switch {
	case errors.Is(o.Err, errAbandoned):
		how = anysock.AbortedByUs
	case o.Err != nil:
		h, err := bridge.Failure(anysock.OpDisconnect, s.peer, o.Err)
		how = anysock.How(h)
		s.l.shard.fail(err, 0)
	case !o.Acked:
		how = anysock.Lost
		s.l.shard.fail(&anysock.Error{Op: anysock.OpDisconnect, Addr: s.peer, Kind: anysock.KindLost, Err: syscall.ETIMEDOUT}, 0)
	case o.TheirEnd:
		how = anysock.Graceful
	}
	s.retire(how)
	if s.call != nil {
		s.call.pause = redialPause
		s.push()
		return
	}
	s.done()
}

// retire counts what a connection that is over has moved.
func (s *socket) retire(how anysock.How) {
	b := s.b
	b.pastSent += s.out
	b.pastReceived += s.got
	b.pastUnknown = b.pastUnknown || !s.tcp
	s.ending = false
	s.node.Source = s // a disconnect had it
	if s.call == nil {
		b.sockets[s.l.n/len(b.of.each)] = nil
	}
	if b.r.work.Mode.Bulk() {
		s.l.shard.lastly(b.r.now())
	}
	s.l.shard.ended(how)
}

// done is the end of the line.
func (s *socket) done() {
	s.l.missed()
	s.b.of.work.Done()
}

// broken is a system call that has failed.
func (s *socket) broken(op string, err error) {
	how, e := bridge.Failure(op, s.peer, err)
	s.abort()
	s.lost(e, false, false, anysock.How(how))
}

// fail gives the connection up: see line.lose.
func (s *socket) fail(err error, silent, forgiven bool) {
	s.abort()
	s.lost(err, silent, forgiven, anysock.AbortedByUs)
}

// handOver ends the run: the peer is not what the mode needs.
func (s *socket) handOver(err error) {
	s.b.r.fail(err)
	s.abort()
	s.retire(anysock.AbortedByUs)
	s.done()
}

// abort closes the socket with a reset; a Unix socket has none.
func (s *socket) abort() {
	if s.tcp {
		_ = s.b.loop.DiscardOnClose(&s.node) // a connection that has failed may be reset already
	}
	s.b.loop.Close(&s.node)
}

// tooLate gives up what is not answered when the time for that is over.
func (s *socket) tooLate() {
	if s.call != nil {
		s.call.last = true
	}
	switch {
	case s.call != nil && !s.node.Open():
		s.endCalls()
	case !s.ending:
		s.fail(s.silence(), true, s.b.r.interrupted)
	}
}

// silence is the error of a connection on which nothing came in time.
func (s *socket) silence() error {
	return &anysock.Error{Op: anysock.OpRead, Addr: s.peer, Kind: anysock.KindTimeout, Err: os.ErrDeadlineExceeded}
}

// lost counts a connection that is over before its work, and has the line made
// again.
func (s *socket) lost(err error, silent, forgiven bool, how anysock.How) {
	s.l.lose(err, silent, forgiven)
	s.retire(how)
	if s.call != nil {
		s.pauseCalls()
		return
	}
	if s.b.r.isOver() {
		s.done()
		return
	}
	s.b.of.runs.Go(s.again)
}

// again makes the line again, on a goroutine that stop waits for.
func (s *socket) again() {
	pause := s.pause
	if s.l.redial(&pause) == nil {
		s.done()
		return
	}
	next, err := takeSocket(s.l)
	if err != nil || next == nil { // out of descriptors
		if err != nil {
			s.l.shard.fail(err, 0)
		}
		s.done()
		return
	}
	b := s.b
	next.b, next.pause = b, pause
	b.loop.Tell(func() {
		b.sockets[s.l.n/len(b.of.each)] = next
		next.begin()
	})
}
