// This file holds the UDP sockets.

package quic

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	quicgo "github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
)

// A connected is a dialed connection's UDP socket, which the kernel has
// connected to the peer: it takes packets of nobody else, and learns by ICMP
// that nobody listens there. The library addresses its packets all the same.
//
// An ICMP message can be forged, so it counts for the first answer only (RFC
// 9000 section 14.2.1 says the same of packets that are too big); after that
// silence decides.
type connected struct {
	*net.UDPConn
	farewells
	batch *ipv4.PacketConn

	established atomic.Bool
	mu          sync.Mutex
	refusal     error
	refused     func() // called once the first ICMP error has come
}

// A listening is a listener's UDP socket.
type listening struct {
	*net.UDPConn
	farewells
}

// A socket is either.
type socket interface {
	quicgo.OOBCapablePacketConn
	expect(to netip.AddrPort)
	take(to netip.AddrPort) (b, oob []byte)
}

var _, _ socket = (*connected)(nil), (*listening)(nil)

// soft reports whether err is one that the network has told, which a
// connection outlives, and notes the first.
func (c *connected) soft(err error) bool {
	if err == nil || !isICMP(err) {
		return false
	}
	if c.established.Load() {
		return true
	}
	c.mu.Lock()
	first := c.refusal == nil
	if first {
		c.refusal = err
	}
	c.mu.Unlock()
	if first {
		c.refused()
	}
	return true
}

// why is the first ICMP error before the connection was established.
func (c *connected) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal
}

// WriteMsgUDP sends to the peer, the only address there is.
func (c *connected) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	c.note(b, oob, to)
	n, oobn, err = c.UDPConn.WriteMsgUDP(b, oob, nil)
	if c.soft(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// WriteTo sends to the peer.
func (c *connected) WriteTo(b []byte, to net.Addr) (int, error) {
	c.note(b, nil, to)
	n, err := c.Write(b)
	if c.soft(err) {
		return len(b), nil
	}
	return n, err
}

// WriteMsgUDP sends to a client.
func (l *listening) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	l.note(b, oob, to)
	return l.UDPConn.WriteMsgUDP(b, oob, to)
}

// WriteTo sends to a client.
func (l *listening) WriteTo(b []byte, to net.Addr) (int, error) {
	l.note(b, nil, to)
	return l.UDPConn.WriteTo(b, to)
}

// ReadBatch is how the library reads on most platforms (recvmmsg(2)).
func (c *connected) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := c.batch.ReadBatch(ms, flags)
		if !c.soft(err) {
			return n, err
		}
	}
}

// ReadMsgUDP is how it reads on others.
func (c *connected) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	for {
		n, oobn, flags, from, err = c.UDPConn.ReadMsgUDP(b, oob)
		if !c.soft(err) {
			return n, oobn, flags, from, err
		}
	}
}

// ReadFrom is how it reads on the rest.
func (c *connected) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for {
		n, from, err = c.UDPConn.ReadFrom(b)
		if !c.soft(err) {
			return n, from, err
		}
	}
}

// control binds a socket to a network interface before it has an address.
func control(device string) func(network, address string, rc syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) { err = bindToDevice(fd, device) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// dialSocket makes a socket to one address.
func dialSocket(ctx context.Context, device string, local, to netip.AddrPort) (*connected, error) {
	d := net.Dialer{Control: control(device)}
	if local.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	}
	nc, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return nil, err
	}
	c := nc.(*net.UDPConn)
	return &connected{UDPConn: c, batch: ipv4.NewPacketConn(c), refused: func() {}}, nil
}

// listenSocket makes a socket that listens.
func listenSocket(ctx context.Context, device, addr string, v6only bool) (*listening, error) {
	network := "udp"
	if v6only {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: control(device)}
	pc, err := lc.ListenPacket(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c, ok := pc.(*net.UDPConn)
	if !ok {
		pc.Close()
		return nil, errors.New("no UDP socket")
	}
	return &listening{UDPConn: c}, nil
}

// quiet keeps the library from writing to standard error that the kernel's
// limit of buffers (net.core.rmem_max) is below what it asks for; it takes
// what it gets.
var quiet = sync.OnceFunc(func() {
	const name = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"
	if _, set := os.LookupEnv(name); !set {
		_ = os.Setenv(name, "true")
	}
})

// newEndpoint puts the library on a socket; the caller is its first user.
func newEndpoint(s socket) (*endpoint, error) {
	quiet()
	// With a key the peer of a connection that we have forgotten is told so
	// (RFC 9000 section 10.3).
	var key quicgo.StatelessResetKey
	if _, err := rand.Read(key[:]); err != nil {
		return nil, err
	}
	return &endpoint{socket: s, tr: &quicgo.Transport{Conn: s, StatelessResetKey: &key}, users: 1}, nil
}
