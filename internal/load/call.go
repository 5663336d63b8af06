package load

import (
	"time"

	"github.com/anysock/anysock"
)

// This file holds mode connect: a connection for each message.

// calls makes the line's connections, one after the other.
func (l *line) calls() {
	pause := redialPause
	for l.nextCall() {
		l.sent.Add(1)
		c, err := l.dial(l.r.alive)
		if err != nil {
			l.answered.Add(1)
			if l.r.alive.Err() == nil {
				l.shard.fail(err, 1)
			}
			l.r.pause(pause) // a server that refuses is not to be hammered
			pause = min(2*pause, maxRedialPause)
			continue
		}
		pause = redialPause
		l.call(c)
	}
	l.missed()
}

// nextCall waits for the next request to be due; false if there is none.
func (l *line) nextCall() bool {
	r := l.r
	if r.work.Rate == 0 {
		now := r.now()
		l.starts = append(l.starts[:0], now)
		return r.grant(now, 1) > 0
	}
	over := r.over
	j := l.sent.Load()
	start := l.startOf(j)
	for start < r.until.Load() && r.alive.Err() == nil {
		if now := r.now(); now >= start {
			l.late(j, j+1, now)
			return true
		}
		select {
		case <-l.due:
		case <-over:
			over = nil
		}
	}
	return false
}

// call is one message and its answer, and the end of the connection.
func (l *line) call(c *anysock.Conn) {
	r, j := l.r, l.answered.Load()
	l.start = streamStart(l.n, int(j%patternPeriod))
	in := newReceiver(l, c, min(r.work.Size+1, readPiece))
	sent := make(chan error, 1)
	message := r.pattern.at(l.start, r.work.Size)
	var err error
	if len(message) <= maxUnread {
		_, err = c.Write(message)
		sent <- nil
	} else {
		go write(c, message, sent)
	}
	for err == nil && l.answered.Load() == j {
		err = in.next()
	}
	if err != nil {
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // the writer leaves
	}
	if serr := <-sent; serr != nil && (err == nil || !isCut(serr)) {
		err = serr
	}
	l.end(c, err)
}

// write is owned by call, which waits for sent.
func write(c *anysock.Conn, message []byte, sent chan<- error) {
	_, err := c.Write(message)
	sent <- err
}
