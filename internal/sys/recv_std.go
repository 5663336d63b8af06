//go:build (linux || darwin || freebsd || netbsd || openbsd || dragonfly) && (!linux || race || !(amd64 || arm64 || riscv64)) && !anysock_portable

package sys

import "golang.org/x/sys/unix"

// recv is recv(2) on a non-blocking socket. Without flags it is read(2),
// which carries the race detector's annotations.
func recv(fd int, p []byte, flags int) (int, error) {
	if flags == 0 {
		return unix.Read(fd, p)
	}
	n, _, err := unix.Recvfrom(fd, p, flags)
	return n, err
}

// send is write(2) on a non-blocking socket: the Go runtime ignores SIGPIPE
// on every descriptor but 1 and 2.
func send(fd int, p []byte) (int, error) { return unix.Write(fd, p) }
