package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anysock/anysock"
)

// This file finds out, before the work begins, whether the peer is what the
// work needs.

// probe tries the first connection.
func (r *run) probe(ctx context.Context) error {
	l := r.lines[0]
	switch r.work.Mode {
	case Up:
		return nil // that a discard server is one shows while it is sent to
	case Connect:
		c, err := l.dial(ctx)
		if err != nil {
			return err
		}
		if err := r.probeEcho(ctx, c); err != nil {
			return err
		}
		r.peer = c.RemoteAddr()
		l.disconnect(c)
		l.conn.Store(nil)
		return nil
	case Down:
		return r.probeSource(ctx, l.conn.Load())
	}
	return r.probeEcho(ctx, l.conn.Load())
}

// probeEcho sends a message and wants it back.
func (r *run) probeEcho(ctx context.Context, c *anysock.Conn) error {
	n := min(r.work.Size, maxUnread)
	message, got := r.pattern.at(0, n), make([]byte, n)
	limit, cancel := context.WithTimeout(ctx, time.Duration(r.work.Timeout))
	defer cancel()
	_, err := c.WriteContext(limit, message)
	m := 0
	if err == nil {
		m, err = c.ReadAtLeast(limit, got, n)
	}
	peer := &PeerError{Peer: peerName(c), Mode: r.work.Mode, Err: err}
	wrong := r.pattern.differs(0, got[:m]) >= 0
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case wrong:
		peer.Msg, peer.Err = "it answers, but not with what it was sent", nil
	case err == nil:
		return nil
	case limit.Err() != nil:
		peer.Silent, peer.Err = true, nil
		peer.Msg = fmt.Sprintf("of %d bytes %d came back within %s", n, m, r.work.Timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		peer.Msg, peer.Err = fmt.Sprintf("it ended the connection when %d of %d bytes had come back", m, n), nil
	default:
		return err
	}
	return peer
}

// probeSource waits for the first byte.
func (r *run) probeSource(ctx context.Context, c *anysock.Conn) error {
	limit, cancel := context.WithTimeout(ctx, time.Duration(r.work.Timeout))
	defer cancel()
	// Peek would take bytes away from who has the socket afterwards.
	_, err := c.Wait(limit, anysock.Readable, 1)
	if n, uerr := c.Unread(); err == nil && (uerr != nil || n == 0) {
		_, err = c.Peek(limit, make([]byte, 1)) // an end or a failure, perhaps
	}
	peer := &PeerError{Peer: peerName(c), Mode: r.work.Mode}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limit.Err() != nil:
		peer.Silent = true
		peer.Msg = fmt.Sprintf("it sends nothing within %s", r.work.Timeout)
	case errors.Is(err, io.EOF):
		peer.Msg = "it ended the connection and sent nothing"
	default:
		return err
	}
	return peer
}
