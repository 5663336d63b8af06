package sys

// This file asks a socket that is package net's what package net does not tell:
// what waits to be received, and the error that nobody has taken.

import (
	"syscall"
	"unsafe"
)

// unread asks how much waits to be received (ioctlsocket of winsock, FIONREAD).
func unread(n uintptr) (int, error) {
	const fionread = 0x4004667f
	var v, size uint32
	err := syscall.WSAIoctl(syscall.Handle(n), fionread, nil, 0, (*byte)(unsafe.Pointer(&v)), uint32(unsafe.Sizeof(v)), &size, nil, 0)
	return int(v), err
}

// pendingError reads and thereby consumes SO_ERROR.
func pendingError(n uintptr) (int, error) {
	const soError = 0x1007 // winsock2.h
	return syscall.GetsockoptInt(syscall.Handle(n), syscall.SOL_SOCKET, soError)
}
