// This file runs the conformance suite through proxies, which are our own
// server, and looks at what a hop must keep.

package proxy

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/socktest"
)

// runServer serves on an address of its own until the end of the test.
func runServer(t testing.TB, s *Server, address string) net.Addr {
	t.Helper()
	ln, err := anysock.Listen(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		cut, stop := context.WithCancel(context.Background())
		stop()
		if _, err := s.Shutdown(cut); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return ln.Addr()
}

// behind is the suite's view of tcp through a hop.
func behind(t *testing.T, name, hop string) socktest.Transport {
	caps, err := anysock.AddressCaps(anysock.MustParseAddress(hop + ",tcp://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	return socktest.Transport{
		Name: name, Caps: caps,
		Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
			return lc.Listen(ctx, "tcp://127.0.0.1:0")
		},
		Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
			return d.Dial(ctx, hop+",tcp://"+ln.Addr().String())
		},
	}
}

// TestBindConformance: one end was accepted by BIND, the other called it.
func TestBindConformance(t *testing.T) {
	for _, scheme := range []string{"socks5", "socks4"} {
		at := runServer(t, &Server{}, "tcp://127.0.0.1:0")
		tr := behind(t, scheme+" bind", scheme+"://"+at.String())
		tr.Listen, tr.Dial = nil, nil
		tr.Pair = func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) {
			lc := &anysock.ListenConfig{Options: opts}
			ln, err := lc.Listen(ctx, scheme+"://"+at.String()+",tcp://:0?peer=127.0.0.1")
			if err != nil {
				return nil, nil, err
			}
			defer ln.Close()
			a, err = (&anysock.Dialer{Options: opts}).Dial(ctx, "tcp://"+ln.Addr().String())
			if err != nil {
				return nil, nil, err
			}
			b, err = ln.AcceptContext(ctx)
			if err != nil {
				_ = a.Abort()
				return nil, nil, err
			}
			return a, b, nil
		}
		socktest.TestTransport(t, tr)
	}
}

func TestConformance(t *testing.T) {
	for _, scheme := range []string{"socks5", "socks4", "socks4a", "http"} {
		at := runServer(t, &Server{}, "tcp://127.0.0.1:0")
		tr := behind(t, scheme, scheme+"://"+at.String())
		tr.CutPair = func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
			return pairWithProxy(ctx, scheme, opts)
		}
		socktest.TestTransport(t, tr)
	}
}

// pairWithProxy is two ends with a proxy of their own between them, and what
// stops that at once.
func pairWithProxy(ctx context.Context, scheme string, opts anysock.Options) (a, b *anysock.Conn, stop func() error, err error) {
	at, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	s := &Server{}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), at) }()
	stop = func() error {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := s.Shutdown(now)
		return errors.Join(err, <-served)
	}
	ln, err := (&anysock.ListenConfig{Options: opts}).Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	defer ln.Close()
	if a, err = (&anysock.Dialer{Options: opts}).Dial(ctx, scheme+"://"+at.Addr().String()+",tcp://"+ln.Addr().String()); err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	if b, err = ln.AcceptContext(ctx); err != nil {
		return nil, nil, nil, errors.Join(err, a.Abort(), stop())
	}
	return a, b, stop, nil
}

// TestProxyOnUnixSocket: the hop can be anywhere.
func TestProxyOnUnixSocket(t *testing.T) {
	t.Parallel()
	at := "unix:" + filepath.Join(t.TempDir(), "s")
	runServer(t, &Server{}, at)
	ln, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := ",tcp://" + ln.Addr().String()
	c, err := dialChain(t, new(anysock.Dialer), "socks5+%s%s", at, target)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := acceptNow(t, ln)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accepted.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	readExactly(t, c, "hello")
	ln.Close()
	_, err = dialChain(t, new(anysock.Dialer), "socks5+%s%s", at, target)
	if e := failure(t, err); e.Kind != anysock.KindHop || !strings.Contains(err.Error(), "through socks5+"+at+":") {
		t.Errorf("%v (%v)", err, e.Kind)
	}
}
