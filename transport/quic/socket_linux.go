package quic

import (
	"os"
	"syscall"
)

// bindToDevice wraps SO_BINDTODEVICE of socket(7), which needs CAP_NET_RAW if
// the socket is bound to another device already.
func bindToDevice(fd uintptr, device string) error {
	return os.NewSyscallError("setsockopt", syscall.BindToDevice(int(fd), device))
}
