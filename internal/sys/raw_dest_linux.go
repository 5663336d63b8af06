//go:build linux && !anysock_portable

package sys

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Dest is an address to connect to in the kernel's form, made once for many
// connects.
type Dest struct {
	family Family
	size   uint32
	raw    unix.RawSockaddrAny
}

// NewDest makes it. The errors are those of an address that makes no sense:
// an unknown zone, a path that is too long.
func NewDest(a Addr) (*Dest, error) {
	d := &Dest{family: a.Family}
	if a.Family == Inet6 && a.IP.Addr().Is4In6() { // as a connect through a dual-stack socket would
		a.Family, d.family = Inet4, Inet4
	}
	sa, err := a.sockaddr()
	if err != nil {
		return nil, err
	}
	port := func(p int) uint16 { return swap(uint16(p)) }
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&d.raw))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port(sa.Port), Addr: sa.Addr}
		d.size = unix.SizeofSockaddrInet4
	case *unix.SockaddrInet6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&d.raw))
		*in = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port(sa.Port), Addr: sa.Addr, Scope_id: sa.ZoneId}
		d.size = unix.SizeofSockaddrInet6
	case *unix.SockaddrUnix:
		un := (*unix.RawSockaddrUnix)(unsafe.Pointer(&d.raw))
		un.Family = unix.AF_UNIX
		name := sa.Name
		if len(name) >= len(un.Path) || name == "" {
			return nil, unix.EINVAL
		}
		for i := range len(name) {
			un.Path[i] = int8(name[i])
		}
		d.size = uint32(2 + len(name) + 1) // the family, and the zero at the end
		if strings.HasPrefix(name, "@") {  // abstract: a zero in front, none at the end
			un.Path[0] = 0
			d.size--
		}
	default:
		return nil, unix.EAFNOSUPPORT
	}
	return d, nil
}

// Family is the family of the socket that can connect to it.
func (d *Dest) Family() Family { return d.family }

// RawSocket makes a stream socket: non-blocking, closed on exec.
func RawSocket(f Family) (int, error) {
	if err := check(CallSocket, -1); err != nil {
		return -1, err
	}
	n, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(domain(f)), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// RawConnect starts connecting. done means that it is connected already, as a
// Unix socket is at once; else the socket becomes writable when it is or has
// failed (RawConnectError).
func RawConnect(fd int, d *Dest) (done bool, err error) {
	if err := check(CallConnect, fd); err != nil {
		return false, err
	}
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&d.raw)), uintptr(d.size))
	switch e {
	case 0, unix.EISCONN:
		return true, nil
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR: // an interrupted one goes on (connect(2))
		return false, nil
	}
	return false, e
}
