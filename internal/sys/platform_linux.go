//go:build linux && !anysock_portable

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// optionsInherited: an accepted socket has the options of its listener (tcp(7)).
const optionsInherited = true

func openSocket(domain int) (int, error) {
	return unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func accept(l int) (int, unix.Sockaddr, error) {
	return unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

func platformOption(o Option) (level, name int, ok bool) {
	switch o {
	case BindNoPort:
		return unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, true
	case KeepIdle:
		return unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, true
	case KeepInterval:
		return unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, true
	case KeepCount:
		return unix.IPPROTO_TCP, unix.TCP_KEEPCNT, true
	case MaxRetransmit:
		return unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, true
	}
	return 0, 0, false
}

// bindToInterface is SO_BINDTODEVICE (socket(7)).
func bindToInterface(n int, _ Family, name string) error {
	return unix.BindToDevice(n, name)
}

func unread(n int) (int, error) { return unix.IoctlGetInt(n, unix.SIOCINQ) }

// resetNow dissolves a connection: connect(2) with AF_UNSPEC, which on TCP sends
// the reset that a close would not. It reports whether that was done.
func resetNow(n int) bool {
	if check(CallReset, n) != nil {
		return false
	}
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(n), uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet4)
	return e == 0
}

func setMode(n int, mode uint32) error { return unix.Fchmod(n, mode) }
