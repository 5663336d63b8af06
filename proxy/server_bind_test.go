// This file tests the server's BIND.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// call connects to a bound address from a loopback address.
func call(t testing.TB, to endpoint, local string) (*anysock.Conn, error) {
	t.Helper()
	d := anysock.Dialer{Local: local + ":0"}
	c, err := d.Dial(context.Background(), "tcp://"+to.String())
	if c != nil {
		t.Cleanup(func() { _ = c.Abort() })
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// The server calls back, both talk, and both end in order.
func TestBind(t *testing.T) {
	st := newStation(t, &Server{})
	caller := ip("127.0.0.1", 20)
	for _, version := range []int{5, 4} {
		t.Run(fmt.Sprint("socks", version), func(t *testing.T) {
			c := st.dial()
			src := connSource{context.Background(), c}
			var bound endpoint
			if version == 5 {
				say(t, c, socks5(commandBind, caller)+"early", 0)
				var r reply5
				if r, bound = answer5(t, c); r != replySucceeded {
					t.Fatal(r)
				}
			} else {
				say(t, c, socks4(commandBind, caller)+"early", 0)
				r, b, err := readReply4(src)
				if bound = b; err != nil || r != reply4Granted {
					t.Fatal(r, err)
				}
			}
			if bound.ip != netip.MustParseAddr("127.0.0.1") || bound.port == 0 {
				t.Fatalf("bound to %v", bound)
			}
			p, err := call(t, bound, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			var by endpoint
			if version == 5 {
				var r reply5
				if r, by = reply5Of(t, c); r != replySucceeded {
					t.Fatal(r)
				}
			} else {
				_, by, err = readReply4(src)
				if err != nil {
					t.Fatal(err)
				}
			}
			if by.String() != p.LocalAddr().String() {
				t.Errorf("the second reply names %v, and %v has called", by, p.LocalAddr())
			}
			// What the client sent behind its request came first.
			readExactly(t, p, "early")
			say(t, p, "hello", 0)
			_ = p.CloseWrite()
			if got := readAll(t, c); got != "hello" {
				t.Errorf("%q", got)
			}
			// Exactly one is accepted.
			if second, err := call(t, bound, "127.0.0.1"); err == nil {
				t.Errorf("%v was accepted too", second.LocalAddr())
			}
			say(t, c, "reply", 0)
			_ = c.CloseWrite()
			if got := readAll(t, p); got != "reply" {
				t.Errorf("%q", got)
			}
			p.Close()
			c.Close()
			r := st.record()
			if r.How != anysock.Graceful || r.By != relay.Outbound || r.Command != "BIND" || r.Target != caller.String() || r.ToInbound.Bytes != 5 || r.ToOutbound.Bytes != 10 {
				t.Errorf("%v", r)
			}
		})
	}
}

// Somebody else who calls is reset, and does not use up the place.
func TestBindWrongCaller(t *testing.T) {
	needsLoopbackNet(t)
	dns := newFakeDNS(t, map[string][][]string{"caller.test": {{"127.0.0.9", "127.0.0.2"}}})
	st := newStation(t, &Server{Rules: *rulesOf(t, "deny to=127.0.0.9"), Dialer: anysock.Dialer{Resolver: dns.resolver()}})
	for _, caller := range []endpoint{ip("127.0.0.2", 0), target(t, "caller.test", 0), ip("::ffff:127.0.0.2", 0)} {
		c := st.dial()
		say(t, c, socks5(commandBind, caller), 0)
		r, bound := answer5(t, c)
		if r != replySucceeded {
			t.Fatal(r)
		}
		for _, wrong := range []string{"127.0.0.1", "127.0.0.3", "127.0.0.9", "127.0.0.1"} {
			p, err := call(t, bound, wrong)
			if err == nil {
				wantReset(t, p)
			}
		}
		p, err := call(t, bound, "127.0.0.2")
		if err != nil {
			t.Fatal(err)
		}
		if r, by := reply5Of(t, c); r != replySucceeded || by.String() != p.LocalAddr().String() {
			t.Errorf("%v by %v", r, by)
		}
		say(t, p, "hello", 0)
		readExactly(t, c, "hello")
		_ = c.Abort()
		wantReset(t, p)
		st.record()
	}
}

func TestBindRefusals(t *testing.T) {
	dns := newFakeDNS(t, map[string][][]string{"internal.test": {{"127.0.0.1"}}})
	elsewhereServer := func(rules ...string) *Server {
		return remote(&Server{Rules: *rulesOf(t, rules...), Dialer: anysock.Dialer{Resolver: dns.resolver()}})
	}
	for _, c := range []struct {
		name string
		s    *Server
		who  endpoint
		want reply5
	}{
		{"anybody", &Server{}, endpoint{}, 2},
		{"anybody, though all is allowed", &Server{Rules: *rulesOf(t, "allow all")}, endpoint{}, 2},
		{"anybody, by name", &Server{}, ip("::", 0), 2},
		{"denied", &Server{Rules: *rulesOf(t, "deny command=bind")}, ip("127.0.0.1", 0), 2},
		{"internal", elsewhereServer(), ip("127.0.0.1", 0), 2},
		{"internal by name", elsewhereServer(), target(t, "internal.test", 0), 2},
		{"no such name", elsewhereServer(), target(t, "nosuch.test", 0), 4},
		{"127.1", &Server{}, target(t, "127.1", 0), 2},
		{"through hops", &Server{Via: anysock.MustParseAddress("socks5://127.0.0.1:1")}, ip("127.0.0.1", 0), 7},
		{"address that is not ours", &Server{BindAddress: netip.MustParseAddr("192.0.2.1")}, ip("127.0.0.1", 0), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newStation(t, c.s)
			conn := st.dial()
			say(t, conn, socks5(commandBind, c.who), 0)
			if r, _ := answer5(t, conn); r != c.want {
				t.Errorf("reply %v, want %v", r, c.want)
			}
			readAll(t, conn)
			conn.Close()
			if r := st.record(); r.How != anysock.Refused || r.Command != "BIND" || r.Reply.Code != int(c.want) {
				t.Errorf("%v", r)
			}
		})
	}
}

// Anybody may call where a rule says so, but for those whom the rules deny.
func TestBindAnybody(t *testing.T) {
	needsLoopbackNet(t)
	st := newStation(t, &Server{Rules: *rulesOf(t, "deny to=127.0.0.3", "allow command=bind")})
	c := st.dial()
	say(t, c, socks5(commandBind, endpoint{}), 0)
	r, bound := answer5(t, c)
	if r != replySucceeded {
		t.Fatal(r)
	}
	if p, err := call(t, bound, "127.0.0.3"); err == nil {
		wantReset(t, p)
	}
	p, err := call(t, bound, "127.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	if r, by := reply5Of(t, c); r != replySucceeded || by.String() != p.LocalAddr().String() {
		t.Errorf("%v by %v", r, by)
	}
}

// Nobody calls: the second reply says so after BindTimeout.
func TestBindTimeout(t *testing.T) {
	st := newStation(t, &Server{BindTimeout: 100 * time.Millisecond, Handshake: 50 * time.Millisecond})
	c := st.dial()
	say(t, c, socks5(commandBind, ip("127.0.0.1", 0)), 0)
	r, bound := answer5(t, c)
	if r != replySucceeded {
		t.Fatal(r)
	}
	if r, _ := reply5Of(t, c); r != replyTTLExpired {
		t.Errorf("the second reply is %v", r)
	}
	readAll(t, c)
	c.Close()
	rec := st.record()
	wantRefused(t, rec, relay.Outbound, 6)
	if !errors.Is(rec.Err, errNobodyCalled) {
		t.Errorf("%v", rec)
	}
	if p, err := call(t, bound, "127.0.0.1"); err == nil {
		t.Errorf("%v was accepted", p.LocalAddr())
	}
}

// The client leaves: the port is closed.
func TestBindClientLeaves(t *testing.T) {
	needEpoll(t, "this platform does not tell of a peer's reset before it is written to")
	st := newStation(t, &Server{})
	c := st.dial()
	say(t, c, socks5(commandBind, ip("127.0.0.1", 0)), 0)
	r, bound := answer5(t, c)
	if r != replySucceeded {
		t.Fatal(r)
	}
	_ = c.Abort()
	if rec := st.record(); !errors.Is(rec.Err, relay.ErrClientLeft) || rec.By != relay.Inbound {
		t.Errorf("%v", rec)
	}
	if p, err := call(t, bound, "127.0.0.1"); err == nil {
		t.Errorf("%v was accepted", p.LocalAddr())
	}
}

// Our own listener through a proxy, against our own server.
func TestBindByOwnListener(t *testing.T) {
	st := newStation(t, &Server{})
	for _, scheme := range []string{"socks5", "socks4"} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ln, err := anysock.Listen(ctx, scheme+"://"+st.addr+",tcp://:0?peer=127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		p, err := anysock.Dial(ctx, "tcp://"+ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		say(t, p, "hello", 0)
		readExactly(t, c, "hello")
		say(t, c, "reply", 0)
		readExactly(t, p, "reply")
		if err := p.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if end, err := c.Disconnect(ctx); err != nil || end.How != anysock.Graceful {
			t.Errorf("%v, %v", end, err)
		}
		if end, err := p.Disconnect(ctx); err != nil || end.How != anysock.Graceful {
			t.Errorf("%v, %v", end, err)
		}
		ln.Close()
		if r := st.record(); r.How != anysock.Graceful || r.Command != "BIND" {
			t.Errorf("%v", r)
		}
	}
}
