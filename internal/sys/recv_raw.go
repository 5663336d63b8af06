//go:build linux && (amd64 || arm64 || riscv64) && !race && !anysock_portable

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawLimit is the longest transfer made without telling the Go scheduler. A
// non-blocking call that moves this much takes some ten microseconds; longer
// ones go through the ordinary entry so that they do not hold a processor.
const rawLimit = 64 << 10

// recv is recv(2) on a non-blocking socket. The raw entry saves the
// scheduler's bookkeeping, which a small message notices (bench, Echo), and is
// sound because the call waits for nothing.
func recv(fd int, p []byte, flags int) (int, error) {
	if len(p) > rawLimit {
		return result(unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(flags), 0, 0))
	}
	return result(unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(flags), 0, 0))
}

// send is send(2) on a non-blocking socket, without SIGPIPE.
func send(fd int, p []byte) (int, error) {
	if len(p) > rawLimit {
		return result(unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0))
	}
	return result(unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0))
}

func result(n, _ uintptr, errno unix.Errno) (int, error) {
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN:
		return -1, errAgain // a preallocated interface value: this path is hot
	}
	return -1, errno
}
