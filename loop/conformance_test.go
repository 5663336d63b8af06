package loop_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
	"github.com/anysock/anysock/socktest"
)

// A dialed is the other end of a blocking, with the same capabilities.
type dialed struct {
	net.Conn
	caps anysock.Caps
}

func (d dialed) Caps() anysock.Caps { return d.caps }

func (d dialed) CloseWrite() error { return d.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Abort lets the peer see a reset.
func (d dialed) Abort() error {
	if c, ok := d.Conn.(*net.TCPConn); ok {
		return errors.Join(c.SetLinger(0), c.Close())
	}
	return errors.Join(d.Close(), errors.ErrUnsupported)
}

// The conformance suite, with one end on a loop: what it asks of every
// transport callbacks can do.
func TestConformance(t *testing.T) {
	for _, network := range networks {
		caps := anysock.CapHalfClose | anysock.CapDeadline
		if network != "unix" {
			caps |= anysock.CapAbort
		}
		// The suite's cases run in parallel, and a unix client has no name: one
		// connects after the other.
		var turn sync.Mutex
		accepted := make(chan *blocking, 1)
		r := serve(t, network, "", &loop.Server{Loops: 2, Handler: blockingHandler(func(b *blocking) {
			b.caps = caps
			accepted <- b
		})})
		kind, at := "tcp", r.addr[len("tcp://"):]
		if network == "unix" {
			kind, at = "unix", r.addr[len("unix:"):]
		}
		socktest.TestTransport(t, socktest.Transport{
			Name: network,
			Caps: caps,
			Pair: func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) {
				turn.Lock()
				defer turn.Unlock()
				c, err := new(net.Dialer).DialContext(ctx, kind, at)
				if err != nil {
					return nil, nil, err
				}
				select {
				case b := <-accepted:
					return anysock.Wrap(dialed{c, caps}, opts), anysock.Wrap(b, opts), nil
				case <-ctx.Done():
					c.Close()
					return nil, nil, ctx.Err()
				}
			},
		})
	}
}
