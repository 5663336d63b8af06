package sys

import (
	"net"
	"net/netip"
	"strconv"
)

// Family is the protocol family of a socket.
type Family uint8

// The families a Socket can have.
const (
	Inet4 Family = iota + 1
	Inet6
	Unix
	Vsock
)

// Inet reports whether it is one of the families of TCP.
func (f Family) Inet() bool { return f == Inet4 || f == Inet6 }

// Addr is the address of one end of a kernel socket: an IP address with a
// port (the zone is part of the address), a Unix socket's path, or a machine's
// context identifier with a port (vsock(7)). An abstract Unix name begins with
// '@'; the empty path is an unnamed socket.
type Addr struct {
	Family    Family
	IP        netip.AddrPort
	Path      string
	CID, Port uint32 // Vsock's
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

// VsockAny is every context identifier, or any port (VMADDR_CID_ANY,
// VMADDR_PORT_ANY, vsock(7)).
const VsockAny = 1<<32 - 1

// VsockAddr is the Addr of a machine's context identifier and a port.
func VsockAddr(cid, port uint32) Addr { return Addr{Family: Vsock, CID: cid, Port: port} }

// A vsockAddr is a vsock address for package net's interface.
type vsockAddr struct{ cid, port uint32 }

func (vsockAddr) Network() string { return "vsock" }

// String is CID:PORT, without the CID where it is any.
func (a vsockAddr) String() string {
	port := ":" + strconv.FormatUint(uint64(a.port), 10)
	if a.cid == VsockAny {
		return port
	}
	return strconv.FormatUint(uint64(a.cid), 10) + port
}

// Net is the address as package net has it: a *net.TCPAddr with an
// IPv4-mapped address folded to IPv4, or a *net.UnixAddr. A vsock address,
// which package net does not know, prints as in an address of ours.
func (a Addr) Net() net.Addr {
	switch a.Family {
	case Unix:
		return &net.UnixAddr{Name: a.Path, Net: "unix"}
	case Vsock:
		return vsockAddr{a.CID, a.Port}
	}
	ap := a.IP
	if ap.Addr().Is4In6() {
		ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return net.TCPAddrFromAddrPort(ap)
}
