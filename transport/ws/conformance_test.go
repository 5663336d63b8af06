// This file runs the conformance suite over each kind of carrier.

package ws

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	"github.com/anysock/anysock/socktest"
	_ "github.com/anysock/anysock/transport/tls" // wss
)

// What ws can do over a carrier that can do nothing, and over mem; over tcp: here.
const (
	ownCaps = anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline
	tcpCaps = ownCaps | anysock.CapCloseAck | anysock.CapBindSource
)

// here is caps without the acknowledgements that this platform does not tell of
// over tcp.
func here(caps anysock.Caps) anysock.Caps {
	tcp, err := anysock.AddressCaps(anysock.MustParseAddress("tcp://h:1"))
	if err != nil {
		panic(err)
	}
	return caps &^ (anysock.CapCloseAck &^ tcp)
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	var n atomic.Int64
	name := func() string { return strconv.FormatInt(n.Add(1), 10) }
	ca := testcert.New(t)
	cert := ca.Server(t)
	serving := "?cert=file:" + cert.CertFile + "&key=file:" + cert.KeyFile
	trusting := "?ca=file:" + ca.File
	for _, c := range []struct {
		name     string
		caps     anysock.Caps
		listen   func() string
		dial     func(addr string) string
		buffered int64
	}{
		{
			name: "ws+tcp", caps: here(tcpCaps),
			listen: func() string { return "ws://127.0.0.1:0/a/path?ping=5ms" },
			dial:   func(addr string) string { return "ws://" + addr + "/a/path?ping=7ms" },
		},
		{
			name: "ws+unix", caps: ownCaps,
			listen: func() string { return "ws+unix:" + filepath.Join(dir, name()) },
			dial:   func(addr string) string { return "ws+unix:" + addr },
		},
		{
			name: "ws+mem", caps: tcpCaps, buffered: 1 << 20,
			listen: func() string { return "ws+mem:conformance" + name() },
			dial:   func(addr string) string { return "ws+mem:" + addr },
		},
		{
			name: "wss", caps: here(tcpCaps),
			listen: func() string { return "wss://127.0.0.1:0/" + serving },
			dial:   func(addr string) string { return "wss://" + addr + "/" + trusting },
		},
		{
			name: "ws+tls+unix", caps: ownCaps,
			listen: func() string { return "ws+tls+unix:" + filepath.Join(dir, name()) + serving },
			dial:   func(addr string) string { return "ws+tls+unix:" + addr + trusting + "&sni=localhost" },
		},
		{
			name: "ws+ws+tcp", caps: here(tcpCaps),
			listen: func() string { return "ws+ws+tcp://127.0.0.1:0" },
			dial:   func(addr string) string { return "ws+ws+tcp://" + addr },
		},
	} {
		socktest.TestTransport(t, socktest.Transport{
			Name: c.name, Caps: c.caps, MaxBuffered: c.buffered,
			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
				return lc.Listen(ctx, c.listen())
			},
			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
				return d.Dial(ctx, c.dial(ln.Addr().String()))
			},
			CutPair: cutPair,
		})
	}
}

// cutPair makes a pair over tcp with a middle that can end both sides at once,
// as a proxy does that is stopped: with FINs, and without close frames.
func cutPair(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error) {
	ln, err := (&anysock.ListenConfig{Options: opts}).Listen(ctx, "ws://127.0.0.1:0/")
	if err != nil {
		return nil, nil, nil, err
	}
	defer ln.Close()
	m, err := newMiddle(ctx, ln.Addr().String())
	if err != nil {
		return nil, nil, nil, err
	}
	if a, err = (&anysock.Dialer{Options: opts}).Dial(ctx, "ws://"+m.ln.Addr().String()+"/"); err != nil {
		return nil, nil, nil, err
	}
	if b, err = ln.AcceptContext(ctx); err != nil {
		_ = a.Abort()
		return nil, nil, nil, err
	}
	return a, b, m.cut, nil
}

// A middle passes one connection on.
type middle struct {
	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newMiddle(ctx context.Context, target string) (*middle, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &middle{ln: ln}
	m.wg.Add(1)
	go m.run(ctx, target)
	return m, nil
}

func (m *middle) run(ctx context.Context, target string) {
	defer m.wg.Done()
	in, err := m.ln.Accept()
	m.ln.Close()
	if err != nil {
		return
	}
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		in.Close()
		return
	}
	m.mu.Lock()
	m.conns = []net.Conn{in, out}
	m.mu.Unlock()
	m.wg.Add(2)
	go m.pass(in, out)
	go m.pass(out, in)
}

func (m *middle) pass(from, to net.Conn) {
	defer m.wg.Done()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends both sides.
func (m *middle) cut() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
	}
	return nil
}
