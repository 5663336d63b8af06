//go:build linux && !anysock_portable

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file has what a loop needs to make connections, beside RawSocket and
// RawConnect.

// RawBind names a socket (bind(2)).
func RawBind(fd int, a Addr) error {
	if err := check(CallBind, fd); err != nil {
		return err
	}
	sa, err := a.sockaddr()
	if err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

// RawSetInterface binds a socket to a network interface by name
// (SO_BINDTODEVICE, socket(7)).
func RawSetInterface(fd int, name string) error {
	if err := check(CallSetsockopt, fd); err != nil {
		return err
	}
	return unix.BindToDevice(fd, name)
}

// RawHoldAck lets the last acknowledgement of a TCP handshake ride on the
// first bytes (TCP_QUICKACK off, tcp(7)): a segment less, where bytes are at
// hand. Without bytes it would keep the peer waiting.
func RawHoldAck(fd int) {
	// It spares work; nothing is lost where it fails.
	_ = rawSetsockopt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, unsafe.Pointer(&[1]int32{}), 4)
}

// RawSelf is a socket's own address (getsockname(2)), without the path of a Unix
// socket; the zero RawAddr if that cannot be known.
func RawSelf(fd int) RawAddr {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return RawAddr{}
	}
	return rawAddr(&sa)
}

// Port is a TCP address's port.
func (a RawAddr) Port() uint16 { return a.port }

// WithPort is the address with another port.
func (a RawAddr) WithPort(port uint16) RawAddr {
	a.port = port
	return a
}
