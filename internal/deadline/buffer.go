// This file holds the bounded buffer that lies between a caller and the
// goroutine that reads ahead or writes behind.

package deadline

import "sync"

// BufferSize bounds what a Reader has read ahead and what a Writer has yet to
// write, in bytes.
const BufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// A ring is a queue of at most BufferSize bytes. It holds a buffer of the pool
// only while it is in use. The zero value is empty.
type ring struct {
	buf  *[BufferSize]byte // nil while not in use
	from int               // of the first byte
	n    int               // bytes in it
}

// free is how many bytes fit in.
func (r *ring) free() int { return BufferSize - r.n }

// room is where the next bytes go: the part of the free space that is in one
// piece, empty only when the ring is full. What is written there counts after
// added; until then the ring may be taken from, but not released.
func (r *ring) room() []byte {
	if r.buf == nil {
		r.buf = buffers.Get().(*[BufferSize]byte)
	}
	if r.n == 0 {
		r.from = 0 // the largest piece
	}
	to := r.from + r.n
	if to >= BufferSize {
		return r.buf[to-BufferSize : r.from]
	}
	return r.buf[to:]
}

// added counts n bytes that were put into room.
func (r *ring) added(n int) { r.n += n }

// put copies as much of p as there is room for.
func (r *ring) put(p []byte) (n int) {
	for n < len(p) && r.free() > 0 {
		m := copy(r.room(), p[n:])
		r.added(m)
		n += m
	}
	return n
}

// front is the first bytes, in one piece; empty only when there are none.
func (r *ring) front() []byte {
	if r.n == 0 {
		return nil
	}
	return r.buf[r.from:min(r.from+r.n, BufferSize)]
}

// drop removes the first n bytes.
func (r *ring) drop(n int) {
	r.from = (r.from + n) % BufferSize
	r.n -= n
}

// take moves the first bytes to p.
func (r *ring) take(p []byte) (n int) {
	for n < len(p) && r.n > 0 {
		m := copy(p[n:], r.front())
		r.drop(m)
		n += m
	}
	return n
}

// release gives the buffer back if the ring is empty, or whatever is in it if
// discard is set.
func (r *ring) release(discard bool) {
	if discard {
		r.n = 0
	}
	if r.buf != nil && r.n == 0 {
		buffers.Put(r.buf)
		r.buf = nil
	}
}
