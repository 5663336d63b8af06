//go:build linux && !anysock_portable

package sys

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a pipe of the pool asks for. Larger than the kernel's
	// default 64 KiB it moves more per call; Go's own splice asks for as much. Where
	// the per-user limit of pipe pages is reached the kernel gives less.
	pipeSize = 1 << 20
	// minPipe is the least that is worth having: the kernel's default.
	minPipe = 64 << 10
	// maxIdlePipes bounds the pipes kept between transfers.
	maxIdlePipes = 16
	// smallRead is tried with recv and send before splice: a small message
	// costs less copied once than passed through a pipe.
	smallRead = 16 << 10
)

var pipes struct {
	sync.Mutex
	idle []*pipe
}

var smallBuffers = sync.Pool{New: func() any { return new([smallRead]byte) }}

// A pipe carries pages between two sockets; queued is what it holds.
type pipe struct {
	r, w   int
	queued int
}

func getPipe() (*pipe, error) {
	pipes.Lock()
	if n := len(pipes.idle); n > 0 {
		p := pipes.idle[n-1]
		pipes.idle = pipes.idle[:n-1]
		pipes.Unlock()
		return p, nil
	}
	pipes.Unlock()
	if err := check(CallPipe, -1); err != nil {
		return nil, err
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	p := &pipe{r: fds[0], w: fds[1]}
	if _, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize); err != nil {
		// Past the limit of the user's pipe pages (pipe(7)) the kernel makes
		// pipes of two pages: splicing through those costs more than copying.
		if n, err := unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0); err != nil || n < minPipe {
			unix.Close(p.r)
			unix.Close(p.w)
			return nil, unix.ENFILE
		}
	}
	return p, nil
}

// put returns an empty pipe to the pool; one that still holds bytes, or one
// too many, is closed.
func (p *pipe) put() {
	if p.queued == 0 {
		pipes.Lock()
		if len(pipes.idle) < maxIdlePipes {
			pipes.idle = append(pipes.idle, p)
			pipes.Unlock()
			return
		}
		pipes.Unlock()
	}
	unix.Close(p.r)
	unix.Close(p.w)
}

// drain takes out what the pipe holds.
func (p *pipe) drain() []byte {
	buf := make([]byte, p.queued)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(p.r, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			break
		}
		n += m
	}
	p.queued -= n
	return buf[:n]
}

// CloseIdlePipes releases the pipes kept for the next transfer.
func CloseIdlePipes() {
	pipes.Lock()
	idle := pipes.idle
	pipes.idle = nil
	pipes.Unlock()
	for _, p := range idle {
		unix.Close(p.r)
		unix.Close(p.w)
	}
}

// A Transfer moves bytes from one socket to another: small messages with recv
// and send, bulk with splice(2) through a pooled pipe. A buffer or a pipe is
// held only while data flows, none while Fill waits. It is not safe for
// concurrent use.
type Transfer struct {
	dst, src       *FD
	received, sent func(n int)

	pipe   *pipe
	small  *[smallRead]byte
	off, n int // the bytes of small that are not sent yet
	bulk   bool
	burst  int // received since the last wait
	err    error

	fillFn, flushFn func(uintptr) bool
}

// NewTransfer makes a Transfer that tells received and sent of bytes as they
// are moved.
func NewTransfer(dst, src *FD, received, sent func(n int)) (*Transfer, error) {
	t := &Transfer{dst: dst, src: src, received: received, sent: sent}
	t.fillFn, t.flushFn = t.fill, t.flush
	return t, nil
}

// Fill waits for bytes from the source and receives them; io.EOF is its end.
// It occupies the source's receiving side, and what was received before must
// have been flushed.
func (t *Transfer) Fill() error {
	t.err = nil
	if err := t.src.rc.Read(t.fillFn); err != nil {
		t.err = t.src.fileError(err)
	} else if t.err == nil && t.n == 0 && (t.pipe == nil || t.pipe.queued == 0) {
		t.err = io.EOF
	}
	if t.err != nil {
		t.release()
	}
	return t.err
}

// Flush sends what Fill received. It occupies the destination's sending side.
// After an error Left has the rest.
func (t *Transfer) Flush() error {
	t.err = nil
	if err := t.dst.rc.Write(t.flushFn); err != nil {
		return t.dst.fileError(err)
	}
	return t.err
}

// Left takes out what was received and not sent, and ends the Transfer.
func (t *Transfer) Left() []byte {
	var left []byte
	if t.small != nil {
		left = append(left, t.small[t.off:t.off+t.n]...)
	}
	if t.pipe != nil {
		left = append(left, t.pipe.drain()...)
	}
	t.off, t.n = 0, 0
	t.release()
	return left
}

// Close ends the Transfer: it may hold a buffer or a pipe, also between Flush
// and Fill.
func (t *Transfer) Close() { t.release() }

func (t *Transfer) release() {
	if t.pipe != nil {
		t.pipe.put()
		t.pipe = nil
	}
	if t.small != nil {
		smallBuffers.Put(t.small)
		t.small = nil
	}
}

// fill is one attempt to receive; false waits, holding nothing.
func (t *Transfer) fill(src uintptr) bool {
	for {
		var n int
		var err error
		if t.bulk {
			n, err = t.fillPipe(int(src))
		} else {
			n, err = t.fillSmall(int(src))
		}
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			t.release()
			// What came since the last wait says what will come after this one.
			t.bulk, t.burst = t.burst >= smallRead, 0
			return false
		case err != nil:
			t.err = err
			return true
		}
		if n > 0 {
			t.burst += n
			t.received(n)
		}
		return true
	}
}

func (t *Transfer) fillSmall(src int) (int, error) {
	if err := check(CallRecv, src); err != nil {
		return 0, err
	}
	if t.small == nil {
		t.small = smallBuffers.Get().(*[smallRead]byte)
	}
	n, err := recv(src, t.small[:], 0)
	if err != nil {
		return 0, err
	}
	t.off, t.n = 0, n
	t.bulk = n == smallRead
	return n, nil
}

func (t *Transfer) fillPipe(src int) (int, error) {
	if t.pipe == nil {
		p, err := getPipe()
		if err != nil {
			// Out of descriptors or pipe memory: copying still works.
			t.bulk = false
			return t.fillSmall(src)
		}
		t.pipe = p
	}
	if err := check(CallSplice, src); err != nil {
		return 0, err
	}
	n, err := splice(src, t.pipe.w, pipeSize)
	if err != nil {
		return 0, err
	}
	t.pipe.queued += n
	return n, nil
}

// flush sends everything that was received; false waits for room.
func (t *Transfer) flush(dst uintptr) bool {
	for {
		var n int
		var err error
		switch {
		case t.n > 0:
			if err = check(CallSend, int(dst)); err == nil {
				n, err = send(int(dst), t.small[t.off:t.off+t.n])
			}
			if err == nil {
				t.off += n
				t.n -= n
			}
		case t.pipe != nil && t.pipe.queued > 0:
			if err = check(CallSplice, int(dst)); err == nil {
				n, err = splice(t.pipe.r, int(dst), t.pipe.queued)
			}
			if err == nil {
				t.pipe.queued -= n
			}
		default:
			return true
		}
		switch err {
		case nil:
			t.sent(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			t.err = err
			return true
		}
	}
}

// splice moves at most n bytes (splice(2)). It waits for nothing and moves no
// more than one pipe holds, so it can keep the scheduler's processor: a tenth
// of the CPU per gigabyte is saved by not handing that over and back.
func splice(from, to, n int) (int, error) {
	m, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	if errno != 0 {
		return 0, errno
	}
	return int(m), nil
}
