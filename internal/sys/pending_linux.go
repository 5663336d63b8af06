//go:build anysock_portable

package sys

// This file asks a socket that is package net's what package net does not tell:
// what waits to be received, and the error that nobody has taken.

import "golang.org/x/sys/unix"

func unread(n uintptr) (int, error) { return unix.IoctlGetInt(int(n), unix.SIOCINQ) }

func pendingError(n uintptr) (int, error) {
	return unix.GetsockoptInt(int(n), unix.SOL_SOCKET, unix.SO_ERROR)
}
