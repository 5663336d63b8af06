//go:build linux && !anysock_portable

package relay

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file makes outbound sockets, as the Dialer says.

// A destination is an address of the target, in the kernel's form and as text
// too.
type destination struct {
	sys.Addr
	network, text string
	dest          *sys.Dest
	bad           error // why it has no such form
	// usual is the address, without the port, that the first connection to it
	// came from; nearly all others come from there too.
	usual atomic.Pointer[sys.RawAddr]
}

func destinations(addrs []sys.Addr) []*destination {
	var ds []*destination
	for _, a := range addrs {
		d := &destination{Addr: a}
		d.dest, d.bad = sys.NewDest(a)
		d.network, d.text = a.Net().Network(), addrString(a)
		ds = append(ds, d)
	}
	return ds
}

// connect takes m as the outbound leg; false: it cannot be watched.
func (p *pair) connect(to *destination, m made) bool {
	out := &p.legs[1]
	p.to = to
	if m.young {
		p.flags |= young | nagling
	}
	p.notice(m.local)
	if err := out.loop().Add(&out.node, reactor.Handle(m.fd), watched); err != nil {
		reactor.Handle(m.fd).Reset()
		p.giveUp(bridge.OpError(anysock.OpWait, out.name(), err))
		return false
	}
	return true
}

// notice takes note of the outbound leg's own address.
func (p *pair) notice(local sys.RawAddr) {
	if local.Port() == 0 {
		return
	}
	host := local.WithPort(0)
	if p.to.usual.Load() == nil {
		first := host
		p.to.usual.CompareAndSwap(nil, &first)
	}
	if *p.to.usual.Load() == host {
		p.port = local.Port()
	}
}

// A made is a socket that connects.
type made struct {
	fd    int
	done  bool // it is connected
	young bool // the postponed options are not set
	sent  int  // bytes of the client's
	local sys.RawAddr
}

// connect makes a socket as the Dialer says and begins to connect it. On this
// machine that is done when it returns, and then first was sent, with the last
// segment of the handshake.
func (core *core) connect(to *destination, first []byte) (m made, err error) {
	dial := core.e.dial
	if to.bad != nil {
		return m, to.bad
	}
	if m.fd, err = sys.RawSocket(to.dest.Family()); err != nil {
		return m, bridge.OpError(anysock.OpSocket, dial.Network, err)
	}
	if err = core.prepare(m.fd, to); err == nil {
		if len(first) > 0 && !dial.Unix {
			sys.RawHoldAck(m.fd)
		}
		m.done, err = sys.RawConnect(m.fd, to.dest)
		switch {
		case err != nil || m.done:
		case len(first) > 0:
			if m.sent, err = sys.RawSend(m.fd, first); errors.Is(err, sys.ErrWouldBlock) || sys.ClassOf(err) == sys.Exhausted {
				err = nil
			}
			m.done = m.sent > 0
		default:
			m.done, err = sys.RawConnect(m.fd, to.dest)
		}
	}
	switch {
	case err != nil:
	case !m.done: // it takes its time
		err = set(m.fd, core.e.options.postponed())
	default:
		m.young = core.e.options.some()
		m.local, err = connected(m.fd, to)
	}
	if err != nil {
		sys.RawClose(m.fd)
		return made{}, err
	}
	return m, nil
}

// prepare sets a new socket up.
func (core *core) prepare(fd int, to *destination) error {
	dial := core.e.dial
	if err := set(fd, core.e.options.first); err != nil {
		return err
	}
	if dial.Interface != "" && !dial.Unix {
		if err := sys.RawSetInterface(fd, dial.Interface); err != nil {
			return bridge.OpError(anysock.OpOption, "interface="+dial.Interface, err)
		}
	}
	if dial.Local == nil {
		return nil
	}
	local := dial.Local(to.Addr)
	if local.IP.Port() == 0 {
		_ = sys.RawSetInt(fd, sys.BindNoPort, 1) // more ports to choose from; without it the choice is smaller
	}
	if err := sys.RawBind(fd, *local); err != nil {
		return bridge.OpError(anysock.OpBind, local.Net().String(), err)
	}
	return nil
}

// set sets options.
func set(fd int, settings []bridge.Setting) error {
	for _, s := range settings {
		if err := sys.RawSetInt(fd, s.Option, s.Value); err != nil && !s.Tries && !errors.Is(err, errors.ErrUnsupported) {
			return bridge.OptionError(s, err)
		}
	}
	return nil
}

// connected looks where a new connection comes from. TCP's simultaneous open can
// connect an ephemeral port to itself (RFC 9293 section 3.5): nobody listens
// there.
func connected(fd int, to *destination) (local sys.RawAddr, err error) {
	if !to.Family.Inet() {
		return local, nil
	}
	local = sys.RawSelf(fd)
	if local.Port() == to.IP.Port() && unmapped(local.Addr().IP) == unmapped(to.IP) {
		return local, syscall.ECONNREFUSED
	}
	return local, nil
}

func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
