package anysock_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameServer answers queries for addresses in this process, as a test says.
type nameServer struct {
	conn net.PacketConn

	mu    sync.Mutex
	hosts map[string]*host
	asked []string // "A name", "AAAA name", in order
}

// A host is a name's addresses. A gate that is not nil holds the family's
// answer back until it is closed.
type host struct {
	four, six         []string
	fourGate, sixGate chan struct{}
	asked             func(six bool) // told when a query has come; may be nil
	answered          func(six bool) // told after an answer was sent; may be nil
}

// newNameServer runs until the test is over.
func newNameServer(t testing.TB, hosts map[string]*host) *nameServer {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: pc, hosts: hosts}
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.serve(t, over)
	}()
	t.Cleanup(func() {
		// The resolver goes on waiting for answers that nobody wants any more:
		// those that were held back are sent now.
		close(over)
		pc.SetReadDeadline(time.Now())
		<-done
		pc.Close()
	})
	return s
}

// resolver asks this server and nobody else.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// serve answers until the socket's deadline, and waits for the answers that
// are held back.
func (s *nameServer) serve(t testing.TB, over chan struct{}) {
	var wg sync.WaitGroup
	defer wg.Wait()
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var q dnsmessage.Message
		if err := q.Unpack(buf[:n]); err != nil || len(q.Questions) != 1 {
			t.Errorf("name server: a query that is none: %v", err)
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			s.answer(t, q, from, over)
		}()
	}
}

func (s *nameServer) answer(t testing.TB, q dnsmessage.Message, from net.Addr, over chan struct{}) {
	question := q.Questions[0]
	name := strings.TrimSuffix(question.Name.String(), ".")
	six := question.Type == dnsmessage.TypeAAAA
	s.mu.Lock()
	h := s.hosts[name]
	s.asked = append(s.asked, strings.TrimPrefix(question.Type.String(), "Type")+" "+name)
	s.mu.Unlock()

	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.ID, Response: true, RecursionDesired: q.RecursionDesired, RecursionAvailable: true, Authoritative: true},
		Questions: q.Questions,
	}
	if h == nil {
		m.RCode = dnsmessage.RCodeNameError
	} else {
		if h.asked != nil {
			h.asked(six)
		}
		list, gate := h.four, h.fourGate
		if six {
			list, gate = h.six, h.sixGate
		}
		if gate != nil {
			select {
			case <-gate:
			case <-over:
			}
		}
		for _, a := range list {
			m.Answers = append(m.Answers, addressRecord(question.Name, netip.MustParseAddr(a)))
		}
	}
	b, err := m.Pack()
	if err != nil {
		t.Errorf("name server: %v", err)
		return
	}
	_, _ = s.conn.WriteTo(b, from) // whoever asked may be gone
	if h != nil && h.answered != nil {
		h.answered(six)
	}
}

func addressRecord(name dnsmessage.Name, ip netip.Addr) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 1}
	if ip.Is4() {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}}
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}}
}
