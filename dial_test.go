package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
)

// TestDialAddresses: every way to write where a kernel socket goes.
func TestDialAddresses(t *testing.T) {
	dual := mustListen(t, &anysock.ListenConfig{}, "tcp://:0")
	_, port, _ := net.SplitHostPort(dual.Addr().String())
	path := t.TempDir() + "/s"
	file := mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
	name := fmt.Sprintf("unix:@anysock-test-%s", port)
	abstract := mustListen(t, &anysock.ListenConfig{}, name)
	for _, tt := range []struct {
		addr string
		ln   *anysock.Listener
		peer string
	}{
		{"127.0.0.1:" + port, dual, "127.0.0.1:" + port},
		{"[::1]:" + port, dual, "[::1]:" + port},
		{"localhost:" + port, dual, ":" + port},
		{"tcp://localhost:" + port, dual, ":" + port},
		{"tcp4://localhost:" + port, dual, "127.0.0.1:" + port},
		{"tcp6://[::1]:" + port, dual, "[::1]:" + port},
		{"tcp6://[::1%25lo]:" + port, dual, "[::1"},
		{"unix:" + path, file, path},
		{name, abstract, strings.TrimPrefix(name, "unix:")},
	} {
		t.Run(tt.addr, func(t *testing.T) {
			c := mustDial(t, &anysock.Dialer{}, tt.addr)
			peer := mustAccept(t, tt.ln)
			if got := c.RemoteAddr().String(); !strings.Contains(got, tt.peer) {
				t.Errorf("connected to %s, want %s", got, tt.peer)
			}
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			must(t, "CloseWrite", c.CloseWrite())
			if s := readAll(t, peer); s != "hello" {
				t.Errorf("the server read %q", s)
			}
			if c.State() != anysock.StateWriteEnded || peer.State() != anysock.StateReadEnded {
				t.Errorf("the states are %v and %v", c.State(), peer.State())
			}
		})
	}
}

// TestDialWildcardHost: no host, or the unspecified address, means this
// machine.
func TestDialWildcardHost(t *testing.T) {
	dual := mustListen(t, &anysock.ListenConfig{}, "tcp://:0")
	_, port, _ := net.SplitHostPort(dual.Addr().String())
	for _, tt := range []struct{ addr, from string }{
		{"tcp://:" + port, ""},
		{":" + port, ""},
		{"tcp4://:" + port, "127.0.0.1"},
		{"tcp6://:" + port, "::1"},
		{"tcp://0.0.0.0:" + port, "127.0.0.1"},
		{"tcp://[::]:" + port, "::1"},
		{"tcp://[::ffff:0.0.0.0]:" + port, "127.0.0.1"},
	} {
		t.Run(tt.addr, func(t *testing.T) {
			c, err := anysock.Dial(soon(t), tt.addr)
			must(t, "dial", err)
			defer func() { _ = c.Abort() }()
			peer := mustAccept(t, dual)
			host := peer.RemoteAddr().(*net.TCPAddr).IP
			if !host.IsLoopback() || tt.from != "" && host.String() != tt.from {
				t.Errorf("the server sees %s, want %s", host, tt.from)
			}
		})
	}
	// A server that takes one family only is reached as well.
	for _, listen := range []string{"tcp6://:0", "tcp4://:0", "tcp://[::1]:0", "tcp://127.0.0.1:0"} {
		ln := mustListen(t, &anysock.ListenConfig{}, listen)
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		c, err := anysock.Dial(soon(t), "tcp://:"+port)
		if err != nil {
			t.Errorf("a server on %s: %v", listen, err)
			continue
		}
		_ = c.Abort()
	}
}

// TestDialErrors: what cannot be dialed, and why.
func TestDialErrors(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	ns := newNameServer(t, map[string]*host{"empty.test": {}, "four.test": {four: []string{"127.0.0.1"}}})
	d := &anysock.Dialer{Resolver: ns.resolver()}
	for _, tt := range []struct {
		addr string
		kind anysock.Kind
		is   error
		says string
	}{
		{"", anysock.KindAddress, nil, "empty"},
		{"127.0.0.1", anysock.KindAddress, nil, "port"},
		{"tcp://127.0.0.1:99999", anysock.KindAddress, nil, "65535"},
		{"tcp://[::1:80", anysock.KindAddress, nil, "]"},
		{"nosuch://x:1", anysock.KindAddress, nil, "nosuch"},
		{"quic://127.0.0.1:1", anysock.KindAddress, nil, "no transport for quic"},
		{"tcp://127.0.0.1:" + port, anysock.KindRefused, syscall.ECONNREFUSED, "refused"},
		{"tcp://nobody.test:" + port, anysock.KindName, nil, "nobody.test"},
		{"tcp://empty.test:" + port, anysock.KindName, nil, "empty.test"},
		{"tcp6://four.test:" + port, anysock.KindName, nil, "four.test"},
		{"unix:" + t.TempDir() + "/none", anysock.KindRefused, syscall.ENOENT, "none"},
		{"unix:/" + strings.Repeat("x", 107), anysock.KindAddress, nil, "107"},
	} {
		c, err := d.Dial(soon(t), tt.addr)
		if err == nil {
			t.Errorf("dial %q succeeded", tt.addr)
			_ = c.Abort()
			continue
		}
		wantErrorKind(t, tt.addr, err, tt.kind)
		if tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("dial %q: %v does not match %v", tt.addr, err, tt.is)
		}
		if !strings.Contains(err.Error(), tt.says) {
			t.Errorf("dial %q: %q does not say %q", tt.addr, err, tt.says)
		}
	}
}

// TestDialContextArguments: package net's form takes package net's networks.
func TestDialContextArguments(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://:0")
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	path := t.TempDir() + "/s"
	file := mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
	var d anysock.Dialer
	for _, tt := range []struct {
		network, addr string
		ln            *anysock.Listener
	}{
		{"tcp", "127.0.0.1:" + port, ln},
		{"tcp", "[::1]:" + port, ln},
		{"tcp", "localhost:" + port, ln},
		{"tcp4", "127.0.0.1:" + port, ln},
		{"tcp4", "localhost:" + port, ln},
		{"tcp6", "[::1]:" + port, ln},
		{"unix", path, file},
	} {
		nc, err := d.DialContext(soon(t), tt.network, tt.addr)
		if err != nil {
			t.Errorf("%s %s: %v", tt.network, tt.addr, err)
			continue
		}
		if nc.RemoteAddr().Network() != strings.TrimRight(tt.network, "46") {
			t.Errorf("%s %s: the peer is of network %s", tt.network, tt.addr, nc.RemoteAddr().Network())
		}
		if _, ok := nc.(*anysock.Conn); !ok {
			t.Errorf("%s %s: a %T", tt.network, tt.addr, nc)
		}
		mustAccept(t, tt.ln)
		nc.Close()
	}
	for _, tt := range []struct{ network, addr string }{
		{"udp", "127.0.0.1:" + port},
		{"", "127.0.0.1:" + port},
		{"mem", "x"},
		{"tcp", "127.0.0.1"},
		{"tcp", "127.0.0.1:http"},
		{"tcp", "127.0.0.1:65536"},
		{"tcp4", "[::1]:" + port},
		{"tcp6", "127.0.0.1:" + port},
		{"unix", ""},
	} {
		nc, err := d.DialContext(soon(t), tt.network, tt.addr)
		if err == nil {
			t.Errorf("%q %q: connected to %v", tt.network, tt.addr, nc.RemoteAddr())
			nc.Close()
			continue
		}
		if nc != nil {
			t.Errorf("%q %q: a connection that is not nil comes with the error", tt.network, tt.addr)
		}
		wantErrorKind(t, tt.network+" "+tt.addr, err, anysock.KindAddress)
	}
}

// TestDialUnderHTTP: net/http's Transport dials with DialContext, keeps
// connections and gives them back.
func TestDialUnderHTTP(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil && r.URL.Path != "/cancelled" {
			t.Errorf("server: %v", err)
		}
		fmt.Fprintf(w, "%s %d", r.RemoteAddr, len(b))
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	var group anysock.Group
	d := &anysock.Dialer{Group: &group}
	tr := &http.Transport{DialContext: d.DialContext}
	client := &http.Client{Transport: tr}
	from := map[string]bool{}
	for _, size := range []int{0, 1, 1 << 20} {
		resp, err := client.Post("http://"+ln.Addr().String(), "", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		who, n, _ := strings.Cut(string(b), " ")
		if n != fmt.Sprint(size) {
			t.Errorf("the server got %s bytes, want %d", n, size)
		}
		from[who] = true
	}
	if len(from) != 1 {
		t.Errorf("the connection was not kept: %v", from)
	}
	// A cancelled request ends its connection, and only that.
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ln.Addr().String()+"/cancelled", neverReader{ctx})
	if err != nil {
		t.Fatal(err)
	}
	go cancel()
	if resp, err := client.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: %v", err)
		if err == nil {
			resp.Body.Close()
		}
	}
	tr.CloseIdleConnections()
	must(t, "Shutdown", srv.Shutdown(soon(t)))
	if err := await(t, "Serve", served); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	if _, err := group.Wait(soon(t)); err != nil {
		t.Errorf("the client's connections: %v", err)
	}
}

// A neverReader is a body that does not come.
type neverReader struct{ ctx context.Context }

func (r neverReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// TestDialOptionErrors: an option that nobody knows, or that means nothing
// here, is an error that points at it.
func TestDialOptionErrors(t *testing.T) {
	for _, tt := range []struct{ addr, at, says string }{
		{"tcp://127.0.0.1:1?tiemout=1s", "tiemout", "unknown option"},
		{"tcp://127.0.0.1:1?timeout=1s&x=2", "x=", "unknown option"},
		{"tcp://127.0.0.1:1?backlog=5", "backlog", "means nothing for dialing"},
		{"tcp://127.0.0.1:1?timeout=soon", "soon", "duration"},
		{"tcp://127.0.0.1:1?timeout=-1s", "-1s", "duration"},
		{"tcp://127.0.0.1:1?retry=many", "many", "whole number"},
		{"tcp://127.0.0.1:1?nodelay=maybe", "maybe", "0 or 1"},
		{"unix:/x?nodelay=1", "nodelay", "unknown option"},
		{"unix:/x?mode=0660", "mode", "means nothing for dialing"},
		{"quic://127.0.0.1:1", "quic", "no transport"},
	} {
		_, err := anysock.Dial(soon(t), tt.addr)
		wantPointer(t, err, tt.addr, tt.at, tt.says)
	}
	for _, tt := range []struct{ addr, at, says string }{
		{"tcp://127.0.0.1:0?bind=127.0.0.1:0", "bind=", "means nothing for listening"},
		{"tcp://127.0.0.1:0?backlog=-1", "-1", "whole number"},
		{"unix:/x?mode=999", "999", "octal"},
		{"unix:/x?mode=01777", "01777", "octal"},
		{"tcp://127.0.0.1:0?backlog=", "", ""},
	} {
		_, err := anysock.Listen(soon(t), tt.addr)
		wantPointer(t, err, tt.addr, tt.at, tt.says)
	}
}

// wantPointer checks that err is an AddressError at the given text.
func wantPointer(t testing.TB, err error, addr, at, says string) {
	t.Helper()
	var ae *anysock.AddressError
	if !errors.As(err, &ae) {
		t.Errorf("%s: %v, want an AddressError", addr, err)
		return
	}
	if err != error(ae) { //nolint:errorlint // Check returns it bare
		wantErrorKind(t, addr, err, anysock.KindAddress)
	}
	if !strings.HasPrefix(addr[ae.Offset:], at) {
		t.Errorf("%s: the error points at %q, want %q\n%s", addr, addr[ae.Offset:], at, ae.Caret())
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %q does not say %q", addr, err, says)
	}
}

// TestDialEndsBeforeItBegins: a context that is done already.
func TestDialEndsBeforeItBegins(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := anysock.Dial(ctx, urlOf(ln))
	wantErrorKind(t, "dial", err, anysock.KindCanceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not match context.Canceled", err)
	}
	_, err = anysock.Listen(ctx, "tcp://127.0.0.1:0")
	wantErrorKind(t, "listen", err, anysock.KindCanceled)
	s := mustSocket(t, "tcp")
	_, err = s.Connect(ctx, ln.Addr().String())
	wantErrorKind(t, "connect", err, anysock.KindCanceled)
	if st := s.State(); st != anysock.StateNew {
		t.Errorf("the state is %v", st)
	}
}

// TestConnOutlivesDialContext: the context bounds the dial, not what it made.
func TestConnOutlivesDialContext(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		ln := mustListen(t, &anysock.ListenConfig{}, addr)
		ctx, cancel := context.WithTimeout(t.Context(), tooLong)
		c, err := anysock.Dial(ctx, urlOf(ln))
		must(t, "dial", err)
		defer func() { _ = c.Abort() }()
		cancel()
		peer := mustAccept(t, ln)
		if _, err := c.Write([]byte("still here")); err != nil {
			t.Errorf("Write: %v", err)
		}
		b := make([]byte, 10)
		if _, err := peer.ReadAtLeast(soon(t), b, 10); err != nil {
			t.Errorf("Read: %v", err)
		}
	})
}

// TestDialRefusesSelf: a dial from the port it dials connects to itself by
// TCP's simultaneous open, and nobody listens there.
func TestDialRefusesSelf(t *testing.T) {
	// The kernel gave this port a moment ago; it is free again.
	s := mustSocket(t, "tcp")
	must(t, "bind", s.Bind("127.0.0.1:0"))
	name := s.LocalAddr().String()
	must(t, "close", s.Close())
	c, err := (&anysock.Dialer{Local: name}).Dial(soon(t), "tcp://"+name)
	if err == nil {
		_ = c.Abort()
		t.Fatalf("connected %s to %s", c.LocalAddr(), c.RemoteAddr())
	}
	wantErrorKind(t, "dial to itself", err, anysock.KindRefused)

	again := mustSocket(t, "tcp")
	must(t, "bind", again.Bind(name))
	_, err = again.Connect(soon(t), name)
	wantErrorKind(t, "connect to itself", err, anysock.KindRefused)
}

// TestDialLocal: where a dial comes from, and what cannot be that.
func TestDialLocal(t *testing.T) {
	dual := mustListen(t, &anysock.ListenConfig{}, "tcp://:0")
	_, port, _ := net.SplitHostPort(dual.Addr().String())
	for _, tt := range []struct{ local, to, from string }{
		{"127.0.0.4:0", "127.0.0.1", "127.0.0.4"},
		{"[::1]:0", "[::1]", "::1"},
		{":0", "127.0.0.1", "127.0.0.1"},
		{":0", "[::1]", "::1"},
		{"[::]:0", "127.0.0.1", "127.0.0.1"},
	} {
		c := mustDial(t, &anysock.Dialer{Local: tt.local}, "tcp://"+tt.to+":"+port)
		if got := mustAccept(t, dual).RemoteAddr().(*net.TCPAddr).IP.String(); got != tt.from {
			t.Errorf("from %s: the server sees %s, want %s", tt.local, got, tt.from)
		}
		_ = c.Abort()
	}
	for _, tt := range []struct {
		local, to string
		kind      anysock.Kind
	}{
		{"nonsense", "127.0.0.1", anysock.KindAddress},
		{"localhost:0", "127.0.0.1", anysock.KindAddress},
		{"203.0.113.7:0", "127.0.0.1", anysock.KindUnreachable}, // of nobody here (RFC 5737)
	} {
		_, err := (&anysock.Dialer{Local: tt.local}).Dial(soon(t), "tcp://"+tt.to+":"+port)
		wantErrorKind(t, tt.local, err, tt.kind)
	}
	// An address of the other family leaves nothing to try; the error says so.
	_, err := (&anysock.Dialer{Local: "127.0.0.1:0"}).Dial(soon(t), "tcp://[::1]:"+port)
	if err == nil || !strings.Contains(err.Error(), "address") {
		t.Errorf("an IPv6 address from an IPv4 one: %v", err)
	}
}
