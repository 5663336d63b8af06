//go:build (linux || darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// optionNames maps an Option to its level and name; platformOptions adds what
// only some platforms have.
func optionName(o Option) (level, name int, ok bool) {
	switch o {
	case ReuseAddr:
		return unix.SOL_SOCKET, unix.SO_REUSEADDR, true
	case ReusePort:
		return unix.SOL_SOCKET, unix.SO_REUSEPORT, true
	case ReceiveBuffer:
		return unix.SOL_SOCKET, unix.SO_RCVBUF, true
	case SendBuffer:
		return unix.SOL_SOCKET, unix.SO_SNDBUF, true
	case LowWater:
		return unix.SOL_SOCKET, unix.SO_RCVLOWAT, true
	case KeepAlive:
		return unix.SOL_SOCKET, unix.SO_KEEPALIVE, true
	case V6Only:
		return unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, true
	case NoDelay:
		return unix.IPPROTO_TCP, unix.TCP_NODELAY, true
	}
	return platformOption(o)
}

func setInt(n int, o Option, v int) error {
	if err := check(CallSetsockopt, n); err != nil {
		return err
	}
	level, name, ok := optionName(o)
	if !ok {
		return errors.ErrUnsupported
	}
	return unix.SetsockoptInt(n, level, name, v)
}

func getInt(n int, o Option) (int, error) {
	level, name, ok := optionName(o)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return unix.GetsockoptInt(n, level, name)
}
