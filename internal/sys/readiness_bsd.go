//go:build (darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// This file holds the one look that listeners need where there is no epoll.

// Readiness looks at a listener without waiting (poll(2)): Readable is that
// somebody waits. Of a connection it says ErrUnsupported, as the Poller does
// here: one look is of no use without a wait.
func (fd *FD) Readiness() (Ready, error) {
	var r Ready
	err := fd.control(func(n int) error {
		if v, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil {
			return err
		} else if v == 0 {
			return errors.ErrUnsupported
		}
		p := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
		err := retryEINTR(func() error {
			if err := check(CallPoll, n); err != nil {
				return err
			}
			_, err := unix.Poll(p, 0)
			return err
		})
		if p[0].Revents != 0 {
			r = Readable
		}
		return err
	})
	return r, err
}
