//go:build linux && !anysock_portable

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Pipe of the pool carries bytes from one socket of a loop to another. It is
// to be filled only when it is empty: only then does splice say unambiguously
// that the source has nothing.
type Pipe = pipe

// RawPipe takes a pipe from the pool, or makes one. The error is want of
// descriptors or of pipe memory (pipe(7)).
func RawPipe() (*Pipe, error) { return getPipe() }

// Fill receives from a socket: 0 without an error is the peer's end,
// WouldBlock nothing for now.
func (p *pipe) Fill(fd int) (int, error) {
	n, err := RawSplice(fd, p.w, pipeSize)
	p.queued += n
	return n, err
}

// Flush sends what the pipe holds, as much as there is room for; WouldBlock is
// none.
func (p *pipe) Flush(fd int) (int, error) {
	n, err := RawSplice(p.r, fd, p.queued)
	p.queued -= n
	return n, err
}

// Take moves bytes of the pipe into b, for a socket that splice does not know.
func (p *pipe) Take(b []byte) (int, error) {
	b = b[:min(len(b), p.queued)]
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(p.r), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, e
		}
		p.queued -= int(n)
		return int(n), nil
	}
}

// Queued is how many bytes the pipe holds.
func (p *pipe) Queued() int { return p.queued }

// Release gives the pipe back; what it holds is discarded.
func (p *pipe) Release() { p.put() }
