package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

func mustSocket(t testing.TB, network string) *anysock.Socket {
	t.Helper()
	s, err := anysock.NewSocket(network)
	if err != nil {
		t.Fatalf("socket %s: %v", network, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestClassicalSession goes through the connection-oriented session by its
// own calls: a dual-stack server with backlog 10 and address reuse; a client
// that binds a port 0, connects by name, sends 250 bytes, waits at most 30 s,
// receives exactly 250, and disconnects.
func TestClassicalSession(t *testing.T) {
	var events recorder
	const size = 250

	server := mustSocket(t, "tcp")
	server.Trace = events.trace
	if st := server.State(); st != anysock.StateNew {
		t.Errorf("a new socket's state is %v", st)
	}
	must(t, "reuse address", server.SetReuseAddr(true))
	must(t, "bind", server.Bind("[::]:0"))
	if st := server.State(); st != anysock.StateBound {
		t.Errorf("after Bind the state is %v", st)
	}
	port := server.LocalAddr().(*net.TCPAddr).Port
	if port == 0 {
		t.Fatal("port 0 was not chosen at Bind")
	}
	ln, err := server.Listen(10)
	must(t, "listen", err)
	defer ln.Close()
	if st := server.State(); st != anysock.StateListening {
		t.Errorf("after Listen the state is %v", st)
	}
	if ln.ID() != server.ID() {
		t.Errorf("the Listener is number %d, its Socket was %d", ln.ID(), server.ID())
	}

	served := make(chan anysock.End, 1)
	go func() {
		c, err := ln.AcceptContext(soon(t))
		if err != nil {
			served <- anysock.End{Err: err}
			return
		}
		buf := make([]byte, size)
		for {
			n, err := c.ReadAtLeast(soon(t), buf, 1)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				_, err = c.Write(buf[:n])
			}
			if err != nil {
				t.Errorf("server: %v", err)
				break
			}
		}
		end, err := c.Disconnect(soon(t))
		if err != nil {
			t.Errorf("server's Disconnect: %v", err)
		}
		served <- end
	}()

	client := mustSocket(t, "tcp")
	client.Trace = events.trace
	must(t, "bind", client.Bind("[::]:0"))
	c, err := client.Connect(soon(t), fmt.Sprintf("localhost:%d", port))
	must(t, "connect", err)
	if st := client.State(); st != anysock.StateConnected {
		t.Errorf("after Connect the state is %v", st)
	}
	sent := strings.Repeat("anysock250", size/10)
	n, err := c.Write([]byte(sent))
	if n != size || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if r, err := c.Wait(ctx, anysock.Readable, size); err != nil || r&anysock.Readable == 0 {
		t.Fatalf("Wait = %v, %v", r, err)
	}
	buf := make([]byte, size)
	if n, err := c.ReadAtLeast(ctx, buf, size); n != size || err != nil || string(buf) != sent {
		t.Fatalf("ReadAtLeast = %d, %v", n, err)
	}
	must(t, "CloseWrite", c.CloseWrite())
	if st := c.State(); st != anysock.StateWriteEnded {
		t.Errorf("after CloseWrite the state is %v", st)
	}
	end, err := c.Disconnect(soon(t))
	must(t, "disconnect", err)
	if st := c.State(); st != anysock.StateClosed {
		t.Errorf("after Disconnect the state is %v", st)
	}
	theirs := await(t, "the server's end", served)
	for who, e := range map[string]anysock.End{"client": end, "server": theirs} {
		if e.How != anysock.Graceful || e.Sent != size || e.Received != size || e.Unacked != 0 || e.Drained != 0 {
			t.Errorf("%s's end: %v", who, e)
		}
	}
	if end.By != anysock.Us || theirs.By != anysock.Peer {
		t.Errorf("ended by %v and %v, want us and peer", end.By, theirs.By)
	}
	wantServer := []string{"setsockopt", "bind", "listen"}
	if ops := events.ops(server.ID()); !slices.Equal(ops, wantServer) {
		t.Errorf("the server's steps are %v, want %v", ops, wantServer)
	}
	wantClient := []string{"bind", "resolve", "connect", "write", "wait", "read", "shutdown", "disconnect", "end"}
	if ops := events.ops(client.ID()); !slices.Equal(ops, wantClient) {
		t.Errorf("the client's steps are %v, want %v", ops, wantClient)
	}
}

// TestContract07WrongOrder: a call that makes no sense in the socket's state
// is an error that says what is missing, and changes nothing.
func TestContract07WrongOrder(t *testing.T) {
	target := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0").Addr().String()
	const here = "127.0.0.1:0"

	// What brings a socket into a state.
	bound := func(t *testing.T, s *anysock.Socket) { must(t, "bind", s.Bind(here)) }
	listening := func(t *testing.T, s *anysock.Socket) {
		bound(t, s)
		ln, err := s.Listen(1)
		must(t, "listen", err)
		t.Cleanup(func() { ln.Close() })
	}
	connected := func(t *testing.T, s *anysock.Socket) {
		c, err := s.Connect(soon(t), target)
		must(t, "connect", err)
		t.Cleanup(func() { _ = c.Abort() })
	}
	closed := func(t *testing.T, s *anysock.Socket) { must(t, "close", s.Close()) }
	states := []struct {
		name  string
		bring func(*testing.T, *anysock.Socket)
		state anysock.State
	}{
		{"new", func(*testing.T, *anysock.Socket) {}, anysock.StateNew},
		{"bound", bound, anysock.StateBound},
		{"listening", listening, anysock.StateListening},
		{"connected", connected, anysock.StateConnected},
		{"closed", closed, anysock.StateClosed},
	}

	bind := func(s *anysock.Socket) error { return s.Bind(here) }
	listen := func(s *anysock.Socket) error { _, err := s.Listen(1); return err }
	connect := func(s *anysock.Socket) error { _, err := s.Connect(t.Context(), target); return err }
	options := map[string]func(*anysock.Socket) error{
		"reuse address":  func(s *anysock.Socket) error { return s.SetReuseAddr(true) },
		"reuse port":     func(s *anysock.Socket) error { return s.SetReusePort(true) },
		"receive buffer": func(s *anysock.Socket) error { return s.SetReceiveBuffer(1 << 16) },
		"send buffer":    func(s *anysock.Socket) error { return s.SetSendBuffer(1 << 16) },
		"interface":      func(s *anysock.Socket) error { return s.SetInterface("lo") },
		"v6 only":        func(s *anysock.Socket) error { return s.SetV6Only(true) },
		"bind no port":   func(s *anysock.Socket) error { return s.SetBindNoPort(true) },
		"no delay":       func(s *anysock.Socket) error { return s.SetNoDelay(true) },
		"keep-alive":     func(s *anysock.Socket) error { return s.SetKeepAlive(anysock.KeepAlive{}) },
	}
	type wrong struct {
		state, call string
		do          func(*anysock.Socket) error
		kind        anysock.Kind
		says        string
	}
	table := []wrong{
		{"new", "listen", listen, anysock.KindState, "call Bind first"},
		{"bound", "bind", bind, anysock.KindState, "bound already"},
		{"listening", "bind", bind, anysock.KindState, "listening"},
		{"listening", "listen", listen, anysock.KindState, "accept from its Listener"},
		{"listening", "connect", connect, anysock.KindState, "accept from its Listener"},
		{"connected", "bind", bind, anysock.KindState, "use its Conn"},
		{"connected", "listen", listen, anysock.KindState, "use its Conn"},
		{"connected", "connect", connect, anysock.KindState, "use its Conn"},
		{"closed", "bind", bind, anysock.KindClosed, "closed"},
		{"closed", "listen", listen, anysock.KindClosed, "closed"},
		{"closed", "connect", connect, anysock.KindClosed, "closed"},
	}
	for name, set := range options {
		table = append(table,
			wrong{"listening", name, set, anysock.KindState, "listening"},
			wrong{"connected", name, set, anysock.KindState, "connected"},
			wrong{"closed", name, set, anysock.KindClosed, "closed"})
	}
	for _, w := range table {
		t.Run(w.call+" when "+w.state, func(t *testing.T) {
			s := mustSocket(t, "tcp")
			i := slices.IndexFunc(states, func(x struct {
				name  string
				bring func(*testing.T, *anysock.Socket)
				state anysock.State
			},
			) bool {
				return x.name == w.state
			})
			states[i].bring(t, s)
			err := w.do(s)
			wantErrorKind(t, w.call, err, w.kind)
			if !strings.Contains(err.Error(), w.says) {
				t.Errorf("%q does not say %q", err, w.says)
			}
			if w.kind == anysock.KindClosed && !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v does not match net.ErrClosed", err)
			}
			if st := s.State(); st != states[i].state {
				t.Errorf("the state is %v afterwards, want %v", st, states[i].state)
			}
		})
	}

	t.Run("mode after bind", func(t *testing.T) {
		s := mustSocket(t, "unix")
		must(t, "bind", s.Bind(filepath.Join(t.TempDir(), "s")))
		wantErrorKind(t, "SetMode", s.SetMode(0o660), anysock.KindState)
	})
	t.Run("mode of tcp", func(t *testing.T) {
		err := mustSocket(t, "tcp").SetMode(0o660)
		wantErrorKind(t, "SetMode", err, anysock.KindUnsupported)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v does not match ErrUnsupported", err)
		}
	})
	t.Run("close again", func(t *testing.T) {
		for _, st := range states {
			s := mustSocket(t, "tcp")
			st.bring(t, s)
			must(t, "close", s.Close())
			must(t, "close again", s.Close())
		}
	})
	t.Run("closed listener", func(t *testing.T) {
		ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
		must(t, "close", ln.Close())
		must(t, "close again", ln.Close())
		_, err := ln.Accept()
		wantErrorKind(t, "Accept", err, anysock.KindClosed)
		wantErrorKind(t, "SetDeadline", ln.SetDeadline(time.Now()), anysock.KindClosed)
		if conns, err := ln.Drain(); len(conns) != 0 || err != nil {
			t.Errorf("Drain = %d connections, %v", len(conns), err)
		}
	})
}

func TestNewSocketUnknownNetwork(t *testing.T) {
	for _, network := range []string{"", "udp", "tcp5", "mem", "TCP"} {
		s, err := anysock.NewSocket(network)
		if s != nil {
			t.Errorf("NewSocket(%q) gave a socket", network)
		}
		e := errorOfKind(t, network, err, anysock.KindAddress)
		if e.Op != anysock.OpSocket || e.Hint == "" {
			t.Errorf("%+v: want the step and a hint", e)
		}
	}
}

func TestBindBadAddress(t *testing.T) {
	for _, tt := range []struct {
		network, addr string
		kind          anysock.Kind
		says          string
	}{
		{"tcp", "127.0.0.1", anysock.KindAddress, "missing port"},
		{"tcp", "::1:80", anysock.KindAddress, "too many colons"},
		{"tcp", "127.0.0.1:70000", anysock.KindAddress, "65535"},
		{"tcp", "127.0.0.1:http", anysock.KindAddress, "65535"},
		{"tcp", "localhost:0", anysock.KindAddress, "numeric"},
		{"tcp4", "[::1]:0", anysock.KindAddress, "tcp4"},
		{"tcp6", "127.0.0.1:0", anysock.KindAddress, "tcp6"},
		{"tcp", "203.0.113.7:0", anysock.KindUnreachable, "203.0.113.7"}, // of nobody here (RFC 5737)
		{"unix", "", anysock.KindAddress, "path"},
		{"unix", "@", anysock.KindAddress, "name"},
		{"unix", "a\x00b", anysock.KindAddress, "NUL"},
		{"unix", "/" + strings.Repeat("x", 107), anysock.KindAddress, "107"},
	} {
		s := mustSocket(t, tt.network)
		err := s.Bind(tt.addr)
		if err == nil {
			t.Errorf("Bind(%q) on %s succeeded", tt.addr, tt.network)
			continue
		}
		wantErrorKind(t, tt.addr, err, tt.kind)
		if !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Bind(%q): %q does not say %q", tt.addr, err, tt.says)
		}
		// Nothing has changed: the socket can be bound still.
		if tt.network != "unix" {
			if st := s.State(); st != anysock.StateNew {
				t.Errorf("after the failed Bind(%q) the state is %v", tt.addr, st)
			}
			must(t, "bind after a failed one", s.Bind(":0"))
		}
	}
}

func TestBindInUse(t *testing.T) {
	needOwnSockets(t, "reuses addresses, as it is told or not")
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	// Reusing addresses does not take a port that somebody listens on.
	for _, reuse := range []bool{false, true} {
		s := mustSocket(t, "tcp")
		must(t, "reuse", s.SetReuseAddr(reuse))
		err := s.Bind(ln.Addr().String())
		e := errorOfKind(t, "bind", err, anysock.KindInUse)
		if !strings.Contains(e.Hint, ln.Addr().String()) {
			t.Errorf("the hint is %q", e.Hint)
		}
	}
	_, err := anysock.Listen(soon(t), urlOf(ln))
	wantErrorKind(t, "listen", err, anysock.KindInUse)
}

// TestClientBindChoosesNetwork: an address with port 0 decides where a client
// comes from.
func TestClientBindChoosesNetwork(t *testing.T) {
	dual := mustListen(t, &anysock.ListenConfig{}, "tcp://:0")
	_, port, _ := net.SplitHostPort(dual.Addr().String())
	for _, tt := range []struct{ network, bind, to, from string }{
		{"tcp", "127.0.0.2:0", "127.0.0.1:", "127.0.0.2"},
		{"tcp4", "127.0.0.3:0", "127.0.0.1:", "127.0.0.3"},
		{"tcp4", ":0", "127.0.0.1:", "127.0.0.1"},
		{"tcp", "[::1]:0", "[::1]:", "::1"},
		{"tcp6", "[::1]:0", "[::1]:", "::1"},
		{"tcp", "[::]:0", "127.0.0.1:", "127.0.0.1"}, // a dual-stack name takes both
		{"tcp", "[::]:0", "[::1]:", "::1"},
		{"tcp", "0.0.0.0:0", "127.0.0.1:", "127.0.0.1"},
	} {
		t.Run(tt.network+" "+tt.bind+" to "+tt.to, func(t *testing.T) {
			s := mustSocket(t, tt.network)
			must(t, "bind", s.Bind(tt.bind))
			if port := s.LocalAddr().(*net.TCPAddr).Port; port == 0 {
				t.Error("Bind chose no port")
			}
			c, err := s.Connect(soon(t), tt.to+port)
			must(t, "connect", err)
			defer func() { _ = c.Abort() }()
			peer := mustAccept(t, dual)
			if got := peer.RemoteAddr().(*net.TCPAddr).IP.String(); got != tt.from {
				t.Errorf("the server sees %s, want %s", got, tt.from)
			}
			if peer.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("the server sees %s, we are %s", peer.RemoteAddr(), c.LocalAddr())
			}
		})
	}
	t.Run("the port of Bind is kept", func(t *testing.T) {
		s := mustSocket(t, "tcp")
		must(t, "bind", s.Bind("127.0.0.1:0"))
		name := s.LocalAddr().String()
		c, err := s.Connect(soon(t), "127.0.0.1:"+port)
		must(t, "connect", err)
		defer func() { _ = c.Abort() }()
		if c.LocalAddr().String() != name {
			t.Errorf("bound to %s, connected from %s", name, c.LocalAddr())
		}
	})
	t.Run("another family", func(t *testing.T) {
		s := mustSocket(t, "tcp")
		must(t, "bind", s.Bind("127.0.0.1:0"))
		_, err := s.Connect(soon(t), "[::1]:"+port)
		if err == nil {
			t.Fatal("an IPv4 name reached an IPv6 address")
		}
		// It is as it was, and goes on to an address of its family.
		c, err := s.Connect(soon(t), "127.0.0.1:"+port)
		must(t, "connect", err)
		_ = c.Abort()
	})
}

func TestDualStack(t *testing.T) {
	for _, tt := range []struct {
		network, bind  string
		v6only         bool
		four, six      bool
		wantListenName string
	}{
		{network: "tcp", bind: ":0", four: true, six: true, wantListenName: "[::]:"},
		{network: "tcp", bind: "[::]:0", four: true, six: true, wantListenName: "[::]:"},
		{network: "tcp", bind: "*:0", four: true, six: true, wantListenName: "[::]:"},
		{network: "tcp", bind: "[::]:0", v6only: true, six: true, wantListenName: "[::]:"},
		{network: "tcp6", bind: ":0", six: true, wantListenName: "[::]:"},
		{network: "tcp4", bind: ":0", four: true, wantListenName: "0.0.0.0:"},
		{network: "tcp", bind: "0.0.0.0:0", four: true, wantListenName: "0.0.0.0:"},
	} {
		t.Run(fmt.Sprintf("%s %s v6only=%v", tt.network, tt.bind, tt.v6only), func(t *testing.T) {
			s := mustSocket(t, tt.network)
			if tt.v6only {
				must(t, "v6only", s.SetV6Only(true))
			}
			must(t, "bind", s.Bind(tt.bind))
			ln, err := s.Listen(4)
			must(t, "listen", err)
			defer ln.Close()
			name := ln.Addr().String()
			if !strings.HasPrefix(name, tt.wantListenName) {
				t.Errorf("listening on %s, want %s...", name, tt.wantListenName)
			}
			_, port, _ := net.SplitHostPort(name)
			for host, want := range map[string]bool{"127.0.0.1": tt.four, "::1": tt.six} {
				c, err := anysock.Dial(soon(t), "tcp://"+net.JoinHostPort(host, port))
				if (err == nil) != want {
					t.Errorf("dial %s: %v, want it to work: %v", host, err, want)
				}
				if err != nil {
					wantErrorKind(t, host, err, anysock.KindRefused)
					continue
				}
				peer := mustAccept(t, ln)
				if got := peer.RemoteAddr().(*net.TCPAddr).IP.String(); got != host {
					t.Errorf("the server sees %s, want %s in its own form", got, host)
				}
				_ = c.Abort()
			}
		})
	}
}

// TestReuseAddr: a port whose earlier connection is in TIME_WAIT is refused
// without address reuse and given with it.
func TestReuseAddr(t *testing.T) {
	needOwnSockets(t, "reuses addresses, as it is told or not")
	first := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	name := first.Addr().String()
	c := mustDial(t, &anysock.Dialer{}, "tcp://"+name)
	server := mustAccept(t, first)
	// The server ends first, so that its side goes to TIME_WAIT.
	must(t, "CloseWrite", server.CloseWrite())
	if s := readAll(t, c); s != "" {
		t.Fatalf("read %q", s)
	}
	if _, err := c.Disconnect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Disconnect(soon(t)); err != nil {
		t.Fatal(err)
	}
	must(t, "close", first.Close())

	_, err := (&anysock.ListenConfig{NoReuseAddr: true}).Listen(soon(t), "tcp://"+name)
	wantErrorKind(t, "without reuse", err, anysock.KindInUse)
	_, err = anysock.Listen(soon(t), "tcp://"+name+"?reuseaddr=0")
	wantErrorKind(t, "with reuseaddr=0", err, anysock.KindInUse)
	again, err := anysock.Listen(soon(t), "tcp://"+name)
	must(t, "with reuse", err)
	again.Close()
}

// TestReusePort: two listeners share a port and both are given connections.
func TestReusePort(t *testing.T) {
	needOwnSockets(t, "has no SO_REUSEPORT")
	lc := &anysock.ListenConfig{ReusePort: true}
	a := mustListen(t, lc, "tcp://127.0.0.1:0")
	b := mustListen(t, lc, urlOf(a))
	accepted := make(chan *anysock.Listener)
	ctx, cancel := context.WithCancel(soon(t))
	stopped := make(chan struct{}, 2)
	for _, ln := range []*anysock.Listener{a, b} {
		go func() {
			defer func() { stopped <- struct{}{} }()
			for c, err := range ln.Conns(ctx) {
				if err != nil {
					t.Errorf("accept: %v", err)
					return
				}
				accepted <- ln
				_ = c.Abort()
			}
		}()
	}
	seen := map[*anysock.Listener]bool{}
	for range 500 { // the kernel chooses by a hash of the client's port
		c := mustDial(t, &anysock.Dialer{}, urlOf(a))
		seen[await(t, "an accepted connection", accepted)] = true
		_ = c.Abort()
		if len(seen) == 2 {
			break
		}
	}
	cancel()
	await(t, "one to stop", stopped)
	await(t, "the other to stop", stopped)
	if len(seen) != 2 {
		t.Error("500 connections all went to one listener")
	}
}

// TestSetInterface: bound to the loopback interface, a socket reaches
// loopback, and to an unknown one it is not bound at all.
func TestSetInterface(t *testing.T) {
	const loopback = "lo"
	s := mustSocket(t, "tcp")
	if err := s.SetInterface("no-such-if"); err == nil {
		t.Error("bound to an interface that does not exist")
	} else if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no binding to interfaces here")
	}
	must(t, "interface", s.SetInterface(loopback))
	must(t, "bind", s.Bind(":0"))
	ln, err := s.Listen(2)
	must(t, "listen", err)
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c := mustSocket(t, "tcp")
	must(t, "interface", c.SetInterface(loopback))
	conn, err := c.Connect(soon(t), "127.0.0.1:"+port)
	must(t, "connect", err)
	defer func() { _ = conn.Abort() }()
	mustAccept(t, ln)

	d := mustDial(t, &anysock.Dialer{Interface: loopback}, "tcp://127.0.0.1:"+port)
	mustAccept(t, ln)
	_ = d.Abort()
	_, err = (&anysock.Dialer{Interface: "no-such-if"}).Dial(soon(t), "tcp://127.0.0.1:"+port)
	if err == nil || !strings.Contains(err.Error(), "no-such-if") {
		t.Errorf("an unknown interface: %v", err)
	}
	_, err = anysock.Listen(soon(t), "tcp://:0?interface=no-such-if")
	if err == nil || !strings.Contains(err.Error(), "no-such-if") {
		t.Errorf("an unknown interface: %v", err)
	}
}

// TestSocketCloseEndsConnect: Close ends a Connect that waits.
func TestSocketCloseEndsConnect(t *testing.T) {
	hole := blackHole(t, "127.0.0.1")
	var events recorder
	s := mustSocket(t, "tcp")
	s.Trace = events.trace
	failed := make(chan error, 1)
	go func() {
		_, err := s.Connect(context.Background(), hole)
		failed <- err
	}()
	eventually(t, "the socket to connect", func() bool { return s.State() == anysock.StateConnecting })
	must(t, "close", s.Close())
	err := await(t, "Connect", failed)
	wantErrorKind(t, "connect", err, anysock.KindClosed)
	if st := s.State(); st != anysock.StateClosed {
		t.Errorf("the state is %v", st)
	}
}

// TestSocketCallsAtOnce: calls from several goroutines take turns; whatever
// the order, each has its effect or says why not, and nothing is left behind.
func TestSocketCallsAtOnce(t *testing.T) {
	target := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0").Addr().String()
	for round := range 60 {
		s := mustSocket(t, "tcp")
		var wg sync.WaitGroup
		var mu sync.Mutex
		var made []io.Closer
		keep := func(c io.Closer, err error) {
			if err != nil {
				var e *anysock.Error
				if !errors.As(err, &e) || e.Kind != anysock.KindState && e.Kind != anysock.KindClosed && e.Kind != anysock.KindCanceled {
					t.Errorf("%v", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, c)
		}
		calls := []func(){
			func() { keep(nopCloser{}, s.Bind("127.0.0.1:0")) },
			func() { keep(nopCloser{}, s.Bind("127.0.0.1:0")) },
			func() { keep(nopCloser{}, s.SetReuseAddr(true)) },
			func() { keep(nopCloser{}, s.SetNoDelay(false)) },
			func() { keep(nopCloser{}, s.SetKeepAlive(anysock.KeepAlive{Count: 5})) },
			func() { _, _, _ = s.State(), s.LocalAddr(), s.ID() },
			func() { ln, err := s.Listen(3); keep(ln, err) },
			func() { c, err := s.Connect(t.Context(), target); keep(abortCloser{c}, err) },
		}
		if round%3 == 0 {
			calls = append(calls, func() { keep(nopCloser{}, s.Close()) })
		}
		for _, call := range calls {
			wg.Go(call)
		}
		wg.Wait()
		must(t, "close", s.Close())
		used := 0
		for _, c := range made {
			if _, ok := c.(nopCloser); !ok {
				used++
			}
			c.Close()
		}
		if used > 1 {
			t.Errorf("one socket became %d", used)
		}
	}
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

type abortCloser struct{ c *anysock.Conn }

func (a abortCloser) Close() error { return a.c.Abort() }

// blackHole is an address of this machine that answers no SYN: a listener
// whose queue is full.
func blackHole(t testing.TB, host string) string {
	t.Helper()
	return fillQueue(t, net.JoinHostPort(host, "0"))
}

func fillQueue(t testing.TB, bind string) string {
	t.Helper()
	needOwnSockets(t, "chooses the backlog")
	s := mustSocket(t, "tcp")
	must(t, "bind", s.Bind(bind))
	ln, err := s.Listen(1)
	must(t, "listen", err)
	t.Cleanup(func() { ln.Close() })
	for range 2 { // backlog n admits n+1
		mustDial(t, &anysock.Dialer{}, urlOf(ln))
	}
	return ln.Addr().String()
}
