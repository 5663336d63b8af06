// This file tests the server's bounds, its refusal to be an open proxy, and
// what it does about targets that it must not lend itself to.

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

func TestOpenProxyIsRefused(t *testing.T) {
	everywhere := []net.Addr{&net.TCPAddr{IP: net.IPv4zero, Port: 1080}, &net.TCPAddr{IP: net.IPv6unspecified, Port: 1080}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 1080}, &otherAddr{}, nil}
	here := []net.Addr{&net.TCPAddr{IP: net.ParseIP("127.0.0.1"), Port: 1080}, &net.TCPAddr{IP: net.IPv6loopback, Port: 1080}, &net.UnixAddr{Name: "/run/x", Net: "unix"}}
	users := someUsers(t, "alice:"+hashOf(t, "x"))
	for _, a := range everywhere {
		for _, s := range []*Server{{}, {Rules: *rulesOf(t, "allow port=443")}, {Rules: *rulesOf(t, "deny port=25")}} {
			err := s.Check(a)
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindState || e.Hint == "" || !strings.Contains(e.Err.Error(), "open proxy") {
				t.Errorf("%v: %v", a, err)
			}
		}
		for _, s := range []*Server{{Users: users}, {Rules: *rulesOf(t, "allow from=10.0.0.0/8")}} {
			if err := s.Check(a); err != nil {
				t.Errorf("%v: %v", a, err)
			}
		}
	}
	for _, a := range here {
		if err := new(Server).Check(a); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
	for _, s := range []*Server{{Rules: *rulesOf(t, "allow user=alice")}, {Rules: Rules{List: []Rule{{Command: "associate"}}}}, {Rules: Rules{List: []Rule{{To: make([]netip.Prefix, 1)}}}}, {Via: anysock.MustParseAddress("tcp://127.0.0.1:1")}} {
		if err := s.Check(here[0]); err == nil {
			t.Errorf("%+v makes sense", s.Rules)
		}
	}
}

// An otherAddr is an address of a carrier that nobody knows.
type otherAddr struct{}

func (*otherAddr) Network() string { return "other" }
func (*otherAddr) String() string  { return "x" }

// Serve checks as well.
func TestServeRefusesNonsense(t *testing.T) {
	ln, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := &Server{Rules: *rulesOf(t, "allow user=alice")}
	var e *anysock.Error
	if err := s.Serve(t.Context(), ln); !errors.As(err, &e) || e.Kind != anysock.KindState {
		t.Errorf("%v", err)
	}
	if _, err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := new(Server).Serve(canceled(), ln); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := s.Serve(t.Context(), ln); err == nil {
		t.Error("a server that was shut down serves")
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Clients from elsewhere reach no internal target, whatever it is called; the
// target would hear them.
func TestInternalTargetsThroughServer(t *testing.T) {
	var heard atomic.Int32
	to := newTarget(t, "127.0.0.1", func(c *anysock.Conn) { heard.Add(1); echo(c) })
	dns := newFakeDNS(t, map[string][][]string{
		"loopback.test": {{"127.0.0.1"}}, "mapped.test": {{"::ffff:127.0.0.1"}}, "zero.test": {{"0.0.0.0"}}, "nat64.test": {{"64:ff9b::7f00:1"}},
		"metadata.test": {{"169.254.169.254"}}, "both.test": {{"127.0.0.1", "::1"}},
	})
	st := newStation(t, remote(&Server{Dialer: anysock.Dialer{Resolver: dns.resolver()}}))
	for _, host := range slices.Concat(internalTargets, noTargets, []string{
		"localhost", "LOCALHOST.", "loopback.test", "mapped.test", "zero.test", "nat64.test", "metadata.test", "both.test",
		"127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001",
	}) {
		e := target(t, host, to.Port())
		// Our resolver does not know localhost, and Go's takes no mapped
		// address for an IPv6 one: these are not found.
		unknown := strings.HasPrefix(strings.ToLower(host), "localhost") || host == "mapped.test"
		for protocol, request := range map[string]string{"socks5": socks5(commandConnect, e), "http": httpConnect(e)} {
			c := st.dial()
			say(t, c, request, 0)
			if protocol == "http" {
				if code, _ := status(t, c); code != 403 && (code != 502 || !unknown) {
					t.Errorf("%s to %s: status %d", protocol, host, code)
				}
			} else if r, _ := answer5(t, c); r != replyNotAllowed && (r != replyHostUnreachable || !unknown) {
				t.Errorf("%s to %s: reply %v", protocol, host, r)
			}
			_ = c.Abort()
			if r := st.record(); r.How != anysock.Refused || !r.Connected.IsZero() {
				t.Errorf("%v", r)
			}
		}
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("the target heard %d connections", n)
	}
	// The same, named by a rule.
	st = newStation(t, remote(&Server{Rules: *rulesOf(t, "allow to=127.0.0.0/8"), Dialer: anysock.Dialer{Resolver: dns.resolver()}}))
	st.through(at(to))
	st.through(target(t, "loopback.test", to.Port()))
}

// A resolver that changes its answer between the question and the connection
// gains nothing: it is asked once, and what it said is what is judged and what
// is dialed.
func TestRebindingResolver(t *testing.T) {
	var heard atomic.Int32
	to := newTarget(t, "127.0.0.1", func(c *anysock.Conn) { heard.Add(1); echo(c) })
	dns := newFakeDNS(t, map[string][][]string{"rebind.test": {{"192.0.2.1"}, {"127.0.0.1"}}})
	var judged []netip.AddrPort
	var mu sync.Mutex
	s := remote(&Server{Dialer: anysock.Dialer{Resolver: dns.resolver(), Allow: func(ap netip.AddrPort) error {
		mu.Lock()
		defer mu.Unlock()
		judged = append(judged, ap)
		if ap.Addr() == netip.MustParseAddr("192.0.2.1") {
			return errors.New("not for a test to dial") // the public address that it told first
		}
		return nil
	}}})
	st := newStation(t, s)
	e := target(t, "rebind.test", to.Port())
	for i := range 2 {
		c := st.dial()
		say(t, c, socks5(commandConnect, e), 0)
		if r, _ := answer5(t, c); r == replySucceeded {
			t.Error("connected")
		}
		_ = c.Abort()
		r := st.record()
		if asked := dns.count("rebind.test"); asked != 2*(i+1) {
			t.Errorf("the resolver was asked %d times, want once for each family and request", asked)
		}
		var denied *DeniedError
		if i == 1 && !errors.As(r.Err, &denied) {
			t.Errorf("%v", r)
		}
	}
	want := []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), to.Port()), to}
	if !slices.Equal(judged, want) {
		t.Errorf("judged %v, want %v", judged, want)
	}
	if heard.Load() != 0 {
		t.Error("the target heard something")
	}
}

// The proxy is no target for clients from elsewhere, unless a rule names its
// very address.
func TestOwnListenerIsNoTarget(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	for rule, want := range map[string]reply5{"allow to=127.0.0.0/8": replyNotAllowed, "allow to=127.0.0.1": replySucceeded} {
		st := newStation(t, remote(&Server{Rules: *rulesOf(t, rule)}))
		st.through(at(to))
		own := unmapped(st.ln.Addr().(*net.TCPAddr).AddrPort())
		c := st.dial()
		say(t, c, socks5(commandConnect, at(own)), 0)
		if r, _ := answer5(t, c); r != want {
			t.Errorf("%s: reply %v, want %v", rule, r, want)
		}
		if !st.isOwn(own) || st.isOwn(netip.AddrPortFrom(own.Addr(), own.Port()^1)) {
			t.Error("isOwn does not know its listener")
		}
	}
	if !isThisMachine(netip.MustParseAddr("127.0.0.1")) || isThisMachine(netip.MustParseAddr("192.0.2.1")) {
		t.Error("isThisMachine does not know this machine")
	}
}

// asClients makes the server take its clients' last bytes for their addresses:
// 127.0.0.2 counts as 192.0.2.2.
func asClients(s *Server) *Server {
	s.identify = func(a net.Addr) client {
		ip := a.(*net.TCPAddr).AddrPort().Addr().As4()
		return client{ip: netip.AddrFrom4([4]byte{192, 0, 2, ip[3]})}
	}
	return s
}

// dialFrom connects to the server from a loopback address.
func (st *station) dialFrom(local string) *anysock.Conn {
	st.t.Helper()
	d := anysock.Dialer{Local: local + ":0"}
	c, err := d.Dial(context.Background(), "tcp://"+st.addr)
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = c.Abort() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// wantTurnedAway connects and is reset, which connect may be the first to see.
func (st *station) wantTurnedAway(local string) {
	st.t.Helper()
	d := anysock.Dialer{Local: local + ":0"}
	c, err := d.Dial(context.Background(), "tcp://"+st.addr)
	if err == nil {
		defer c.Abort()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		st.t.Errorf("a client beyond its share: %v, want a reset", err)
	}
}

// needsLoopbackNet skips a test where 127.0.0.2 is not an address.
func needsLoopbackNet(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("127.0.0.2 is no address here")
	}
	ln.Close()
}

// A client that opens handshakes and says nothing gets its share and no more;
// a second client is served.
func TestGreedyHandshakes(t *testing.T) {
	needsLoopbackNet(t)
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, asClients(&Server{HandshakesPerClient: 5, Rules: *rulesOf(t, "allow to=127.0.0.1")}))
	var silent []*anysock.Conn
	for range 5 {
		c := st.dialFrom("127.0.0.2")
		say(t, c, "\x05", 0)
		silent = append(silent, c)
	}
	until(t, "the handshakes are counted", func() bool {
		st.shaking.mu.Lock()
		defer st.shaking.mu.Unlock()
		return st.shaking.num[netip.MustParseAddr("192.0.2.2")] == 5
	})
	for range 3 {
		st.wantTurnedAway("127.0.0.2")
		r := st.record()
		wantRefused(t, r, relay.Self, -1)
		if !errors.Is(r.Err, errClientHandshake) {
			t.Errorf("%v", r)
		}
	}
	c := st.dialFrom("127.0.0.3")
	say(t, c, socks5(commandConnect, at(to))+"hello", 0)
	if r, _ := answer5(t, c); r != replySucceeded {
		t.Errorf("the second client: %v", r)
	}
	readExactly(t, c, "hello")
	// A place that is given back can be had again.
	_ = silent[0].Abort()
	st.record()
	c = st.dialFrom("127.0.0.2")
	say(t, c, socks5(commandConnect, at(to)), 0)
	if r, _ := answer5(t, c); r != replySucceeded {
		t.Errorf("after one has left: %v", r)
	}
}

// The same for connections.
func TestGreedyConnections(t *testing.T) {
	needsLoopbackNet(t)
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, asClients(&Server{MaxConnsPerClient: 3, Rules: *rulesOf(t, "allow to=127.0.0.1")}))
	connect := func(local string) *anysock.Conn {
		c := st.dialFrom(local)
		say(t, c, socks5(commandConnect, at(to)), 0)
		if r, _ := answer5(t, c); r != replySucceeded {
			t.Fatal(r)
		}
		return c
	}
	first := connect("127.0.0.2")
	connect("127.0.0.2")
	connect("127.0.0.2")
	st.wantTurnedAway("127.0.0.2")
	if r := st.record(); !errors.Is(r.Err, errClientConns) {
		t.Errorf("%v", r)
	}
	connect("127.0.0.3")
	_ = first.Abort()
	st.record()
	connect("127.0.0.2")
}

// The same for new connections, however short they are: a client that opens
// them faster than its rate is reset once it is ten seconds ahead.
func TestGreedyRate(t *testing.T) {
	needsLoopbackNet(t)
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, asClients(&Server{RatePerClient: 1, Rules: *rulesOf(t, "allow to=127.0.0.1")}))
	// turn is a whole connection, and what the client has seen of it.
	turn := func(local string) error {
		d := anysock.Dialer{Local: local + ":0"}
		c, err := d.Dial(context.Background(), "tcp://"+st.addr)
		if err != nil {
			return err // reset before connect has returned
		}
		defer c.Abort()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, werr := io.WriteString(c, socks5(commandConnect, at(to)))
		cerr := c.CloseWrite()
		_, rerr := io.ReadAll(c)
		return errors.Join(werr, cerr, rerr)
	}
	const ahead = int(paceWindow / time.Second)
	turned := 0
	// On a slow machine it earns another connection now and then.
	for i := 0; i < 10*ahead && turned < 3; i++ {
		err := turn("127.0.0.2")
		r := st.record()
		if !errors.Is(r.Err, errClientRate) {
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			continue
		}
		turned++
		wantRefused(t, r, relay.Self, -1)
		if err == nil || i < ahead {
			t.Errorf("connection %d was turned away, and the client saw %v", i, err)
		}
	}
	if turned == 0 {
		t.Error("nobody was turned away")
	}
	if err := turn("127.0.0.3"); err != nil {
		t.Errorf("another client: %v", err)
	}
	st.record()
}

// A pace lets ten seconds' worth through at once and its rate from then on, for
// each client by itself, and forgets who is even.
func TestPace(t *testing.T) {
	var p pace
	start := time.Now()
	six := func(i int) client {
		return client{ip: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	count := func(c client, now time.Time, tries int) (n int) {
		for range tries {
			if p.admit(c, now, 0, 50) {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		after time.Duration
		c     client
		want  int
	}{
		{0, elsewhere, 500},
		{0, six(1), 500},
		{10 * time.Millisecond, elsewhere, 0},
		{20 * time.Millisecond, elsewhere, 1},
		{time.Second, elsewhere, 49},
		{6 * time.Second, elsewhere, 250},
		{time.Minute, elsewhere, 500},
		{time.Minute, local, 2000},    // the default is not for this machine
		{time.Minute, client{}, 2000}, // nothing to tell it by
	} {
		if n := count(step.c, start.Add(step.after), 2000); n != step.want {
			t.Errorf("after %v %d connections of %v were let in, want %d", step.after, n, step.c.ip, step.want)
		}
	}
	if p.admit(local, start, 1, 50) != true || count(elsewhere, start.Add(time.Hour), 1) != 1 {
		t.Error("a client that is even is not let in")
	}
	if p.admit(elsewhere, start, -1, 50) != true {
		t.Error("no limit is one")
	}

	// What it remembers is bounded, and goes.
	for i := range maxPaced + 100 {
		if !p.admit(six(i), start.Add(time.Hour), 0, 50) {
			t.Fatalf("client %d was turned away", i)
		}
	}
	if n := len(p.even); n != maxPaced {
		t.Errorf("%d clients are remembered, want %d", n, maxPaced)
	}
	p.admit(six(maxPaced+1), start.Add(2*time.Hour), 0, 50)
	if n := len(p.even); n != 1 {
		t.Errorf("%d clients are remembered, want the one that is not even", n)
	}
}

// In all, handshakes and connections beyond their bounds wait in the backlog.
func TestBoundsInAll(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	for name, s := range map[string]*Server{"handshakes": {Handshakes: 2}, "connections": {MaxConns: 2}} {
		t.Run(name, func(t *testing.T) {
			st := newStation(t, s)
			a, b := st.dial(), st.dial()
			say(t, a, "\x05", 0)
			say(t, b, "\x05", 0)
			until(t, "both are accepted", func() bool { return st.Stats().Accepted == 2 })
			c := st.dial()
			say(t, c, socks5(commandConnect, at(to)), 0)
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			var one [1]byte
			if n, err := c.Read(one[:]); n != 0 || err == nil {
				t.Errorf("the third was served: %d, %v", n, err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			_ = a.Abort()
			if r, _ := answer5(t, c); r != replySucceeded {
				t.Errorf("after one has left: %v", r)
			}
		})
	}
}

// Clients on this machine share an address: the defaults do not count for
// them, what was set does.
func TestLimitsOfThisMachine(t *testing.T) {
	var n tally
	for range DefaultHandshakesPerClient + 1 {
		if !n.take(local, 0, DefaultHandshakesPerClient) {
			t.Fatal("this machine has its share")
		}
	}
	if n.take(local, DefaultHandshakesPerClient, 1) {
		t.Error("a limit that was set does not count for this machine")
	}
	var m tally
	for i := range 3 {
		if ok := m.take(elsewhere, 0, 2); ok != (i < 2) {
			t.Errorf("connection %d from elsewhere: %v", i, ok)
		}
	}
	if !m.take(elsewhere, -1, 2) || !m.take(client{}, 1, 1) || !m.take(client{}, 1, 1) {
		t.Error("what has no limit has one")
	}
	// An IPv6 client has 64 bits to choose from.
	six := func(s string) client { return client{ip: netip.MustParseAddr(s)} }
	if !m.take(six("2001:db8::1"), 1, 1) || m.take(six("2001:db8::ffff:2"), 1, 1) || !m.take(six("2001:db8:0:1::1"), 1, 1) {
		t.Error("an IPv6 client is not its network")
	}
	m.give(six("2001:db8::7"))
	m.give(six("2001:db8:0:1::7"))
	for range 3 {
		m.give(elsewhere)
	}
	if len(m.num) != 0 {
		t.Errorf("left behind: %v", m.num)
	}
}

func TestClientOf(t *testing.T) {
	for _, c := range []struct {
		a    net.Addr
		want client
	}{
		{&net.TCPAddr{IP: net.ParseIP("127.0.0.1")}, local},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1")}, local},
		{&net.TCPAddr{IP: net.IPv6loopback}, client{netip.IPv6Loopback(), true}},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, client{netip.MustParseAddr("fe80::1"), false}},
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.7")}, elsewhere},
		{&net.UnixAddr{Name: "@", Net: "unix"}, client{local: true}},
		{&otherAddr{}, client{}},
		{nil, client{}},
	} {
		if got := clientOf(c.a); got != c.want {
			t.Errorf("%v is %+v, want %+v", c.a, got, c.want)
		}
	}
}
