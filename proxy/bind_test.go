package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

const (
	bindAny   = "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"
	boundAt   = "\x05\x00\x00\x01\xc6\x33\x64\x01\x12\x34" // 198.51.100.1:4660
	calledBy  = "\x05\x00\x00\x01\xcb\x00\x71\x09\x00\x14" // 203.0.113.9:20
	bindAny4  = "\x04\x02\x00\x00\x00\x00\x00\x00\x00"
	boundAt4  = "\x00\x5a\x12\x34\xc6\x33\x64\x01"
	calledBy4 = "\x00\x5a\x00\x14\xcb\x00\x71\x09"
)

// listenThroughScript listens within the patience of a test.
func listenThroughScript(t *testing.T, format string, args ...any) (*anysock.Listener, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ln, err := anysock.Listen(ctx, fmt.Sprintf(format, args...))
	if ln != nil {
		t.Cleanup(func() { ln.Close() })
	}
	return ln, err
}

// acceptNow accepts within the patience of a test.
func acceptNow(t *testing.T, ln *anysock.Listener) (*anysock.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := ln.AcceptContext(ctx)
	if c != nil {
		t.Cleanup(func() { _ = c.Abort() })
	}
	return c, err
}

func TestBindAccepts(t *testing.T) {
	t.Setenv("PROXY_TEST_PASS", "s3cret")
	const name = "\x06server"
	for _, c := range []struct {
		name, hop, option, next string
		ask                     []step
		bound                   string
		call                    string
		caller                  string
	}{
		{name: "socks5", hop: "socks5://", next: "tcp://:0", ask: []step{{greetPlain, "\x05\x00"}, {bindAny, boundAt}}, bound: "198.51.100.1:4660", call: calledBy, caller: "203.0.113.9:20"},
		{name: "socks4", hop: "socks4://", next: "tcp://:0", ask: []step{{bindAny4, boundAt4}}, bound: "198.51.100.1:4660", call: calledBy4, caller: "203.0.113.9:20"},
		{name: "socks4a and a name", hop: "socks4a://ann@", next: "tcp://:0?peer=server", ask: []step{{"\x04\x02\x00\x00\x00\x00\x00\x01ann\x00server\x00", boundAt4}}, bound: "198.51.100.1:4660", call: calledBy4, caller: "203.0.113.9:20"},
		{name: "peer by name", hop: "socks5://", next: "tcp://:0?peer=server", ask: []step{{greetPlain, "\x05\x00"}, {"\x05\x02\x00\x03" + name + "\x00\x00", boundAt}}, bound: "198.51.100.1:4660", call: calledBy, caller: "203.0.113.9:20"},
		{name: "peer with port", hop: "socks5://", next: "tcp://:0?peer=203.0.113.9:20", ask: []step{{greetPlain, "\x05\x00"}, {"\x05\x02\x00\x01\xcb\x00\x71\x09\x00\x14", boundAt}}, bound: "198.51.100.1:4660", call: calledBy, caller: "203.0.113.9:20"},
		{name: "peer of IPv6", hop: "socks5://", next: "tcp://:0?peer=::1", ask: []step{{greetPlain, "\x05\x00"}, {"\x05\x02\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x00", boundAt}}, bound: "198.51.100.1:4660", call: "\x05\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x14", caller: "[::1]:20"},
		{name: "password", hop: "socks5://ann@", option: "?pass=env:PROXY_TEST_PASS", next: "tcp://:0", ask: []step{{greetPassword, "\x05\x02"}, {"\x01\x03ann\x06s3cret", "\x01\x00"}, {bindAny, boundAt}}, bound: "198.51.100.1:4660", call: calledBy, caller: "203.0.113.9:20"},
		{name: "unspecified is the proxy's own", hop: "socks5://", next: "tcp://:0", ask: []step{{greetPlain, "\x05\x00"}, {bindAny, "\x05\x00\x00\x01\x00\x00\x00\x00\x12\x34"}}, bound: "127.0.0.1:4660", call: calledBy, caller: "203.0.113.9:20"},
		{name: "names", hop: "socks5://", next: "tcp://:0", ask: []step{{greetPlain, "\x05\x00"}, {bindAny, "\x05\x00\x00\x03\x06server\x12\x34"}}, bound: "server:4660", call: "\x05\x00\x00\x03\x03a\nb\x00\x14", caller: `"a\nb":20`},
	} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/slow=%v", c.name, slow), func(t *testing.T) {
				p := newScript(t, &scriptedProxy{steps: append(c.ask, step{"", c.call + "hello"}), slow: slow})
				ln, err := listenThroughScript(t, "%s%s%s,%s", c.hop, p.hostPort(), c.option, c.next)
				if err != nil {
					t.Fatal(err)
				}
				if got := ln.Addr().String(); got != c.bound || ln.Addr().Network() != "tcp" {
					t.Errorf("bound to %s, want %s", got, c.bound)
				}
				conn, err := acceptNow(t, ln)
				if err != nil {
					t.Fatal(err)
				}
				if got := conn.RemoteAddr().String(); got != c.caller {
					t.Errorf("called by %s, want %s", got, c.caller)
				}
				readExactly(t, conn, "hello")
				if _, err := conn.SyscallConn(); err != nil {
					t.Error(err)
				}
				_, err = acceptNow(t, ln)
				if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "accepts one connection") {
					t.Errorf("accepting once more: %v", err)
				}
				if err := ln.Close(); err != nil {
					t.Error(err)
				}
				if _, err := io.WriteString(conn, "and back"); err != nil {
					t.Error(err)
				}
				if end, err := conn.Disconnect(context.Background()); err != nil || !end.How.Complete() || conn.Caps().Has(anysock.CapCloseAck) != (end.AckedBy == anysock.AckedKernel) {
					t.Errorf("%v, %v", end, err)
				}
				if got := p.heardBeyond(); got != "and back" {
					t.Errorf("the caller heard %q", got)
				}
			})
		}
	}
}

func TestBindRefused(t *testing.T) {
	for _, c := range []struct {
		hop   string
		steps []step
		code  int
		hint  string
	}{
		{"socks5", []step{{greetPlain, "\x05\x00"}, {bindAny, "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"}}, 7, "no BIND"},
		{"socks5", []step{{greetPlain, "\x05\x00"}, {bindAny, "\x05\x02"}}, 2, "rule"},
		{"socks5", []step{{greetPlain, "\x05\x00"}, {bindAny, "\x05\x01"}}, 1, "log"},
		{"socks4", []step{{bindAny4, "\x00\x5b"}}, 91, "log"},
	} {
		p := newScript(t, &scriptedProxy{steps: c.steps, after: func(net.Conn) {}})
		_, err := listenThroughScript(t, "%s://%s,tcp://:0", c.hop, p.hostPort())
		e := failure(t, err)
		var r *RefusalError
		if e.Kind != anysock.KindHop || e.Op != anysock.OpListen || !strings.Contains(e.Hint, c.hint) || !errors.As(err, &r) || r.Code != c.code {
			t.Errorf("%v (%v, step %s, hint %q, %+v)", err, e.Kind, e.Op, e.Hint, r)
		}
	}
}

// TestBindGivenUp: the proxy's second answer can be a refusal, for good.
func TestBindGivenUp(t *testing.T) {
	for _, last := range []string{"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x00\x00", ""} {
		p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {bindAny, boundAt + last}}, after: func(net.Conn) {}})
		ln, err := listenThroughScript(t, "socks5://%s,tcp://:0", p.hostPort())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, err = acceptNow(t, ln)
			if e := failure(t, err); e.Kind != anysock.KindHop || errors.Is(err, net.ErrClosed) || e.Hint == "" {
				t.Errorf("%q: %v (%v)", last, err, e.Kind)
			}
		}
	}
}

// TestBindDeadline: a deadline that passes, in the middle of the second answer
// too, leaves the listener usable.
func TestBindDeadline(t *testing.T) {
	for cut := range len(calledBy) {
		rest := make(chan struct{})
		p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {bindAny, boundAt + calledBy[:cut]}}, after: func(c net.Conn) {
			<-rest
			_, _ = io.WriteString(c, calledBy[cut:]+"hello")
			_, _ = io.Copy(io.Discard, c)
		}})
		ln, err := listenThroughScript(t, "socks5://%s,tcp://:0", p.hostPort())
		if err != nil {
			t.Fatal(err)
		}
		if err := ln.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("cut %d: %v", cut, err)
		}
		if err := ln.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		if _, err := ln.AcceptContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut %d: %v", cut, err)
		}
		cancel()
		close(rest)
		conn, err := acceptNow(t, ln)
		if err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		readExactly(t, conn, "hello")
		if got := conn.RemoteAddr().String(); got != "203.0.113.9:20" {
			t.Errorf("cut %d: called by %s", cut, got)
		}
		// The listener's deadline is not the connection's.
		if err := ln.SetDeadline(time.Now()); err != nil {
			t.Error(err)
		}
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(context.Background(), 5*time.Millisecond)
		if _, err := conn.ReadContext(ctx, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut %d: reading: %v", cut, err)
		}
		cancel()
	}
}

// TestBindDeadlineIsTheListenersOwn: one that has not passed when the caller
// comes does not count for the connection.
func TestBindDeadlineIsTheListenersOwn(t *testing.T) {
	t.Parallel()
	p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {bindAny, boundAt + calledBy}}})
	ln, err := listenThroughScript(t, "socks5://%s,tcp://:0", p.hostPort())
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Second)
	if err := ln.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	conn, err := acceptNow(t, ln)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(100*time.Millisecond))
	defer cancel()
	if _, err := conn.ReadContext(ctx, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading: %v", err)
	}
}

// TestBindClose: closing wakes who accepts, and ends the connection to the
// proxy.
func TestBindClose(t *testing.T) {
	gone := make(chan error, 1)
	p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {bindAny, boundAt}}, after: func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		gone <- err
	}})
	ln, err := listenThroughScript(t, "socks5://%s,tcp://:0", p.hostPort())
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		accepted <- err
	}()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting: %v", err)
	}
	if err := <-gone; err == nil {
		t.Error("the proxy read a byte")
	}
	if err := ln.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// TestBindTurnsStrangersAway: a proxy that does not look at who calls.
func TestBindTurnsStrangersAway(t *testing.T) {
	p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {"\x05\x02\x00\x01\xcb\x00\x71\x01\x00\x00", boundAt + calledBy}}})
	ln, err := listenThroughScript(t, "socks5://%s,tcp://:0?peer=203.0.113.1", p.hostPort())
	if err != nil {
		t.Fatal(err)
	}
	_, err = acceptNow(t, ln)
	if e := failure(t, err); e.Kind != anysock.KindHop || !strings.Contains(err.Error(), "203.0.113.9:20") || !strings.Contains(err.Error(), "peer=203.0.113.1") {
		t.Errorf("%v (%v)", err, e.Kind)
	}
}

func TestBindAddress(t *testing.T) {
	for _, c := range []struct{ hop, next, text, hint string }{
		{"socks5", "tcp://:80", "the proxy chooses where it listens", "tcp://:0"},
		{"socks5", "tcp://db:0", "the proxy chooses where it listens", "peer="},
		{"socks5", "unix:/run/x", "cannot reach unix", ""},
		{"socks5", "tcp://:0?peer=a%20b", "the value of peer must be a host", ""},
		{"socks5", "tcp://:0?peer=a:b:c", "the value of peer must be a host", ""},
		{"socks4", "tcp://:0?peer=[::1]:20", "IPv4 alone", ""},
		{"socks5", "tcp6://:0?peer=server", "whatever family", ""},
		{"http", "tcp://:0", "listening through a http hop", ""},
	} {
		p := newScript(t, &scriptedProxy{})
		_, err := listenThroughScript(t, "%s://%s,%s", c.hop, p.hostPort(), c.next)
		if e := failure(t, err); !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s,%s: %v (hint %q)", c.hop, c.next, err, e.Hint)
		}
		if heard := p.heardBeyond(); heard != "" {
			t.Errorf("%s,%s: the proxy heard %q", c.hop, c.next, heard)
		}
	}
}
