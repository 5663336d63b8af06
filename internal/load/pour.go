package load

import (
	"errors"
	"io"
	"time"

	"github.com/anysock/anysock"
)

// This file holds bulk: bytes one way as fast as they go, or both.

// up sends until it is enough. A discard server says nothing meanwhile.
func (l *line) up(c *anysock.Conn) error {
	heard := make(chan error, 1)
	go l.hear(c, heard)
	err := l.pour(c)
	_ = c.SetReadDeadline(time.Unix(1, 0)) // whoever hears leaves
	var peer *PeerError
	if said := <-heard; errors.As(said, &peer) {
		l.r.fail(said)
		return said
	}
	if isCut(err) && l.verdict(c) == enough {
		return nil
	}
	return err
}

// pour sends until it is enough.
func (l *line) pour(c *anysock.Conn) error {
	for pos := l.start; ; {
		n := l.r.grant(l.r.now(), l.r.work.Size)
		if n == 0 {
			return nil
		}
		n, err := c.Write(l.r.pattern.at(pos, n))
		pos += int64(n)
		if err != nil {
			return err
		}
	}
}

// hear is owned by up, which waits for what is heard: an error if the peer
// says something.
func (l *line) hear(c *anysock.Conn, heard chan<- error) {
	n, err := c.Read(make([]byte, leastRead))
	if n > 0 {
		err = &PeerError{Peer: peerName(c), Mode: Up, Msg: "it sends, and a discard server does not"}
		l.cut(c, enough)
	}
	heard <- err
}

// down receives until it is enough, and compares it with the lines of RFC 864
// if the first one is one of those.
func (l *line) down(c *anysock.Conn) error {
	r := l.r
	buf := make([]byte, readPiece)
	verify := !r.unverified.Load()
	for pos := int64(0); ; {
		n, err := c.Read(buf)
		if verify {
			if at := r.chargen.differs(pos, buf[:n]); at >= 0 {
				if pos+int64(at) >= chargenWidth {
					return &WrongBytesError{Peer: peerName(c), At: pos + int64(at)}
				}
				r.unverified.Store(true)
				verify = false
			}
		}
		pos += int64(n)
		switch {
		case n > 0 && r.grant(r.now(), n) < n:
			return nil
		case isCut(err) && l.verdict(c) == enough:
			return nil
		case errors.Is(err, io.EOF) && r.isOver():
			return nil
		case err != nil:
			return err
		}
	}
}

// both sends until it is enough, and receives all of it.
func (l *line) both(c *anysock.Conn) error { return l.exchange(c) }
