package quic

import (
	"context"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/socktest"
)

func TestConformance(t *testing.T) {
	r := newRig(t)
	socktest.TestTransport(t, socktest.Transport{
		Name: "quic",
		Caps: capsOf(true),
		Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
			return lc.Listen(ctx, r.listenAt(""))
		},
		Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
			return d.Dial(ctx, r.dialTo(ln.Addr(), ""))
		},
		CutPair: func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
			return r.cutPair(ctx, t, opts)
		},
	})
}

// cutPair connects through a proxy that forwards no more once it is cut.
func (r rig) cutPair(ctx context.Context, t *testing.T, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
	const quick = "&lost=4s&keepidle=500ms"
	ln, err := (&anysock.ListenConfig{Options: opts}).Listen(ctx, r.listenAt(quick))
	if err != nil {
		return nil, nil, nil, err
	}
	defer ln.Close()
	p := newProxy(t, ln.Addr())
	a, err = (&anysock.Dialer{Options: opts}).Dial(ctx, r.dialTo(p.addr(), quick))
	if err != nil {
		return nil, nil, nil, err
	}
	b, err = ln.AcceptContext(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return a, b, func() error { p.cut.Store(true); return nil }, nil
}
