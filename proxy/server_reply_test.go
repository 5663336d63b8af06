// This file tests that each failure gets its reply, in every protocol, and
// that the reply arrives.

package proxy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// A target that cannot be reached, in each of the ways.
func TestReplies(t *testing.T) {
	dns := newFakeDNS(t, map[string][][]string{"here.test": {{"127.0.0.1"}}, "empty.test": {{}}})
	errno := func(err error) func(netip.AddrPort) error { return func(netip.AddrPort) error { return err } }
	refused, full := closedPort(t), fullPort(t)
	for _, c := range []struct {
		name  string
		to    endpoint
		rules string // a rule that denies
		allow func(netip.AddrPort) error
		five  reply5
		http  int
		by    relay.Leg
	}{
		{name: "refused", to: at(refused), five: 5, http: 502, by: relay.Outbound},
		{name: "refused by name", to: target(t, "here.test", refused.Port()), five: 5, http: 502, by: relay.Outbound},
		{name: "no such name", to: target(t, "nosuch.test", 80), five: 4, http: 502, by: relay.Outbound},
		{name: "name without address", to: target(t, "empty.test", 80), five: 4, http: 502, by: relay.Outbound},
		{name: "no answer", to: at(full), five: 6, http: 504, by: relay.Outbound},
		{name: "no route to network", to: at(refused), allow: errno(syscall.ENETUNREACH), five: 3, http: 502, by: relay.Outbound},
		{name: "no route to host", to: at(refused), allow: errno(syscall.EHOSTUNREACH), five: 4, http: 502, by: relay.Outbound},
		{name: "kernel gave up", to: at(refused), allow: errno(syscall.ETIMEDOUT), five: 6, http: 504, by: relay.Outbound},
		{name: "firewall", to: at(refused), allow: errno(syscall.EPERM), five: 2, http: 403, by: relay.Self},
		{name: "out of descriptors", to: at(refused), allow: errno(&anysock.Error{Op: "socket", Kind: anysock.KindLimit, Err: syscall.EMFILE}), five: 1, http: 502, by: relay.Outbound},
		{name: "denied address", to: at(refused), rules: "to=127.0.0.0/8", five: 2, http: 403, by: relay.Self},
		{name: "denied address of a name", to: target(t, "here.test", 80), rules: "to=127.0.0.0/8", five: 2, http: 403, by: relay.Self},
		{name: "denied name", to: target(t, "x.here.test", 80), rules: "to=here.test", five: 2, http: 403, by: relay.Self},
		{name: "no host", to: target(t, "0.0.0.0", 80), five: 2, http: 403, by: relay.Self},
		{name: "127.1", to: target(t, "127.1", 80), five: 2, http: 403, by: relay.Self},
		{name: "port 0", to: target(t, "127.0.0.1", 0), five: 1, http: 400, by: relay.Self},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{Dialer: anysock.Dialer{Resolver: dns.resolver(), Allow: c.allow}, Handshake: 2 * time.Second}
			if c.rules != "" {
				s.Rules.List = []Rule{mustRule(t, false, c.rules)}
			}
			st := newStation(t, s)
			t.Run("socks5", func(t *testing.T) {
				conn := st.dial()
				say(t, conn, socks5(commandConnect, c.to), 0)
				if r, _ := answer5(t, conn); r != c.five {
					t.Errorf("reply %v, want %v", r, c.five)
				}
				readAll(t, conn)
				conn.Close()
				r := st.record()
				wantRefused(t, r, c.by, int(c.five))
				if r.Target != c.to.String() || r.Command != "CONNECT" || r.Protocol != "socks5" {
					t.Errorf("the record: %v", r)
				}
			})
			t.Run("socks4", func(t *testing.T) {
				conn := st.dial()
				say(t, conn, socks4(commandConnect, c.to), 0)
				if got := readAll(t, conn); got != "\x00\x5b\x00\x00\x00\x00\x00\x00" {
					t.Errorf("reply %q", got)
				}
				conn.Close()
				r := st.record()
				wantRefused(t, r, c.by, 91)
				if r.Claimed != "who" || r.User != "" {
					t.Errorf("users %q, %q", r.User, r.Claimed)
				}
			})
			t.Run("http", func(t *testing.T) {
				conn := st.dial()
				say(t, conn, httpConnect(c.to), 0)
				if got, _ := status(t, conn); got != c.http {
					t.Errorf("status %d, want %d", got, c.http)
				}
				readAll(t, conn)
				conn.Close()
				wantRefused(t, st.record(), c.by, c.http)
			})
		})
	}
}

func mustRule(t testing.TB, allow bool, text string) Rule {
	t.Helper()
	r, err := ParseRule(allow, text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Of several addresses the most telling failure is told.
func TestBestReply(t *testing.T) {
	attempts := func(errs ...error) error {
		e := &anysock.Error{Op: "connect", Kind: anysock.KindUnreachable, Err: errs[len(errs)-1]}
		for _, err := range errs {
			e.Attempts = append(e.Attempts, anysock.Attempt{Err: err})
		}
		return e
	}
	denied := &anysock.Error{Op: "connect", Kind: anysock.KindPermission, Err: &DeniedError{}}
	for i, c := range []struct {
		err  error
		want reason
	}{
		{attempts(syscall.ENETUNREACH, syscall.ECONNREFUSED, denied), becauseRefused},
		{attempts(syscall.ECONNREFUSED, syscall.EHOSTUNREACH), becauseRefused},
		{attempts(denied, syscall.EHOSTUNREACH), becauseUnreachable},
		{attempts(syscall.ENETUNREACH, os.ErrDeadlineExceeded), becauseTimeout},
		{attempts(denied, denied), becauseNotAllowed},
		{attempts(context.Canceled, syscall.ECONNREFUSED), becauseRefused},
		{&anysock.Error{Kind: anysock.KindTimeout, Err: context.DeadlineExceeded, Attempts: []anysock.Attempt{{Err: context.Canceled}}}, becauseTimeout},
		{&anysock.Error{Kind: anysock.KindHop, Err: &RefusalError{Kind: anysock.KindRefused}}, becauseRefused},
		{&anysock.Error{Kind: anysock.KindHop, Err: &RefusalError{Kind: anysock.KindPermission}}, becauseNotAllowed},
		{errors.New("other"), becauseFailure},
	} {
		if got := reasonOf(c.err); got != c.want {
			t.Errorf("%d: %v: reason %d, want %d", i, c.err, got, c.want)
		}
	}
}

// Two families, one refused and one denied: the reply is "refused".
func TestBestReplyOfName(t *testing.T) {
	port := closedPort(t).Port()
	dns := newFakeDNS(t, map[string][][]string{"two.test": {{"127.0.0.1", "::1"}}})
	st := newStation(t, &Server{Dialer: anysock.Dialer{Resolver: dns.resolver()}, Rules: Rules{List: []Rule{mustRule(t, false, "to=::1")}}})
	c := st.dial()
	say(t, c, socks5(commandConnect, target(t, "two.test", port)), 0)
	if r, _ := answer5(t, c); r != replyRefused {
		t.Errorf("reply %v", r)
	}
	c.Close()
	if r := st.record(); len(r.Attempts) != 2 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

func TestCommandsNotServed(t *testing.T) {
	st := newStation(t, &Server{})
	for _, cmd := range []command{commandAssociate, 0, 9} {
		c := st.dial()
		say(t, c, socks5(cmd, ip("127.0.0.1", 80)), 0)
		if r, _ := answer5(t, c); r != replyCommandUnsupported {
			t.Errorf("%v: reply %v", cmd, r)
		}
		readAll(t, c)
		c.Close()
		wantRefused(t, st.record(), relay.Self, 7)

		c = st.dial()
		say(t, c, socks4(cmd, ip("127.0.0.1", 80)), 0)
		if got := readAll(t, c); got != "\x00\x5b\x00\x00\x00\x00\x00\x00" {
			t.Errorf("%v: reply %q", cmd, got)
		}
		c.Close()
		wantRefused(t, st.record(), relay.Self, 91)
	}
}

func TestGranted(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	dns := newFakeDNS(t, map[string][][]string{"echo.test": {{"127.0.0.1"}}})
	st := newStation(t, &Server{Dialer: anysock.Dialer{Resolver: dns.resolver()}})
	name := target(t, "echo.test", to.Port())
	talk := func(t *testing.T, c *anysock.Conn, protocol, asked string) {
		t.Helper()
		say(t, c, "hello", 0)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, c); got != "hello" {
			t.Errorf("echo %q", got)
		}
		c.Close()
		r := st.record()
		if r.How != anysock.Graceful || r.By != relay.Inbound || r.Protocol != protocol || r.Target != asked ||
			r.ToOutbound.Bytes != 5 || r.ToInbound.Bytes != 5 || r.Reply == nil {
			t.Errorf("the record: %+v", r)
		}
	}
	t.Run("socks5", func(t *testing.T) {
		c := st.dial()
		say(t, c, socks5(commandConnect, at(to)), 0)
		r, bound := answer5(t, c)
		if r != replySucceeded || bound.ip != netip.MustParseAddr("127.0.0.1") || bound.port == 0 {
			t.Fatalf("reply %v, bound %v", r, bound)
		}
		talk(t, c, "socks5", to.String())
	})
	t.Run("socks5 name", func(t *testing.T) {
		talk(t, st.through(name), "socks5", name.String())
	})
	for _, e := range []endpoint{at(to), name} {
		t.Run("socks4 "+e.String(), func(t *testing.T) {
			c := st.dial()
			say(t, c, socks4(commandConnect, e), 0)
			if r, _, err := readReply4(connSource{context.Background(), c}); err != nil || r != reply4Granted {
				t.Fatalf("reply %v, %v", r, err)
			}
			protocol := "socks4"
			if e.name != "" {
				protocol = "socks4a"
			}
			talk(t, c, protocol, e.String())
		})
		t.Run("http "+e.String(), func(t *testing.T) {
			c := st.dial()
			say(t, c, httpConnect(e), 0)
			if got, _ := status(t, c); got != 200 {
				t.Fatalf("status %d", got)
			}
			talk(t, c, "http", e.String())
		})
	}
}

// The own client hops, through our own server.
func TestOwnHops(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, &Server{})
	second := newStation(t, &Server{Via: anysock.MustParseAddress("socks5://" + st.addr)})
	for _, hops := range []string{"socks5://%s", "socks4://%s", "socks4a://%s", "http://%s"} {
		for name, s := range map[string]*station{"one": st, "two": second} {
			t.Run(hops[:5]+name, func(t *testing.T) {
				c, err := dialChain(t, &anysock.Dialer{}, hops+",tcp://%s", s.addr, to)
				if err != nil {
					t.Fatal(err)
				}
				say(t, c, "hello", 0)
				_ = c.CloseWrite()
				if got := readAll(t, c); got != "hello" {
					t.Errorf("echo %q", got)
				}
			})
			t.Run(hops[:5]+name+" refused", func(t *testing.T) {
				_, err := dialChain(t, &anysock.Dialer{}, hops+",tcp://%s", s.addr, closedPort(t))
				var r *RefusalError
				if !errors.As(err, &r) {
					t.Fatalf("%v is no refusal", err)
				}
				if r.Scheme == "socks5" && r.Kind != anysock.KindRefused {
					t.Errorf("%v: kind %v", err, r.Kind)
				}
			})
		}
	}
}

// Through hops, names are not resolved here: rules about addresses allow none,
// and loopback names are refused to others.
func TestNamesBehindHops(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	dns := newFakeDNS(t, map[string][][]string{"there.test": {{"127.0.0.1"}}})
	last := newStation(t, &Server{Dialer: anysock.Dialer{Resolver: dns.resolver()}})
	via := anysock.MustParseAddress("socks5://" + last.addr)
	for _, c := range []struct {
		s    *Server
		host string
		want reply5
	}{
		{&Server{}, "there.test", replySucceeded},
		{&Server{Rules: *rulesOf(t, "allow to=there.test")}, "there.test", replySucceeded},
		{&Server{Rules: *rulesOf(t, "allow to=127.0.0.1")}, "there.test", replyNotAllowed},
		{&Server{Rules: *rulesOf(t, "allow to=127.0.0.1")}, "127.0.0.1", replySucceeded},
		{remote(&Server{}), "there.test", replySucceeded}, // for the last hop to refuse
		{remote(&Server{}), "127.0.0.1", replyNotAllowed},
		{remote(&Server{}), "LocalHost.", replyNotAllowed},
		{remote(&Server{}), "x.localhost", replyNotAllowed},
		{&Server{}, "nosuch.test", replyHostUnreachable},
	} {
		c.s.Via = via
		st := newStation(t, c.s)
		conn := st.dial()
		say(t, conn, socks5(commandConnect, target(t, c.host, to.Port())), 0)
		if r, _ := answer5(t, conn); r != c.want {
			t.Errorf("%s: reply %v, want %v", c.host, r, c.want)
		}
	}
}

// Any carrier will do; a client on a Unix socket is one on this machine.
func TestOtherCarriers(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	for _, address := range []string{"unix:" + filepath.Join(t.TempDir(), "s"), "mem:proxy-server-test"} {
		records := make(chan Record, 10)
		s := &Server{OnEnd: func(r Record) { records <- r }}
		ln, err := anysock.Listen(context.Background(), address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, ln) }()
		for range 3 {
			c, err := anysock.Dial(context.Background(), address)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			say(t, c, socks5(commandConnect, at(to))+"hello", 1)
			if r, _ := answer5(t, c); r != replySucceeded {
				t.Errorf("%s: %v", address, r)
			}
			_ = c.CloseWrite()
			if got := readAll(t, c); got != "hello" {
				t.Errorf("%s: %q", address, got)
			}
			c.Close()
			if r := <-records; r.How != anysock.Graceful {
				t.Errorf("%v", r)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("serve: %v", err)
		}
		if _, err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
