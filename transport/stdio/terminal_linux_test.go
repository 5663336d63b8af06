package stdio

import (
	"os"
	"syscall"
	"unsafe"
)

// unlockTerminal makes the other side of a /dev/ptmx usable and returns its
// number (pts(4), ioctl_tty(2)).
func unlockTerminal(f *os.File) (int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n, zero int32
	var errno syscall.Errno
	err = rc.Control(func(fd uintptr) {
		if _, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&zero))); errno == 0 {
			_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPTN, uintptr(unsafe.Pointer(&n)))
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return int(n), err
}
