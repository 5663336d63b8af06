package tls

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/anysock/anysock"
)

func init() {
	// lc as the layer below sees it: something that stands over it.
	through := func(_ context.Context, below *anysock.Conn, _ anysock.Target) (net.Conn, error) {
		return onTop{below}, nil
	}
	anysock.Register(anysock.Transport{
		Scheme: "lc", Client: through, Server: through,
		Caps: func(below anysock.Caps, _ anysock.Target) anysock.Caps { return below | anysock.CapAbort },
	})
}

// onTop is a layer that changes nothing.
type onTop struct{ *anysock.Conn }

func (c onTop) Caps() anysock.Caps { return c.Conn.Caps() }

// Under lc both sides demand that the other agrees, by ALPN; without it nobody
// speaks it.
func TestLifecycleIsNegotiated(t *testing.T) {
	c := newCerts(t)
	lcServer := listen(t, "lc+tls+tcp://127.0.0.1:0"+c.serving())
	plainServer := listen(t, "tls://127.0.0.1:0"+c.serving())
	webServer := listen(t, "tls://127.0.0.1:0"+c.serving("alpn=h2"))

	a := dial(t, "lc+tls+tcp://"+lcServer.Addr().String()+c.trusting())
	b := accept(t, lcServer)
	write(t, a, "hello")
	expect(t, b, "hello")

	for name, ln := range map[string]*anysock.Listener{"plain": plainServer, "alpn=h2": webServer} {
		t.Run("lc client, server "+name, func(t *testing.T) {
			wantError(t, dialError(t, "lc+tls+tcp://"+ln.Addr().String()+c.trusting()), anysock.KindAuth, "lc+")
		})
	}
	for name, more := range map[string]string{"plain": "", "alpn=h2": "alpn=h2"} {
		t.Run("lc server, client "+name, func(t *testing.T) {
			wantError(t, dialError(t, "tls://"+lcServer.Addr().String()+c.trusting(more)), anysock.KindAuth, "lc+")
			// The server has handed nothing over, and serves those who agree.
			a := dial(t, "lc+tls+tcp://"+lcServer.Addr().String()+c.trusting())
			write(t, a, "next")
			expect(t, accept(t, lcServer), "next")
		})
	}
	for _, listening := range []bool{false, true} {
		var err error
		if listening {
			_, err = anysock.Listen(bounded(t), "lc+tls+tcp://127.0.0.1:0"+c.serving("alpn=x"))
		} else {
			err = dialError(t, "lc+tls+tcp://127.0.0.1:1"+c.trusting("alpn=x"))
		}
		wantError(t, err, anysock.KindAddress, "option alpn", "anysock-lc/1")
	}
}

// Against an implementation that knows nothing of lc the client fails, though
// that lets it in without a protocol; and plain clients never offer it.
func TestLifecycleWithStockServer(t *testing.T) {
	c := newCerts(t)
	addr := stockServer(t, &tls.Config{Certificates: []tls.Certificate{c.server.TLS}}, func(s *tls.Conn) error {
		_ = s.Handshake() // succeeds or is cut off: the client is the one that objects
		return nil
	})
	wantError(t, dialError(t, "lc+tls+tcp://"+addr+c.trusting()), anysock.KindAuth, "does not speak anysock-lc/1", "lc+")

	offers := make(chan []string, 1)
	addr = stockServer(t, &tls.Config{Certificates: []tls.Certificate{c.server.TLS}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		offers <- h.SupportedProtos
		return nil, nil
	}}, (*tls.Conn).Handshake)
	dial(t, "tls://"+addr+c.trusting())
	if offered := <-offers; len(offered) > 0 {
		t.Errorf("a plain client offers %q", offered)
	}
}
