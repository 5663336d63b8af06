package load

import (
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// This file holds messages that are sent by one goroutine and received by
// another, so that neither waits for the other: the open loop, a closed loop
// of large messages, and bulk both ways.

const (
	// writePiece is how much is written at once at most, unless a message is
	// larger.
	writePiece = 64 << 10
	// readPiece is how much is read at once at most, leastRead at least.
	readPiece, leastRead = 64 << 10, 4 << 10
)

// An exchange is one connection's messages.
type exchange struct {
	l     *line
	c     *anysock.Conn
	first int64
	in    *receiver

	quit    chan struct{} // closed when the receiver has left
	done    atomic.Bool   // the sender has sent everything
	sendErr error         // the sender's, until sent
	sent    chan struct{} // closed when the sender has left
}

func (l *line) exchange(c *anysock.Conn) error {
	room := min(max(l.r.work.Size*max(l.r.work.Depth, 4), leastRead), readPiece)
	x := &exchange{
		l: l, c: c, first: l.sent.Load(), in: newReceiver(l, c, room),
		quit: make(chan struct{}), sent: make(chan struct{}),
	}
	go x.send()
	err := x.receive()
	if err != nil {
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // the sender leaves
	}
	close(x.quit)
	<-x.sent
	if x.sendErr != nil && (err == nil || isCut(err) && l.verdict(c) == notCut) {
		return x.sendErr
	}
	return err
}

// receive reads until everything is answered.
func (x *exchange) receive() error {
	for !x.complete() {
		if err := x.in.next(); err != nil {
			if isCut(err) && x.complete() {
				return nil
			}
			return err
		}
		x.l.wake() // there may be room now
	}
	return nil
}

// complete reports whether nothing more will be sent and all is answered.
func (x *exchange) complete() bool {
	return x.done.Load() && x.l.answered.Load() == x.l.sent.Load()
}

// send is owned by exchange.
func (x *exchange) send() {
	defer close(x.sent)
	over := x.l.r.over
	for {
		n, more := x.may()
		if n > 0 {
			if x.sendErr = x.write(n); x.sendErr != nil {
				break
			}
			continue
		}
		if !more {
			x.done.Store(true)
			break
		}
		select {
		case <-x.l.due:
		case <-over:
			over = nil
		case <-x.quit:
			return
		}
	}
	if x.sendErr != nil || x.complete() {
		_ = x.c.SetReadDeadline(time.Unix(1, 0)) // the receiver has nothing to wait for
	}
}

// may is how many messages may be sent now, and whether there will be more.
func (x *exchange) may() (n int, more bool) {
	l, r, w := x.l, x.l.r, &x.l.r.work
	most := int64(max(1, writePiece/w.Size))
	if w.Mode == Both {
		return min(r.grant(r.now(), w.Size), 1), false
	}
	sent := l.sent.Load()
	if w.Depth > 0 {
		if most = min(most, int64(w.Depth)-(sent-l.answered.Load())); most == 0 {
			return 0, true
		}
	}
	now := r.now()
	if w.Rate == 0 {
		return r.grant(now, int(most)), false
	}
	until := r.until.Load()
	if due := min(most, r.schedule.lineBefore(l.n, min(now+1, until))-sent); due > 0 {
		l.late(sent, sent+due, now)
		return int(due), true
	}
	return 0, now < until
}

// late counts how much later than due requests of an open loop are sent.
func (l *line) late(first, last, now int64) {
	s := l.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	for j := first; j < last; j++ {
		if due := l.startOf(j); due >= l.r.from {
			record(s.lag, now-due, 1)
		}
	}
}

// write sends the next n messages.
func (x *exchange) write(n int) error {
	l, size := x.l, x.l.r.work.Size
	sent := l.sent.Load()
	if l.starts != nil {
		now := l.r.now()
		for i := range int64(n) {
			l.starts[(sent+i)%int64(len(l.starts))] = now
		}
	}
	l.sent.Store(sent + int64(n)) // before an answer can come
	_, err := x.c.Write(l.r.pattern.at(l.start+(sent-x.first)*int64(size), n*size))
	return err
}
