//go:build linux && !anysock_portable

package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// vsockDomain is the protocol family of vsock(7), 0 where there is none.
const vsockDomain = unix.AF_VSOCK

func vsockSockaddr(a Addr) (unix.Sockaddr, error) {
	return &unix.SockaddrVM{CID: a.CID, Port: a.Port}, nil
}

func fromVsock(sa unix.Sockaddr) (Addr, error) {
	if vm, ok := sa.(*unix.SockaddrVM); ok {
		return VsockAddr(vm.CID, vm.Port), nil
	}
	return Addr{}, unix.EAFNOSUPPORT
}

// SetVsockConnectTimeout bounds a connect (SO_VM_SOCKETS_CONNECT_TIMEOUT;
// linux/vm_sockets.h), for which the kernel allows 2 s if nobody asks.
func (s *Socket) SetVsockConnectTimeout(d time.Duration) error {
	if err := check(CallSetsockopt, s.n); err != nil {
		return err
	}
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return unix.SetsockoptTimeval(s.n, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &tv)
}
