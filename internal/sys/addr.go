package sys

import (
	"net"
	"net/netip"
)

// Family is the protocol family of a socket.
type Family int

// The families a Socket can have.
const (
	Inet4 Family = iota + 1
	Inet6
	Unix
)

// Addr is the address of one end of a kernel socket: an IP address with a
// port (the zone is part of the address), or a Unix socket's path. An
// abstract Unix name begins with '@'; the empty path is an unnamed socket.
type Addr struct {
	Family Family
	IP     netip.AddrPort
	Path   string
}

// IPAddr is the Addr of an IP address and port. An IPv4-mapped address keeps
// its form.
func IPAddr(ap netip.AddrPort) Addr {
	if ap.Addr().Is4() {
		return Addr{Family: Inet4, IP: ap}
	}
	return Addr{Family: Inet6, IP: ap}
}

// UnixAddr is the Addr of a Unix socket path or, with a leading '@', of an
// abstract name.
func UnixAddr(path string) Addr { return Addr{Family: Unix, Path: path} }

// Net is the address as package net has it: a *net.TCPAddr with an
// IPv4-mapped address folded to IPv4, or a *net.UnixAddr.
func (a Addr) Net() net.Addr {
	if a.Family == Unix {
		return &net.UnixAddr{Name: a.Path, Net: "unix"}
	}
	ap := a.IP
	if ap.Addr().Is4In6() {
		ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return net.TCPAddrFromAddrPort(ap)
}
