// This file bounds the connections of a listener that have no stream yet, in
// all and for each address.

package quic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	quicgo "github.com/quic-go/quic-go"
)

// A gate counts the connections of a listener from their first packet until
// their first stream, or their end.
type gate struct {
	mu    *sync.Mutex
	all   *int
	peers map[netip.Prefix]int
}

func newGate() gate {
	return gate{mu: new(sync.Mutex), all: new(int), peers: make(map[netip.Prefix]int)}
}

// A ticket is one connection's place.
type ticket struct {
	g    gate
	peer netip.Prefix
	once sync.Once
}

type ticketKey struct{}

var (
	errNoRoom = errors.New("too many handshakes at work")
	errClosed = errors.New("the listener is closed")
)

// peerOf is what counts as one address: of IPv6 the network, since every
// client has a whole one to choose from.
func peerOf(a net.Addr) netip.Prefix {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := u.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // the zero Prefix of an invalid address is a fine key
	return p
}

// suspect says whether an address has to be proved before a connection is
// made for it, whichever it is: with many handshakes at work most may come from
// forged ones.
func (g gate) suspect(net.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.all >= retryHandshakes
}

// enter gives a connection its place.
func (g gate) enter(a net.Addr) (*ticket, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := peerOf(a)
	if *g.all >= maxHandshakes || g.peers[p] >= maxHandshakesPerPeer {
		return nil, errNoRoom
	}
	*g.all++
	g.peers[p]++
	return &ticket{g: g, peer: p}, nil
}

// leave gives the place back, once.
func (t *ticket) leave() {
	if t == nil {
		return
	}
	t.once.Do(func() {
		t.g.mu.Lock()
		defer t.g.mu.Unlock()
		*t.g.all--
		if t.g.peers[t.peer]--; t.g.peers[t.peer] == 0 {
			delete(t.g.peers, t.peer)
		}
	})
}

// enter is the library's question about a new connection; an error refuses it.
func (l *listener) enter(ctx context.Context, info *quicgo.ClientInfo) (context.Context, error) {
	if l.isClosed() {
		return nil, errClosed
	}
	t, err := l.gate.enter(info.RemoteAddr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, t.leave)
	return context.WithValue(ctx, ticketKey{}, t), nil
}
