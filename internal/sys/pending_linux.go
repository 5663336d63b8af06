//go:build anysock_portable

package sys

import "golang.org/x/sys/unix"

func unread(n uintptr) (int, error) { return unix.IoctlGetInt(int(n), unix.SIOCINQ) }

func pendingError(n uintptr) (int, error) {
	return unix.GetsockoptInt(int(n), unix.SOL_SOCKET, unix.SO_ERROR)
}
