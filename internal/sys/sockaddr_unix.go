//go:build (linux || darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// sockaddr is a for the kernel. A zone is an interface name or a number.
func (a Addr) sockaddr() (unix.Sockaddr, error) {
	switch a.Family {
	case Unix:
		return &unix.SockaddrUnix{Name: a.Path}, nil
	case Inet4:
		return &unix.SockaddrInet4{Port: int(a.IP.Port()), Addr: a.IP.Addr().Unmap().As4()}, nil
	case Inet6:
		sa := &unix.SockaddrInet6{Port: int(a.IP.Port()), Addr: a.IP.Addr().As16()}
		if zone := a.IP.Addr().Zone(); zone != "" {
			id, err := zoneID(zone)
			if err != nil {
				return nil, err
			}
			sa.ZoneId = id
		}
		return sa, nil
	case Vsock:
		return vsockSockaddr(a)
	}
	return nil, unix.EAFNOSUPPORT
}

func zoneID(zone string) (uint32, error) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, &net.AddrError{Err: "no such interface", Addr: zone}
	}
	return uint32(ifi.Index), nil
}

func fromSockaddr(sa unix.Sockaddr) (Addr, error) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return Addr{Family: Inet4, IP: netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))}, nil
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 && !ip.Is4In6() {
			zone := strconv.FormatUint(uint64(sa.ZoneId), 10)
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				zone = ifi.Name
			}
			ip = ip.WithZone(zone)
		}
		return Addr{Family: Inet6, IP: netip.AddrPortFrom(ip, uint16(sa.Port))}, nil
	case *unix.SockaddrUnix:
		return Addr{Family: Unix, Path: sa.Name}, nil
	}
	return fromVsock(sa)
}
