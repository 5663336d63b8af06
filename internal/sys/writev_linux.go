//go:build linux && !anysock_portable

package sys

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file sends several buffers by one call.

// maxVectors is the kernel's limit of buffers in one writev(2) (UIO_MAXIOV).
const maxVectors = 1024

// Writev sends all of bufs with as few calls as possible (writev(2)) and
// leaves bufs alone. When it returns fewer bytes the error says why.
func (fd *FD) Writev(bufs [][]byte) (int64, error) {
	g := gatherers.Get().(*gatherer)
	g.fd, g.bufs = fd, bufs
	err := fd.rc.Write(g.readyFn)
	total, werr := g.total, g.err
	g.reset()
	gatherers.Put(g)
	if err != nil {
		return total, fd.fileError(err)
	}
	return total, werr
}

// A gatherer is one Writev at work.
type gatherer struct {
	fd      *FD
	bufs    [][]byte // what is left, but for done bytes of the first
	done    int
	total   int64
	err     error
	vectors []unix.Iovec
	readyFn func(uintptr) bool // ready, made once
}

var gatherers = sync.Pool{New: func() any {
	g := new(gatherer)
	g.readyFn = g.ready
	return g
}}

// reset forgets everything but the room for vectors.
func (g *gatherer) reset() {
	clear(g.vectors)
	*g = gatherer{vectors: g.vectors[:0], readyFn: g.readyFn}
}

// ready sends until everything is out, the socket is full (false waits) or an
// error.
func (g *gatherer) ready(uintptr) bool {
	for {
		g.gather()
		if len(g.vectors) == 0 {
			return true
		}
		n, err := -1, check(CallSendv, g.fd.Num())
		if err == nil {
			n, err = writev(g.fd.Num(), g.vectors)
		}
		switch err {
		case nil:
			g.total += int64(n)
			g.drop(n)
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			g.err = err
			return true
		}
	}
}

// gather makes vectors of what is left, as many as one call takes.
func (g *gatherer) gather() {
	g.vectors = g.vectors[:0]
	skip := g.done
	for _, b := range g.bufs {
		if b = b[skip:]; len(b) > 0 {
			v := unix.Iovec{Base: &b[0]}
			v.SetLen(len(b))
			g.vectors = append(g.vectors, v)
		}
		skip = 0
		if len(g.vectors) == maxVectors {
			return
		}
	}
}

// drop counts n bytes as sent.
func (g *gatherer) drop(n int) {
	g.done += n
	for len(g.bufs) > 0 && g.done >= len(g.bufs[0]) {
		g.done -= len(g.bufs[0])
		g.bufs = g.bufs[1:]
	}
}

// writev is writev(2) with vectors that were made already.
func writev(fd int, vectors []unix.Iovec) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vectors[0])), uintptr(len(vectors)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
