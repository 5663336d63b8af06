// This file tests the data path: over the kernel's loopback, and over a pair
// of other kernel sockets that stand in for vsock's.

package vsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/socktest"
)

// TestConformance needs a kernel that connects a machine with itself.
func TestConformance(t *testing.T) {
	needsLoopback(t)
	socktest.TestTransport(t, socktest.Transport{
		Name: "vsock", Caps: caps,
		Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
			return lc.Listen(ctx, "vsock://1:0")
		},
		Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
			return d.Dial(ctx, "vsock://"+ln.Addr().String())
		},
	})
}

// TestRefusedOnLoopback: nobody listens.
func TestRefusedOnLoopback(t *testing.T) {
	needsLoopback(t)
	_, err := anysock.Dial(bounded(t), "vsock://1:4294967294")
	_ = as(t, err, anysock.KindRefused)
}

// standIns are two ends of what the transport hands over, on sockets that this
// kernel does connect.
func standIns(opts anysock.Options) (a, b *anysock.Conn, err error) {
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]*anysock.Conn
	for i, n := range p {
		fd, err := sys.Adopt(n)
		if err != nil {
			return nil, nil, err
		}
		conns[i] = anysock.Wrap(sys.NewNetConn(fd), opts)
	}
	return conns[0], conns[1], nil
}

// TestStreamIsAKernelSocket runs the conformance suite over what the transport
// hands over, a descriptor that the root drives itself.
func TestStreamIsAKernelSocket(t *testing.T) {
	socktest.TestTransport(t, socktest.Transport{
		Name: "stand-in", Caps: caps | anysock.CapCutDetect,
		Pair: func(_ context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) { return standIns(opts) },
	})
	a, b, err := standIns(anysock.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	if _, err := a.SyscallConn(); err != nil {
		t.Errorf("no descriptor: %v", err)
	}
	sel, err := anysock.NewSelector()
	if err != nil {
		t.Fatal(err)
	}
	defer sel.Close()
	if err := sel.Add(a, anysock.Readable); err != nil {
		t.Errorf("a Selector does not take it: %v", err)
	}
	if err := a.Abort(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("abort: %v", err)
	}
}

// TestAcceptOnStandIn: the listener hands over connections with both
// addresses, and its Close wakes Accept.
func TestAcceptOnStandIn(t *testing.T) {
	s, err := sys.Open(sys.Unix)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(sys.UnixAddr("@anysock-vsock-stand-in")); err != nil {
		t.Fatal(err)
	}
	fd, err := s.Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	l := sys.NetListener{FD: fd}
	defer l.Close()
	client, err := anysock.Dial(bounded(t), "unix:"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Abort()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server := anysock.Wrap(nc, anysock.Options{})
	defer server.Abort()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, []byte("hello")) {
		t.Errorf("%q, %v", got, err)
	}
	woken := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		woken <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err == nil {
		t.Error("accept returned a connection")
	}
}

// TestContextCutsAConnect: it returns at once and leaves no descriptor. A tcp
// listener with a full queue stands in for a machine that does not answer.
func TestContextCutsAConnect(t *testing.T) {
	loop := netip.MustParseAddr("127.0.0.1")
	open := func() *sys.Socket {
		s, err := sys.Open(sys.Inet4)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if err := s.Bind(sys.IPAddr(netip.AddrPortFrom(loop, 0))); err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listen(0) // admits one
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	connect := func() *sys.FD {
		fd, err := open().Connect(ln.LocalAddr())
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	first := connect()
	defer first.Close()
	if err := finish(bounded(t), first); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	second := connect()
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := finish(ctx, second); !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, got %v", err)
	}
	if err := second.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the descriptor is still open: %v", err)
	}
}
