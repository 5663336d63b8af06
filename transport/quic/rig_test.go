// This file holds what the tests work with: addresses with certificates of
// their own, and connected pairs.

package quic

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
)

// A rig has the certificates of a test.
type rig struct {
	t    testing.TB
	ca   *testcert.Authority
	cert testcert.Certificate
}

func newRig(t testing.TB) rig {
	ca := testcert.New(t)
	return rig{t, ca, ca.Server(t)}
}

// listenAt is an address to listen on; options begin with &.
func (r rig) listenAt(options string) string {
	return "quic://127.0.0.1:0?cert=file:" + r.cert.CertFile + "&key=file:" + r.cert.KeyFile + options
}

// dialTo is an address to dial.
func (r rig) dialTo(to net.Addr, options string) string {
	return "quic://" + to.String() + "?ca=file:" + r.ca.File + options
}

// listen listens, until the test's end.
func (r rig) listen(options string) *anysock.Listener {
	r.t.Helper()
	ln, err := anysock.Listen(context.Background(), r.listenAt(options))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ln.Close() })
	return ln
}

// captured are the listeners of addresses svc:, which are those of quic with
// the inside to look at.
var captured = make(chan *listener, 1)

func init() {
	anysock.Register(anysock.Transport{
		Scheme: "svc", Options: options,
		Listen: func(ctx context.Context, lc *anysock.ListenConfig, t anysock.Target) (anysock.DeadlineListener, error) {
			t.Hop.Host, t.Hop.Port = "127.0.0.1", "0" // a name has neither
			dl, err := listen(ctx, lc, t)
			if err == nil {
				captured <- dl.(*listener)
			}
			return dl, err
		},
	})
}

// listenInside is listen, and shows the inside of the listener.
func (r rig) listenInside() (*anysock.Listener, *listener) {
	r.t.Helper()
	ln, err := anysock.Listen(context.Background(), "svc:x?"+strings.SplitN(r.listenAt(""), "?", 2)[1])
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ln.Close() })
	return ln, <-captured
}

// bound is a context for one test.
func bound(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// pair connects through to, which is where the listener is seen.
func (r rig) pair(ctx context.Context, ln *anysock.Listener, to net.Addr, options string) (a, b *anysock.Conn) {
	r.t.Helper()
	a, err := anysock.Dial(ctx, r.dialTo(to, options))
	if err != nil {
		r.t.Fatal(err)
	}
	b, err = ln.AcceptContext(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = a.Abort()
		_ = b.Abort()
	})
	return a, b
}

// foreignServer is a bare QUIC listener of the library's.
func (r rig) foreignServer(conf *quicgo.Config, protocols ...string) *quicgo.Listener {
	r.t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	tr := &quicgo.Transport{Conn: pc}
	ql, err := tr.Listen(&tls.Config{Certificates: []tls.Certificate{r.cert.TLS}, NextProtos: protocols, MinVersion: tls.VersionTLS13}, conf)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		ql.Close()
		tr.Close()
		pc.Close()
	})
	return ql
}

// bareTransport is the library's on a socket of its own, until the test's end.
func (r rig) bareTransport() *quicgo.Transport {
	r.t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	tr := &quicgo.Transport{Conn: pc}
	r.t.Cleanup(func() {
		tr.Close()
		pc.Close()
	})
	return tr
}

func udpOf(t testing.TB, a net.Addr) *net.UDPAddr {
	t.Helper()
	udp, err := net.ResolveUDPAddr("udp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	return udp
}

// foreignClient is a bare QUIC connection of the library's.
func (r rig) foreignClient(ctx context.Context, to net.Addr, protocols ...string) (*quicgo.Conn, error) {
	r.t.Helper()
	conf := clientConfig(r, protocols...)
	return r.bareTransport().Dial(ctx, udpOf(r.t, to), conf, &quicgo.Config{})
}

// clientConfig is a bare client's; without protocols it is ours.
func clientConfig(r rig, protocols ...string) *tls.Config {
	if protocols == nil {
		protocols = []string{Protocol}
	}
	return &tls.Config{RootCAs: r.ca.Pool, ServerName: "127.0.0.1", NextProtos: protocols, MinVersion: tls.VersionTLS13}
}
