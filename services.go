// This file holds the built-in services, echo (RFC 862), discard (RFC 863) and
// chargen (RFC 864): handlers for accepted connections, and transports that
// dial a stream whose other end such a handler serves.

package anysock

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

func init() {
	for scheme, serve := range map[string]service{
		"echo": ServeEcho, "discard": ServeDiscard, "chargen": ServeChargen,
	} {
		Register(Transport{
			Scheme:  scheme,
			Options: memConnOptions,
			Caps:    func(Caps, Target) Caps { return memCaps },
			Dial: func(ctx context.Context, d *Dialer, t Target) (net.Conn, error) {
				c, err := d.with(t).dialService(ctx, scheme, serve, t)
				if err != nil {
					return nil, err // not a nil *Conn in a net.Conn
				}
				return c, nil
			},
		})
	}
}

// A service serves one connection until it has ended.
type service func(context.Context, *Conn) error

// dialService makes a mem stream and serves its other end. The service's
// goroutine belongs to the stream: it ends when our end does, by an end, an
// abort or a close, and the caller's ctx has no hold on it.
func (d *Dialer) dialService(ctx context.Context, scheme string, serve service, t Target) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, opError(OpConnect, scheme+":", err)
	}
	start, id := time.Now(), nextSocket()
	local, remote := memAddr{scheme, "client" + memNumber()}, memAddr{scheme, "in-process"}
	near, far := newMemPair(local, remote, memLimit(t, d.Options), DefaultMemBuffer)
	if d.Trace != nil {
		d.Trace(Event{
			Time: start, Duration: time.Since(start), Op: OpConnect, Socket: id, Network: scheme,
			Local: local.name, Peer: remote.name, State: StateConnected,
		})
	}
	go runService(serve, newConn(0, scheme, far, memCaps, Options{}, d.Group, nil))
	return newConn(id, scheme, near, memCaps, d.Options, d.Group, d.Trace), nil
}

// runService is the goroutine of a dialed service. What ended it is known at
// the dialed end.
func runService(serve service, c *Conn) { _ = serve(context.Background(), c) }

// ServeEcho sends back everything that c receives (RFC 862) until the peer
// ends its direction; then it finishes what is left, ends ours and waits as
// Disconnect does. Between kernel sockets the bytes are spliced.
//
// ServeEcho, ServeDiscard and ServeChargen serve an accepted connection of any
// transport to its ending and take it over: when they return it is closed.
// The error is nil after a graceful or delivered ending, else what ended it,
// as Conn.End has it too. If the peer aborts, is lost or cut off, or a
// deadline set on c passes, c is aborted; if ctx is done, c is aborted and
// the error matches ctx's. If somebody else closes c meanwhile, the error
// matches net.ErrClosed, and how c ends is theirs to say.
func ServeEcho(ctx context.Context, c *Conn) error {
	return serve(ctx, c, func() error {
		_, err := c.WriteTo(c)
		return err
	})
}

// ServeDiscard reads and forgets what c receives (RFC 863) until the peer ends
// its direction, then ends ours. ctx and the error are as for ServeEcho.
func ServeDiscard(ctx context.Context, c *Conn) error {
	return serve(ctx, c, func() error {
		_, err := c.WriteTo(io.Discard)
		return err
	})
}

// ServeChargen sends lines of 72 printing characters, each line beginning one
// character later (RFC 864), and forgets what it receives. The peer's end is
// when it stops, in the middle of a line if the peer does not read, and ends
// our direction. ctx and the error are as for ServeEcho.
func ServeChargen(ctx context.Context, c *Conn) error {
	return serve(ctx, c, func() error {
		wctx, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		go discardUntilEnd(c, stop, ended)

		text := chargenText()
		var err error
		for err == nil {
			_, err = c.WriteContext(wctx, text)
		}
		stopped := wctx.Err() != nil
		if !stopped {
			abortFor(c, err) // which also ends the reading
		}
		if rerr := <-ended; stopped {
			return rerr
		}
		return err
	})
}

// discardUntilEnd is ServeChargen's reading half: it reports what ended it,
// nil for the peer's end, and stops the writing.
func discardUntilEnd(c *Conn, stop context.CancelFunc, ended chan<- error) {
	_, err := c.WriteTo(io.Discard)
	stop()
	ended <- err
}

// serve runs the body of a service and ends the connection as that ended.
func serve(ctx context.Context, c *Conn, body func() error) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = c.AbortAs(AbortedByUs, c.opError(OpAbort, ctx.Err()))
	})
	err := body()
	if err == nil {
		_, err = c.Disconnect(ctx)
	}
	if !stop() {
		<-cut
		if how := c.End().How; how == AbortedByUs {
			return c.opError(OpAbort, ctx.Err())
		}
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		abortFor(c, err)
	}
	return err
}

// abortFor aborts c because of err. If that was the connection's own failure,
// then it is the ending; otherwise, past a deadline, we gave up.
func abortFor(c *Conn, err error) {
	_ = c.AbortAs(AbortedByUs, err) // ErrUnsupported: closed, which is all the carrier can do
}

// The pattern of RFC 864: a ring of the 95 printing characters of ASCII, of
// which line n shows 72 from the n-th on.
const (
	chargenFirst = ' '
	chargenRing  = 95
	chargenWidth = 72
	// chargenCycles is how often one Write goes round the ring: near the
	// size of a buffer.
	chargenCycles = 9
)

// chargenText is a whole number of cycles, so that it can follow itself.
var chargenText = sync.OnceValue(func() []byte {
	text := make([]byte, 0, chargenCycles*chargenRing*(chargenWidth+2))
	for line := range chargenCycles * chargenRing {
		for i := range chargenWidth {
			text = append(text, chargenFirst+byte((line+i)%chargenRing))
		}
		text = append(text, '\r', '\n')
	}
	return text
})
