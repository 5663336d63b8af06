// This file holds what the server's tests share: a server at work, targets,
// clients, and a resolver that does what a test says.

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
	"github.com/anysock/anysock/relay"
)

// A station is a Server at work on a loopback port.
type station struct {
	*Server
	t       testing.TB
	ln      *anysock.Listener
	addr    string // host:port
	records chan Record
}

// newStation serves until the test is over.
func newStation(t testing.TB, s *Server) *station {
	t.Helper()
	st := &station{Server: s, t: t, records: make(chan Record, 100_000)}
	s.OnEnd = func(r Record) { st.records <- r }
	ln, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	st.ln, st.addr = ln, ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("serve: %v", err)
		}
		over, cut := context.WithCancel(context.Background())
		cut()
		if _, err := s.Shutdown(over); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return st
}

// remote makes every client one from elsewhere.
func remote(s *Server) *Server {
	s.identify = func(net.Addr) client { return client{ip: netip.MustParseAddr("192.0.2.7")} }
	return s
}

// record waits for the record of the next connection that has ended.
func (st *station) record() Record {
	st.t.Helper()
	select {
	case r := <-st.records:
		if text := r.String(); strings.ContainsAny(text, "\n\r\x1b\x00") {
			st.t.Errorf("a record that is not one line of text: %q", text)
		}
		return r
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		st.t.Fatalf("no record\n%s", buf[:runtime.Stack(buf, true)])
		return Record{}
	}
}

// dial connects to the server itself.
func (st *station) dial() *anysock.Conn {
	st.t.Helper()
	c, err := anysock.Dial(context.Background(), "tcp://"+st.addr)
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = c.Abort() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// say sends text to the server, in pieces of n bytes, 0 is at once.
func say(t testing.TB, c *anysock.Conn, text string, n int) {
	t.Helper()
	if n <= 0 {
		n = max(len(text), 1)
	}
	for len(text) > 0 {
		piece := text[:min(n, len(text))]
		text = text[len(piece):]
		if _, err := c.Write([]byte(piece)); err != nil {
			t.Fatalf("write %q: %v", piece, err)
		}
	}
}

// readAll reads to the end of file; a reset fails the test.
func readAll(t testing.TB, c *anysock.Conn) string {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", got, err)
	}
	return string(got)
}

// wantReset reads to a reset and returns what came before.
func wantReset(t testing.TB, c *anysock.Conn) string {
	t.Helper()
	got, err := io.ReadAll(c)
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != anysock.KindReset {
		t.Fatalf("after %q: %v, want a reset", got, err)
	}
	return string(got)
}

// A target is a listener on a loopback port that serves each connection.
func newTarget(t testing.TB, host string, serve func(*anysock.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := anysock.Listen(context.Background(), "tcp://"+net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := range ln.Conns(ctx) {
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				defer c.Abort()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c *anysock.Conn) { _ = anysock.ServeEcho(context.Background(), c) }

// closedPort is a loopback port where nobody listens.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// needEpoll skips a test of what is Linux's.
func needEpoll(t testing.TB, why string) {
	t.Helper()
	if !testproc.HasEpoll(t) {
		t.Skip(why)
	}
}

// fullPort is a loopback port whose queue is full, so that nobody answers.
func fullPort(t testing.TB) netip.AddrPort {
	t.Helper()
	needEpoll(t, "how a full queue behaves is known of Linux")
	lc := anysock.ListenConfig{Backlog: 1}
	ln, err := lc.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	d := anysock.Dialer{AttemptTimeout: 300 * time.Millisecond}
	for range 10 {
		c, err := d.Dial(context.Background(), "tcp://"+ln.Addr().String())
		if err != nil {
			return ln.Addr().(*net.TCPAddr).AddrPort()
		}
		t.Cleanup(func() { _ = c.Abort() })
	}
	t.Fatal("the queue does not become full")
	return netip.AddrPort{}
}

// The requests of the protocols, as a client sends them without a password.
func socks5(c command, e endpoint) string {
	return string(appendRequest5(appendGreeting5(nil, methodNone), c, e))
}

func socks4(c command, e endpoint) string { return string(appendRequest4(nil, c, e, "who")) }

func httpConnect(e endpoint) string { return string(appendConnect(nil, e, nil)) }

// hostPort is an endpoint from text.
func target(t testing.TB, host string, port uint16) endpoint {
	t.Helper()
	e, err := hostEndpoint(host, port)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func at(ap netip.AddrPort) endpoint { return ipEndpoint(ap) }

// answer5 reads the answer to the greeting, if one is expected, and the reply.
func answer5(t testing.TB, c *anysock.Conn) (reply5, endpoint) {
	t.Helper()
	src := connSource{context.Background(), c}
	if m, err := readMethod5(src); err != nil || m != methodNone {
		t.Fatalf("the answer to the greeting is %v, %v", m, err)
	}
	return reply5Of(t, c)
}

func reply5Of(t testing.TB, c *anysock.Conn) (reply5, endpoint) {
	t.Helper()
	r, bound, err := readReply5(connSource{context.Background(), c})
	if err != nil {
		t.Fatalf("the reply: %v", err)
	}
	return r, bound
}

// status reads the head of an HTTP answer.
func status(t testing.TB, c *anysock.Conn) (int, []field) {
	t.Helper()
	s, fields, err := readConnectReply(connSource{context.Background(), c})
	if err != nil {
		t.Fatalf("the HTTP answer: %v", err)
	}
	return s.code, fields
}

// through opens a connection to a target through the server.
func (st *station) through(to endpoint) *anysock.Conn {
	st.t.Helper()
	c := st.dial()
	say(st.t, c, socks5(commandConnect, to), 0)
	if r, _ := answer5(st.t, c); r != replySucceeded {
		st.t.Fatalf("connecting to %v: %v", to, r)
	}
	return c
}

// A fakeDNS answers questions for addresses, each time with the next list.
type fakeDNS struct {
	conn net.PacketConn
	done chan struct{}

	mu    sync.Mutex
	hosts map[string][][]string // by name: the answers, the last one again and again
	asked map[string]int        // questions of both families
}

func newFakeDNS(t testing.TB, hosts map[string][][]string) *fakeDNS {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDNS{conn: pc, done: make(chan struct{}), hosts: hosts, asked: map[string]int{}}
	go d.serve()
	t.Cleanup(func() {
		pc.Close()
		<-d.done
	})
	return d
}

func (d *fakeDNS) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var nd net.Dialer
		return nd.DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}

func (d *fakeDNS) serve() {
	defer close(d.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var q dnsmessage.Message
		if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
			continue
		}
		if b, err := d.answer(q); err == nil {
			_, _ = d.conn.WriteTo(b, from)
		}
	}
}

func (d *fakeDNS) answer(q dnsmessage.Message) ([]byte, error) {
	question := q.Questions[0]
	name := strings.TrimSuffix(question.Name.String(), ".")
	six := question.Type == dnsmessage.TypeAAAA
	d.mu.Lock()
	defer d.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, Authoritative: true},
		Questions: q.Questions,
	}
	lists, known := d.hosts[name]
	if !known {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	i := min(d.asked[name]/2, len(lists)-1) // both families make one lookup
	d.asked[name]++
	for _, text := range lists[i] {
		ip := netip.MustParseAddr(text)
		h := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}
		switch {
		case ip.Is4() && !six:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
		case ip.Is6() && six:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	return m.Pack()
}

func (d *fakeDNS) count(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[name]
}

// until looks again and again for a condition that nobody tells us about.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); !met(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatal("still not: " + what)
		}
	}
}

// wantRefused checks what a record says of a request that came to nothing.
func wantRefused(t testing.TB, r Record, by relay.Leg, code int) {
	t.Helper()
	if r.How != anysock.Refused || r.By != by || r.Err == nil {
		t.Errorf("the record says %v by %v, %v; want refused by %v: %v", r.How, r.By, r.Err, by, r)
	}
	switch {
	case code < 0 && r.Reply != nil:
		t.Errorf("the record has the reply %+v, want none", *r.Reply)
	case code >= 0 && (r.Reply == nil || r.Reply.Code != code):
		t.Errorf("the record has the reply %+v, want %d", r.Reply, code)
	}
}
