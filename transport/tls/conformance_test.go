package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/socktest"
)

// everything is what tls over mem can do, and over tcp where acknowledgements
// are known: here.
const everything = anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline | anysock.CapCloseAck | anysock.CapBindSource

// here is caps without the acknowledgements that this platform does not tell of
// over tcp.
func here(caps anysock.Caps) anysock.Caps {
	tcp, err := anysock.AddressCaps(anysock.MustParseAddress("tcp://h:1"))
	if err != nil {
		panic(err)
	}
	return caps &^ (anysock.CapCloseAck &^ tcp)
}

// The conformance suite over each kind of carrier.
func TestConformance(t *testing.T) {
	c := newCerts(t)
	dir := t.TempDir()
	var n atomic.Int64
	name := func() string { return strconv.FormatInt(n.Add(1), 10) }
	twice := "?tls.1.cert=file:" + c.server.CertFile + "&tls.1.key=file:" + c.server.KeyFile + "&tls.2.cert=file:" + c.server.CertFile + "&tls.2.key=file:" + c.server.KeyFile
	for _, tt := range []socktest.Transport{
		{
			Name: "tls+tcp", Caps: here(everything),
			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
				return lc.Listen(ctx, "tls://127.0.0.1:0"+c.serving())
			},
			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
				return d.Dial(ctx, "tls://"+ln.Addr().String()+c.trusting())
			},
			CutPair: func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
				return cutPair(ctx, c, tls.VersionTLS13, opts)
			},
		},
		{
			Name: "tls12+tcp", Caps: here(everything),
			Pair: func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) {
				near, far, err := tcpPair(ctx)
				if err != nil {
					return nil, nil, err
				}
				return overPair(ctx, c, tls.VersionTLS12, near, far, opts)
			},
			CutPair: func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
				return cutPair(ctx, c, tls.VersionTLS12, opts)
			},
		},
		{
			Name: "tls+unix", Caps: anysock.CapHalfClose | anysock.CapCutDetect | anysock.CapDeadline,
			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
				return lc.Listen(ctx, "tls+unix:"+filepath.Join(dir, name())+c.serving())
			},
			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
				return d.Dial(ctx, "tls+unix:"+ln.Addr().String()+c.trusting("sni=localhost"))
			},
		},
		{
			Name: "tls+mem", Caps: everything, MaxBuffered: 1 << 20,
			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
				return lc.Listen(ctx, "tls+mem:conformance"+name()+c.serving())
			},
			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
				return d.Dial(ctx, "tls+mem:"+ln.Addr().String()+c.trusting("sni=localhost"))
			},
		},
		{
			Name: "tls+tls+tcp", Caps: here(everything),
			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
				return lc.Listen(ctx, "tls+tls+tcp://127.0.0.1:0"+twice)
			},
			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
				return d.Dial(ctx, "tls+tls+tcp://"+ln.Addr().String()+"?tls.1.ca=file:"+c.File+"&tls.2.ca=file:"+c.File)
			},
		},
	} {
		socktest.TestTransport(t, tt)
	}
}

// tcpPair is a bare connection within this process.
func tcpPair(ctx context.Context) (near, far *anysock.Conn, err error) {
	ln, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if near, err = anysock.Dial(ctx, "tcp://"+ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = ln.AcceptContext(ctx); err != nil {
		_ = near.Abort()
		return nil, nil, err
	}
	return near, far, nil
}

// overPair puts the layer on two ends, with one version of TLS.
func overPair(ctx context.Context, c certs, version uint16, near, far *anysock.Conn, opts anysock.Options) (a, b *anysock.Conn, err error) {
	type outcome struct {
		c   net.Conn
		err error
	}
	server := make(chan outcome, 1)
	go func() {
		cfg := &tls.Config{Certificates: []tls.Certificate{c.server.TLS}, MaxVersion: version, SessionTicketsDisabled: true}
		s, err := handshake(ctx, far, anysock.Target{Prepared: cfg}, tls.Server)
		server <- outcome{s, err}
	}()
	cfg := &tls.Config{RootCAs: c.Pool, ServerName: "localhost", MaxVersion: version}
	x, err := handshake(ctx, near, anysock.Target{Prepared: cfg}, tls.Client)
	if err != nil {
		_ = near.Abort()
	}
	y := <-server
	if err = errors.Join(err, y.err); err != nil {
		_, _ = near.Abort(), far.Abort()
		return nil, nil, err
	}
	return anysock.Wrap(x, opts), anysock.Wrap(y.c, opts), nil
}

// cutPair is overPair through something that can end both connections below
// in order, without a word of TLS.
func cutPair(ctx context.Context, c certs, version uint16, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
	near, nearMiddle, err := tcpPair(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	farMiddle, far, err := tcpPair(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	done := make(chan error, 2)
	for _, way := range [][2]*anysock.Conn{{nearMiddle, farMiddle}, {farMiddle, nearMiddle}} {
		go func() {
			_, err := way[1].ReadFrom(way[0])
			done <- err
		}()
	}
	a, b, err = overPair(ctx, c, version, near, far, opts)
	if err != nil {
		_, _ = nearMiddle.Abort(), farMiddle.Abort()
	}
	return a, b, func() error {
		// The copies have moved all there is, or may leave it: it is a cut.
		return errors.Join(nearMiddle.Close(), farMiddle.Close())
	}, err
}
