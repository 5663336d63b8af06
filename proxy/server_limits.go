// This file holds the server's named bounds, and counts what each client has.

package proxy

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// The named bounds of a Server. In its fields zero means the default and
// negative means none, unless the field says otherwise.
const (
	DefaultHandshake           = anysock.DefaultHandshake // everything before data: request, login, connecting, reply
	DefaultHandshakes          = 1024                     // clients whose request is not read yet; further ones wait in the backlog
	DefaultHandshakesPerClient = 64                       // of them, of one client; further ones are reset
	DefaultMaxConns            = 10_000                   // connections at once; further ones wait in the backlog
	DefaultMaxConnsPerClient   = 1024                     // of them, of one client; further ones are reset
	DefaultRatePerClient       = 100                      // new connections a second of one client, over ten seconds; further ones are reset
	DefaultDrain               = 30 * time.Second         // Shutdown: until what still runs is aborted
	DefaultBindTimeout         = 60 * time.Second         // BIND: until the expected caller has called
	DefaultPasswordChecks      = 2                        // passwords being checked at once; further ones wait their turn
)

// replyReserve is the part of the handshake's time that is kept for the reply
// when connecting takes too long, so that it still arrives in time.
const replyReserve = 20 // a twentieth

// bindBacklog is how many callers may wait while another is looked at.
const bindBacklog = 16

// orDefault is v, or def if v is zero.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// A client is who asked, as far as limits and rules can tell clients apart.
type client struct {
	ip    netip.Addr // unmapped, without a zone; invalid if the carrier has none
	local bool       // on this machine
}

// clientOf is the client behind a connection.
func clientOf(remote net.Addr) client {
	if tcp, ok := remote.(*net.TCPAddr); ok {
		ip := tcp.AddrPort().Addr().Unmap().WithZone("")
		return client{ip: ip, local: ip.IsLoopback()}
	}
	return client{local: isLocalNetwork(remote)}
}

// isLocalNetwork knows the carriers whose other end is on this machine.
// Whatever is not known is taken for remote.
func isLocalNetwork(a net.Addr) bool {
	if a == nil {
		return false
	}
	switch a.Network() {
	case "unix", "mem", "stdio", "fd", "exec", "pipe":
		return true
	}
	return false
}

// clientBits6 is the part of an IPv6 address that counts as one client: the
// rest is the client's to choose.
const clientBits6 = 64

// key is what a client is counted under.
func (c client) key() netip.Addr {
	if c.ip.Is6() {
		if p, err := c.ip.Prefix(clientBits6); err == nil {
			return p.Addr()
		}
	}
	return c.ip
}

// A tally counts what each client has at the time. It holds no client that has
// nothing.
type tally struct {
	mu  sync.Mutex
	num map[netip.Addr]int
}

// take adds one for c, or reports false if it has its share. limit and def are
// a Server's field and its default. Clients on this machine share an address,
// and clients without one have nothing to tell them apart: the default is not
// for them, a limit that was set counts for every client with an address.
func (t *tally) take(c client, limit, def int) bool {
	if limit == 0 && !c.local {
		limit = def
	}
	key := c.key()
	if !key.IsValid() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if limit > 0 && t.num[key] >= limit {
		return false
	}
	if t.num == nil {
		t.num = make(map[netip.Addr]int)
	}
	t.num[key]++
	return true
}

// give takes one back that take has added.
func (t *tally) give(c client) {
	key := c.key()
	if !key.IsValid() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.num[key]--; t.num[key] == 0 {
		delete(t.num, key)
	}
}
