//go:build (linux || darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// LockDir waits for an exclusive lock of a directory (flock(2)) and returns
// what releases it. It leaves no file behind.
func LockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := retryEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return func() { f.Close() }, nil
}
