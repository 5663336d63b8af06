// This file asks how many bytes are in a pipe.

package stdio

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// queued is the number of bytes in a pipe or a terminal's queue (FIONREAD,
// ioctl_tty(2); pipe(7): at either end).
func queued(f *os.File) (int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int32
	var errno syscall.Errno
	err = rc.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return 0, errors.Join(errors.ErrUnsupported, err)
	}
	return int(n), nil
}
