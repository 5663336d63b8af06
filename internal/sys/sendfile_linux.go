//go:build linux && !anysock_portable

package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// maxSendfile bounds one sendfile(2), so that a deadline is met between calls.
const maxSendfile = 4 << 20

// Sendfile sends at most n bytes (all there are if n is negative) of a
// regular file from its offset, which it advances (sendfile(2)). It says
// ErrUnsupported, having sent nothing, for anything but a regular file.
func (fd *FD) Sendfile(src *os.File, n int64, sent func(int)) error {
	fi, err := src.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return errors.ErrUnsupported
	}
	frc, err := src.SyscallConn()
	if err != nil {
		return errors.ErrUnsupported
	}
	var serr error
	first := true
	cerr := frc.Control(func(in uintptr) {
		err := fd.rc.Write(func(out uintptr) bool {
			for n != 0 {
				chunk := int64(maxSendfile)
				if n > 0 {
					chunk = min(chunk, n)
				}
				var m int
				if serr = check(CallSendfile, int(out)); serr == nil {
					m, serr = unix.Sendfile(int(out), int(in), nil, int(chunk))
				}
				switch serr {
				case nil:
				case unix.EAGAIN:
					return false
				case unix.EINTR:
					continue
				case unix.EINVAL, unix.ENOSYS, unix.EOVERFLOW:
					// The file system cannot; the caller copies.
					if first {
						serr = errors.ErrUnsupported
					}
					return true
				default:
					return true
				}
				if m == 0 {
					return true
				}
				first = false
				sent(m)
				if n > 0 {
					n -= int64(m)
				}
			}
			return true
		})
		if err != nil {
			serr = fd.fileError(err)
		}
	})
	if cerr != nil {
		return os.ErrClosed
	}
	return serr
}
