package relay

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/anysock/anysock"
)

// This file is the transparent relay: a Target that ends in original: is where
// each connection was going before a firewall's rule redirected it to us. It
// refuses what would come back to the relay itself.

// ErrNotRedirected is the reason of a connection that was made to the relay
// itself, so that original: leads nowhere.
var ErrNotRedirected = errors.New("the connection was not redirected")

// ErrLoop is the reason of a connection that would come back to the relay: its
// destination is the relay's own address, or it was made by the relay.
var ErrLoop = errors.New("the connection would come back to this relay")

const originalScheme = "original"

// endsInOriginal reports whether the target must be found for each connection.
func endsInOriginal(a anysock.Address) bool {
	hops := a.Hops()
	if len(hops) == 0 {
		return false
	}
	layers := hops[len(hops)-1].Layers
	return layers[len(layers)-1].Scheme == originalScheme
}

// withOriginal is the address with the destination in place of original:. Its
// hops, layers and options stay.
func withOriginal(a anysock.Address, dst netip.AddrPort) (anysock.Address, error) {
	hops := a.Hops()
	texts := make([]string, len(hops))
	for i, h := range hops {
		texts[i] = h.String()
	}
	last := texts[len(texts)-1]
	words, rest, _ := strings.Cut(last, ":")
	if at := strings.IndexByte(rest, '?'); at >= 0 {
		rest = rest[at:]
	}
	// An option may name its layer.
	rest = strings.ReplaceAll(rest, "?"+originalScheme+".", "?tcp.")
	rest = strings.ReplaceAll(rest, "&"+originalScheme+".", "&tcp.")
	// A zone's % begins an escape in an address.
	where := strings.Replace(dst.String(), "%", "%25", 1)
	texts[len(texts)-1] = strings.TrimSuffix(words, originalScheme) + "tcp://" + where + rest
	return anysock.ParseAddress(strings.Join(texts, ","))
}

// A circle is what a relay knows of itself, to notice its own connections
// among those that are redirected to it.
type circle struct {
	mu  sync.Mutex
	own map[netip.AddrPort]int // local addresses of outbound sockets, and how often each is in use
}

func (c *circle) add(a netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		c.own = make(map[netip.AddrPort]int)
	}
	c.own[a]++
}

func (c *circle) remove(a netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own[a]--; c.own[a] <= 0 {
		delete(c.own, a)
	}
}

func (c *circle) has(a netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own[a] > 0
}

// original finds out where the connection was going, and the target that this
// makes.
func (s *session) original() (anysock.Address, error) {
	dst, err := s.in.OriginalDestination()
	local := addrPort(s.in.LocalAddr())
	switch {
	case err == nil && dst == local:
		return anysock.Address{}, refusal(local, ErrNotRedirected,
			"connect to the real destination and let a rule of the firewall redirect that, as docs/TRANSPARENT.md shows")
	case err != nil:
		return anysock.Address{}, err
	}
	to, err := withOriginal(s.r.Target, dst)
	if err != nil {
		return anysock.Address{}, err
	}
	s.rec.Target = to.String()
	if s.r.listensAt(dst) {
		return anysock.Address{}, refusal(dst, ErrLoop, "the destination is the relay's own: let the rule leave out its port")
	}
	return to, s.ownConnection()
}

// ownConnection is the error for a connection that this relay has made.
func (s *session) ownConnection() error {
	if peer := addrPort(s.in.RemoteAddr()); s.r.circle.has(peer) {
		return refusal(peer, ErrLoop, "the rule redirects the relay's own connections too: leave them out by user or by source address, as docs/TRANSPARENT.md shows")
	}
	return nil
}

func refusal(addr netip.AddrPort, reason error, hint string) error {
	return &anysock.Error{Op: anysock.OpConnect, Addr: "tcp:" + addr.String(), Kind: anysock.KindRefused, Err: reason, Hint: hint}
}

// watchCircle has the Dialer tell of the session's sockets, until the session
// is over, and calls loop when one of them shows that its client is ourselves.
//
// The client is asked after once before dialing and once after connecting:
// what the first look may have missed has had a round trip to be noted.
func (s *session) watchCircle(d *anysock.Dialer, loop func(error)) {
	told := d.OnConnected
	d.OnConnected = func(local, peer netip.AddrPort) {
		s.mu.Lock()
		s.sockets = append(s.sockets, local)
		s.mu.Unlock()
		s.r.circle.add(local)
		if err := s.ownConnection(); err != nil {
			loop(err)
		}
		if told != nil {
			told(local, peer)
		}
	}
}

// leaveCircle forgets the session's sockets.
func (s *session) leaveCircle() {
	for _, a := range s.sockets {
		s.r.circle.remove(a)
	}
}

// listensAt reports whether a connection to dst would come to one of our
// listeners.
func (r *Relay) listensAt(dst netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ln := range r.listeners {
		at := addrPort(ln.Addr())
		if at.Port() != dst.Port() || !at.IsValid() {
			continue
		}
		if at.Addr() == dst.Addr() || at.Addr().IsUnspecified() && isOurs(dst.Addr()) {
			return true
		}
	}
	return false
}

// isOurs reports whether an IP address is one of this machine's.
func isOurs(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false // what then comes back is noticed as our own connection
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == ip.WithZone("") {
				return true
			}
		}
	}
	return false
}

// addrPort is a TCP address, IPv4-mapped ones folded; the zero value for any
// other.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
