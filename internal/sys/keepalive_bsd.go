//go:build (freebsd || netbsd || dragonfly) && !anysock_portable

package sys

import "golang.org/x/sys/unix"

func platformOption(o Option) (level, name int, ok bool) {
	switch o {
	case KeepIdle:
		return unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, true
	case KeepInterval:
		return unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, true
	case KeepCount:
		return unix.IPPROTO_TCP, unix.TCP_KEEPCNT, true
	}
	return 0, 0, false
}
