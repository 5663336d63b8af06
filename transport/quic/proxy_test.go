// This file holds a UDP proxy between two ends in this process, which loses,
// delays and reorders packets as it is told.

package quic

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A udpProxy passes packets between clients and one server.
type udpProxy struct {
	front  atomic.Pointer[net.UDPConn]
	at     *net.UDPAddr
	server *net.UDPAddr

	cut     atomic.Bool  // everything is lost
	loss    atomic.Int64 // per mille
	reorder atomic.Int64 // per mille that come later

	drop func(toServer bool, p []byte) bool // sees each packet, if it is set

	mu      sync.Mutex
	clients map[netip.AddrPort]*net.UDPConn
	late    sync.WaitGroup
	wg      sync.WaitGroup
	in, out atomic.Int64 // bytes to and from the server
}

func newProxy(t testing.TB, server net.Addr) *udpProxy {
	t.Helper()
	return newDroppingProxy(t, server, nil)
}

func newDroppingProxy(t testing.TB, server net.Addr, drop func(toServer bool, p []byte) bool) *udpProxy {
	t.Helper()
	udp := udpOf(t, server)
	p := &udpProxy{at: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, server: udp, drop: drop, clients: make(map[netip.AddrPort]*net.UDPConn)}
	p.openFront(t)
	p.at = p.front.Load().LocalAddr().(*net.UDPAddr)
	t.Cleanup(p.close)
	return p
}

func (p *udpProxy) addr() net.Addr { return p.at }

// openFront begins to take packets of clients.
func (p *udpProxy) openFront(t testing.TB) {
	t.Helper()
	front, err := net.ListenUDP("udp", p.at)
	if err != nil {
		t.Fatal(err)
	}
	p.front.Store(front)
	p.wg.Add(1)
	go p.fromClients(front)
}

// closeFront closes the port that clients see.
func (p *udpProxy) closeFront() { p.front.Load().Close() }

func (p *udpProxy) close() {
	p.closeFront()
	p.late.Wait()
	p.mu.Lock()
	for _, c := range p.clients {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *udpProxy) fromClients(front *net.UDPConn) {
	defer p.wg.Done()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		c := p.clients[from]
		if c == nil {
			if c, err = net.DialUDP("udp", nil, p.server); err != nil {
				p.mu.Unlock()
				return
			}
			p.clients[from] = c
			p.wg.Add(1)
			go p.fromServer(c, from)
		}
		p.mu.Unlock()
		p.in.Add(int64(n))
		p.pass(true, buf[:n], func(b []byte) { _, _ = c.Write(b) })
	}
}

func (p *udpProxy) fromServer(c *net.UDPConn, to netip.AddrPort) {
	defer p.wg.Done()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		p.out.Add(int64(n))
		p.pass(false, buf[:n], func(b []byte) { _, _ = p.front.Load().WriteToUDPAddrPort(b, to) })
	}
}

// pass loses a packet, sends it later, or at once.
func (p *udpProxy) pass(toServer bool, b []byte, send func([]byte)) {
	switch {
	case p.cut.Load(), rand.Int64N(1000) < p.loss.Load(), p.drop != nil && p.drop(toServer, b):
	case rand.Int64N(1000) < p.reorder.Load():
		later := append([]byte(nil), b...)
		p.late.Add(1)
		time.AfterFunc(time.Duration(rand.Int64N(int64(8*time.Millisecond))), func() {
			defer p.late.Done()
			send(later)
		})
	default:
		send(b)
	}
}
