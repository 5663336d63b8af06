//go:build (darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"errors"
	"net"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// optionsInherited: which options an accepted socket has differs, so that all are
// set again.
const optionsInherited = false

// openSocket and accept set the flags under the fork lock, since not every
// one of these platforms can set them in the same call.
func openSocket(domain int) (int, error) {
	syscall.ForkLock.RLock()
	n, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(n)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(n, true); err != nil {
		unix.Close(n)
		return -1, err
	}
	return n, nil
}

func accept(l int) (int, unix.Sockaddr, error) {
	syscall.ForkLock.RLock()
	n, sa, err := unix.Accept(l)
	if err == nil {
		unix.CloseOnExec(n)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, nil, err
	}
	if err := unix.SetNonblock(n, true); err != nil {
		unix.Close(n)
		return -1, nil, err
	}
	return n, sa, nil
}

// bindToInterface is IP_BOUND_IF, which only macOS has among these.
func bindToInterface(n int, family Family, name string) error {
	if runtime.GOOS != "darwin" {
		return errors.ErrUnsupported
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	const ipBoundIf, ipv6BoundIf = 25, 125 // netinet/in.h, netinet6/in6.h
	if family == Inet6 {
		return unix.SetsockoptInt(n, unix.IPPROTO_IPV6, ipv6BoundIf, ifi.Index)
	}
	return unix.SetsockoptInt(n, unix.IPPROTO_IP, ipBoundIf, ifi.Index)
}

func unread(n int) (int, error) {
	const fionread = 0x4004667f // sys/filio.h: _IOR('f', 127, int)
	return unix.IoctlGetInt(n, fionread)
}

// resetNow cannot be done here.
func resetNow(int) bool { return false }

// setMode cannot be done here: fchmod(2) takes no socket.
func setMode(int, uint32) error { return errors.ErrUnsupported }
