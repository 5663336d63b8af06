package ssh

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/socktest"
)

// The listener with our own hop: both ends are channels.
func TestListenerConformance(t *testing.T) {
	r := newRig(t)
	socktest.TestTransport(t, socktest.Transport{
		Name: "ssh_listener", Caps: streamCaps,
		Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
			return lc.Listen(ctx, r.listenAddr())
		},
		Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
			return d.Dial(ctx, r.hop(ln.Addr())+",tcp://any:1")
		},
	})
}

// The hop through a server that forwards as OpenSSH does: the other end is the
// target's socket.
func TestHopConformance(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	socktest.TestTransport(t, socktest.Transport{
		Name: "ssh_hop", Caps: streamCaps,
		Pair: func(ctx context.Context, opts anysock.Options) (x, y *anysock.Conn, err error) {
			ln, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
			if err != nil {
				return nil, nil, err
			}
			defer ln.Close()
			d := anysock.Dialer{Options: opts}
			if x, err = d.Dial(ctx, r.hop(b.ln.Addr())+",tcp://"+ln.Addr().String()); err != nil {
				return nil, nil, err
			}
			target, err := ln.AcceptContext(ctx)
			if err != nil {
				x.Abort()
				return nil, nil, err
			}
			return x, anysock.Wrap(asChannel{target, target}, opts), nil
		},
	})
}

// asChannel is the target's socket with no more capabilities than the hop has,
// because the suite asks for the same at both ends.
type asChannel struct {
	net.Conn
	c *anysock.Conn
}

func (a asChannel) Caps() anysock.Caps { return streamCaps }
func (a asChannel) CloseWrite() error  { return a.c.CloseWrite() }
func (a asChannel) Abort() error       { return errors.Join(a.c.Abort(), errors.ErrUnsupported) }
