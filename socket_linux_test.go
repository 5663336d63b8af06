//go:build !anysock_portable

package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// sockopt reads an option of a connection.
func sockopt(t testing.TB, c *anysock.Conn, level, name int) int {
	t.Helper()
	rc, err := c.SyscallConn()
	must(t, "SyscallConn", err)
	var v int
	var gerr error
	must(t, "Control", rc.Control(func(fd uintptr) { v, gerr = syscall.GetsockoptInt(int(fd), level, name) }))
	must(t, "getsockopt", gerr)
	return v
}

const ipBindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT, ip(7)

// TestConnectReplaysOptions: a host name with several addresses is tried in
// sequence, each with a descriptor made anew, and the one that connects has
// the options and the name that the first had.
func TestConnectReplaysOptions(t *testing.T) {
	ns := newNameServer(t, map[string]*host{"many.test": {
		four: []string{"127.0.0.2", "127.0.0.3", "127.0.0.1"},
	}})
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())

	var made []int // the descriptor of every connect(2)
	restore := sys.Inject(func(call sys.Call, fd int) error {
		if call == sys.CallConnect {
			made = append(made, fd)
		}
		return nil
	})
	defer restore()
	var events recorder
	s := mustSocket(t, "tcp")
	s.Resolver, s.Trace = ns.resolver(), events.trace
	must(t, "receive buffer", s.SetReceiveBuffer(40_000))
	must(t, "send buffer", s.SetSendBuffer(50_000))
	must(t, "bind no port", s.SetBindNoPort(true))
	must(t, "no delay", s.SetNoDelay(false))
	must(t, "keep-alive", s.SetKeepAlive(anysock.KeepAlive{Idle: 77 * time.Second, Interval: 1500 * time.Millisecond, Count: 4}))
	must(t, "interface", s.SetInterface("lo"))
	must(t, "bind", s.Bind("127.0.0.9:0"))
	c, err := s.Connect(soon(t), "many.test:"+port)
	must(t, "connect", err)
	defer func() { _ = c.Abort() }()

	if len(made) != 3 {
		t.Errorf("connect(2) was called for the descriptors %v, want three", made)
	}
	var tried []string
	for _, ev := range events.all(isOp(anysock.OpConnect)) {
		tried = append(tried, fmt.Sprintf("%s %v", ev.Peer, ev.Err == nil))
	}
	want := []string{"127.0.0.2:" + port + " false", "127.0.0.3:" + port + " false", "127.0.0.1:" + port + " true"}
	if !slices.Equal(tried, want) {
		t.Errorf("tried %v, want %v", tried, want)
	}
	if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.9" {
		t.Errorf("connected from %s, want the name that Bind gave", got)
	}
	for _, o := range []struct {
		name           string
		level, opt, is int
	}{
		{"SO_RCVBUF", syscall.SOL_SOCKET, syscall.SO_RCVBUF, 80_000}, // Linux doubles it, socket(7)
		{"SO_SNDBUF", syscall.SOL_SOCKET, syscall.SO_SNDBUF, 100_000},
		{"IP_BIND_ADDRESS_NO_PORT", syscall.IPPROTO_IP, ipBindAddressNoPort, 1},
		{"TCP_NODELAY", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 0},
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 77},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 2}, // rounded up
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 4},
	} {
		if v := sockopt(t, c, o.level, o.opt); v != o.is {
			t.Errorf("%s is %d, want %d", o.name, v, o.is)
		}
	}
}

// TestDefaultOptions: what a connection has when nothing is asked for, dialed
// and accepted.
func TestDefaultOptions(t *testing.T) {
	c, peer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	for _, end := range []*anysock.Conn{c, peer} {
		for _, o := range []struct {
			name           string
			level, opt, is int
		}{
			{"TCP_NODELAY", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
			{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 30},
			{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10},
			{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
			{"SO_PROTOCOL", syscall.SOL_SOCKET, syscall.SO_PROTOCOL, syscall.IPPROTO_TCP}, // not MPTCP
		} {
			if v := sockopt(t, end, o.level, o.opt); v != o.is {
				t.Errorf("%s is %d, want %d", o.name, v, o.is)
			}
		}
	}
}

// TestAddressOptionsReachTheSocket: what the address says is what the kernel
// is told, at both ends.
func TestAddressOptionsReachTheSocket(t *testing.T) {
	const options = "?rcvbuf=40000&sndbuf=50000&nodelay=0&keepidle=77s&keepinterval=5s&keepcount=2"
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0"+options)
	c := mustDial(t, &anysock.Dialer{}, urlOf(ln)+options+"&interface=lo&bind=127.0.0.5:0")
	if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.5" {
		t.Errorf("connected from %s", got)
	}
	for _, end := range []*anysock.Conn{c, mustAccept(t, ln)} {
		for name, v := range map[string][3]int{
			"SO_RCVBUF":     {syscall.SOL_SOCKET, syscall.SO_RCVBUF, 80_000},
			"SO_SNDBUF":     {syscall.SOL_SOCKET, syscall.SO_SNDBUF, 100_000},
			"TCP_NODELAY":   {syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 0},
			"TCP_KEEPIDLE":  {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 77},
			"TCP_KEEPINTVL": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 5},
			"TCP_KEEPCNT":   {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 2},
		} {
			if got := sockopt(t, end, v[0], v[1]); got != v[2] {
				t.Errorf("%s is %d, want %d", name, got, v[2])
			}
		}
	}
	off := mustDial(t, &anysock.Dialer{}, urlOf(ln)+"?keepalive=0")
	if v := sockopt(t, off, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); v != 0 {
		t.Errorf("keepalive=0: SO_KEEPALIVE is %d", v)
	}
}

// TestBacklogReachesKernel: backlog n admits n+1 connections, and the next
// one waits outside (docs/notes/backlog).
func TestBacklogReachesKernel(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		for _, n := range []int{1, 3, 10} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				here := addr
				if network, _, _ := strings.Cut(addr, ":"); network == "unix" {
					here += fmt.Sprint(n)
				}
				ln := mustListen(t, &anysock.ListenConfig{Backlog: n}, here)
				var queued []*anysock.Conn
				for range n + 1 {
					queued = append(queued, mustDial(t, &anysock.Dialer{}, urlOf(ln)))
				}
				_, err := (&anysock.Dialer{AttemptTimeout: 50 * time.Millisecond}).Dial(soon(t), urlOf(ln))
				wantErrorKind(t, fmt.Sprintf("connection %d", n+2), err, anysock.KindTimeout)

				// Those that were admitted are all there.
				for i, c := range queued {
					if _, err := c.Write([]byte{byte(i)}); err != nil {
						t.Fatal(err)
					}
				}
				for i := range queued {
					b := make([]byte, 1)
					if _, err := mustAccept(t, ln).ReadAtLeast(soon(t), b, 1); err != nil || int(b[0]) != i {
						t.Errorf("connection %d came as %d: %v", i, b[0], err)
					}
				}
			})
		}
	})
}

// TestConnectWaitsForFullUnixQueue: the kernel has no event for a place in a
// Unix listener's queue; Connect tries until there is one.
func TestConnectWaitsForFullUnixQueue(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{Backlog: 1}, "unix:"+t.TempDir()+"/s")
	for range 2 {
		mustDial(t, &anysock.Dialer{}, urlOf(ln))
	}
	type result struct {
		c   *anysock.Conn
		err error
	}
	connected := make(chan result, 1)
	go func() {
		c, err := anysock.Dial(soon(t), urlOf(ln))
		connected <- result{c, err}
	}()
	select {
	case r := <-connected:
		t.Fatalf("connected to a full queue: %v", r.err)
	case <-time.After(30 * time.Millisecond):
	}
	mustAccept(t, ln)
	r := await(t, "the third connection", connected)
	must(t, "connect", r.err)
	_ = r.c.Abort()

	// It has taken the place: the queue is full again. A context ends the wait.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := anysock.Dial(ctx, urlOf(ln))
	wantErrorKind(t, "a full queue", err, anysock.KindTimeout)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not match the context's error", err)
	}
}

// TestFailedConnectRestoresTheSocket: after a failed Connect the socket is as
// before, and a later one succeeds with the same options and name.
func TestFailedConnectRestoresTheSocket(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	s := mustSocket(t, "tcp")
	must(t, "receive buffer", s.SetReceiveBuffer(40_000))
	must(t, "bind", s.Bind("127.0.0.7:0"))
	for range 3 {
		_, err := s.Connect(soon(t), "127.0.0.1:"+port)
		e := errorOfKind(t, "connect", err, anysock.KindRefused)
		if len(e.Attempts) != 1 || !errors.Is(e.Attempts[0].Err, syscall.ECONNREFUSED) || e.Hint == "" {
			t.Errorf("%+v: want one attempt, refused, and a hint", e)
		}
		if st := s.State(); st != anysock.StateBound {
			t.Errorf("the state is %v", st)
		}
	}
	c, err := s.Connect(soon(t), ln.Addr().String())
	must(t, "connect", err)
	defer func() { _ = c.Abort() }()
	if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.7" {
		t.Errorf("connected from %s", got)
	}
	if v := sockopt(t, c, syscall.SOL_SOCKET, syscall.SO_RCVBUF); v != 80_000 {
		t.Errorf("SO_RCVBUF is %d", v)
	}
}

// TestFailedConnectCannotRestoreTheName: when the name cannot be given again,
// a later Connect must not go out without it.
func TestFailedConnectCannotRestoreTheName(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	s := mustSocket(t, "tcp")
	must(t, "bind", s.Bind("127.0.0.7:0"))
	restore := sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallBind {
			return syscall.EADDRINUSE
		}
		return nil
	})
	_, err := s.Connect(soon(t), "127.0.0.1:"+port)
	if err == nil {
		t.Error("connected to a port on which nobody listens")
	}
	c, err := s.Connect(soon(t), ln.Addr().String())
	restore()
	if err == nil {
		_ = c.Abort()
		t.Fatalf("connected from %s although the name 127.0.0.7 could not be given", c.LocalAddr())
	}
	c, err = s.Connect(soon(t), ln.Addr().String())
	must(t, "connect when the name can be given again", err)
	defer func() { _ = c.Abort() }()
	if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.7" {
		t.Errorf("connected from %s, want 127.0.0.7", got)
	}
}

// TestConnectErrorListsEveryAddress: all addresses in the error, in order,
// and the kind of the last.
func TestConnectErrorListsEveryAddress(t *testing.T) {
	ns := newNameServer(t, map[string]*host{"many.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})
	port := boundPort(t, "127.0.0.1")
	s := mustSocket(t, "tcp4")
	s.Resolver = ns.resolver()
	_, err := s.Connect(soon(t), "many.test:"+port)
	e := errorOfKind(t, "connect", err, anysock.KindRefused)
	if len(e.Attempts) != 2 || e.Attempts[0].Addr != "127.0.0.2:"+port || e.Attempts[1].Addr != "127.0.0.3:"+port {
		t.Errorf("attempts %+v", e.Attempts)
	}
	for _, part := range []string{"all 2 attempts", "127.0.0.2:" + port, "127.0.0.3:" + port, "refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if got := ns.queries(); !slices.Equal(got, []string{"A many.test"}) {
		t.Errorf("a tcp4 socket asked %v", got)
	}

	_, err = s.Connect(soon(t), "nobody.test:"+port)
	e = errorOfKind(t, "an unknown name", err, anysock.KindName)
	if e.Op != anysock.OpResolve || !strings.Contains(err.Error(), "nobody.test") {
		t.Errorf("the error is %v", err)
	}
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("%v does not lead to the resolver's error", err)
	}
	for _, bad := range []string{"", "many.test", "many.test:port", "[::1]", "127.0.0.1:99999"} {
		_, err := s.Connect(soon(t), bad)
		wantErrorKind(t, bad, err, anysock.KindAddress)
	}
	if st := s.State(); st != anysock.StateNew {
		t.Errorf("the state is %v", st)
	}
}

// TestSocketAttemptTimeout: AttemptTimeout bounds each address, so that a
// black hole in front does not keep the next from being tried.
func TestSocketAttemptTimeout(t *testing.T) {
	hole := blackHole(t, "127.0.0.2")
	_, port, _ := net.SplitHostPort(hole)
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.3:"+port)
	ns := newNameServer(t, map[string]*host{"two.test": {four: []string{"127.0.0.2", "127.0.0.3"}}})
	s := mustSocket(t, "tcp")
	s.Resolver, s.AttemptTimeout = ns.resolver(), 40*time.Millisecond
	c, err := s.Connect(soon(t), "two.test:"+port)
	must(t, "connect", err)
	defer func() { _ = c.Abort() }()
	if got := c.RemoteAddr().String(); got != ln.Addr().String() {
		t.Errorf("connected to %s", got)
	}
	mustAccept(t, ln)

	alone := mustSocket(t, "tcp")
	alone.AttemptTimeout = 40 * time.Millisecond
	_, err = alone.Connect(soon(t), hole)
	e := errorOfKind(t, "a black hole", err, anysock.KindTimeout)
	if !e.Timeout() || len(e.Attempts) != 1 || e.Attempts[0].Duration < 40*time.Millisecond {
		t.Errorf("%+v", e)
	}
}
