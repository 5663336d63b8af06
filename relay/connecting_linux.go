//go:build linux && !anysock_portable

package relay

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file makes outbound sockets, as the Dialer says.

// A destination is an address of the target, in the kernel's form too.
type destination struct {
	sys.Addr
	dest *sys.Dest
	bad  error // why it has no such form
}

func destinations(addrs []sys.Addr) []*destination {
	var ds []*destination
	for _, a := range addrs {
		d := &destination{Addr: a}
		d.dest, d.bad = sys.NewDest(a)
		ds = append(ds, d)
	}
	return ds
}

// connect takes m as the outbound leg; false: it cannot be watched.
func (p *pair) connect(to *destination, m made) bool {
	out := &p.legs[1]
	p.to = to
	if err := out.loop().Add(&out.node, reactor.Handle(m.fd), watched); err != nil {
		reactor.Handle(m.fd).Reset()
		p.giveUp(bridge.OpError(anysock.OpWait, out.name(), err))
		return false
	}
	return true
}

// A made is a socket that connects.
type made struct {
	fd   int
	done bool // it is connected
	sent int  // bytes of the client's
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
	if err == nil && m.done && toItself(m.fd, to) {
		err = syscall.ECONNREFUSED
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
	for _, s := range dial.Settings {
		if err := sys.RawSetInt(fd, s.Option, s.Value); err != nil && !s.Tries && !errors.Is(err, errors.ErrUnsupported) {
			return bridge.OptionError(s, err)
		}
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

// toItself: TCP's simultaneous open can connect an ephemeral port to itself
// (RFC 9293 section 3.5): nobody listens there.
func toItself(fd int, to *destination) bool {
	if !to.Family.Inet() {
		return false
	}
	local := sys.RawSelf(fd)
	return local.Port() == to.IP.Port() && unmapped(local.Addr().IP) == unmapped(to.IP)
}

func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
