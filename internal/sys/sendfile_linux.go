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

// maxVectors is the kernel's limit of buffers in one writev(2) (UIO_MAXIOV).
const maxVectors = 1024

// Writev sends all of bufs with as few calls as possible (writev(2)) and
// leaves bufs alone. When it returns fewer bytes the error says why.
func (fd *FD) Writev(bufs [][]byte) (int64, error) {
	var total int64
	rest := make([][]byte, 0, min(len(bufs), maxVectors))
	next := 0
	var werr error
	err := fd.rc.Write(func(out uintptr) bool {
		for {
			for len(rest) < maxVectors && next < len(bufs) {
				if len(bufs[next]) > 0 {
					rest = append(rest, bufs[next])
				}
				next++
			}
			if len(rest) == 0 {
				return true
			}
			var m int
			if werr = check(CallSendv, int(out)); werr == nil {
				m, werr = unix.Writev(int(out), rest)
			}
			switch werr {
			case nil:
			case unix.EAGAIN:
				werr = nil
				return false
			case unix.EINTR:
				continue
			default:
				return true
			}
			total += int64(m)
			for m > 0 {
				if m < len(rest[0]) {
					rest[0] = rest[0][m:]
					break
				}
				m -= len(rest[0])
				rest = rest[1:]
			}
		}
	})
	if err != nil {
		return total, fd.fileError(err)
	}
	return total, werr
}
