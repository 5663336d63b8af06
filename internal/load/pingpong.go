package load

import "github.com/anysock/anysock"

// This file holds a closed loop of small messages on one goroutine: write what
// may be sent, read what comes. It never writes more than any path holds, so
// that writing cannot wait for our own reading.

// maxUnread is how many bytes may be under way without being read.
const maxUnread = 16 << 10

func (l *line) pingPong(c *anysock.Conn) error {
	var (
		r     = l.r
		size  = r.work.Size
		depth = r.work.Depth
		first = l.sent.Load() // the first message of this connection
		sent  = first
		in    = newReceiver(l, c, min(size*depth+1, readPiece)) // one byte too many is noticed
	)
	for now := r.now(); ; now = r.now() {
		if n := r.grant(now, depth-int(sent-l.answered.Load())); n > 0 {
			for i := range int64(n) {
				l.starts[(sent+i)%int64(depth)] = now
			}
			pos := l.start + (sent-first)*int64(size)
			sent += int64(n)
			l.sent.Store(sent)
			if _, err := c.Write(r.pattern.at(pos, n*size)); err != nil {
				return err
			}
		}
		if sent == l.answered.Load() {
			return nil
		}
		if err := in.next(); err != nil {
			return err
		}
	}
}

// A receiver reads what comes back on a connection, compares it, and counts
// the answers.
type receiver struct {
	l     *line
	c     *anysock.Conn
	buf   []byte
	first int64 // the connection's first message
	got   int64 // bytes so far
}

func newReceiver(l *line, c *anysock.Conn, room int) *receiver {
	return &receiver{l: l, c: c, buf: make([]byte, room), first: l.answered.Load()}
}

// next reads once.
func (in *receiver) next() error {
	l, r := in.l, in.l.r
	n, err := in.c.Read(in.buf)
	if n == 0 {
		return err
	}
	now := r.now()
	size := int64(r.work.Size)
	due := (l.sent.Load() - in.first) * size
	if at := r.pattern.differs(l.start+in.got, in.buf[:min(int64(n), due-in.got)]); at >= 0 {
		return &WrongBytesError{Peer: peerName(in.c), At: in.got + int64(at)}
	}
	in.got += int64(n)
	if in.got > due {
		return &WrongBytesError{Peer: peerName(in.c), At: due, More: true}
	}
	answered := l.answered.Load()
	if whole := in.first + in.got/size; whole > answered {
		if !r.work.Mode.Bulk() {
			l.count(answered, whole, now)
		}
		l.answered.Store(whole)
	}
	return err
}

// count counts requests, from the first to before the last, as answered now.
func (l *line) count(first, last, now int64) {
	s := l.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if now >= l.r.from && now < l.r.until.Load() {
		s.within += last - first
	}
	for j := first; j < last; j++ {
		if start := l.startOf(j); start >= l.r.from {
			s.answer(start, now, 1)
		}
	}
}
