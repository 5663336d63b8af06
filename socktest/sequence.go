// This file holds the data that the cases send: a sequence in which every
// byte's place can be checked, so that loss, doubling and disorder show.

package socktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// The sequence repeats after a prime number of bytes, so that a shift by a
// round number never looks right.
const (
	sequencePeriod = 65521
	sequenceMost   = 16 << 20 // the longest piece
)

var sequence = sync.OnceValue(func() []byte {
	p := make([]byte, sequencePeriod, sequencePeriod+sequenceMost)
	state := uint32(1)
	for i := range p {
		state = state*1664525 + 1013904223
		p[i] = byte(state >> 24)
	}
	for len(p) < cap(p) {
		p = append(p, p[:min(len(p)/sequencePeriod*sequencePeriod, cap(p)-len(p))]...)
	}
	return p
})

// data is n bytes of the sequence from off on. They must not be changed.
func data(off int64, n int) []byte {
	start := off % sequencePeriod
	return sequence()[start : start+int64(n) : start+int64(n)]
}

// right reports an error unless p is what the sequence has at off.
func right(p []byte, off int64) error {
	for len(p) > 0 {
		n := min(len(p), sequenceMost)
		want := data(off, n)
		if !bytes.Equal(p[:n], want) {
			i := 0
			for p[i] == want[i] {
				i++
			}
			return &wrongByteError{off + int64(i)}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// A wrongByteError says where what came in left the sequence.
type wrongByteError struct{ at int64 }

func (e *wrongByteError) Error() string {
	return fmt.Sprintf("byte %d is not the one that was sent: bytes were lost, doubled or mixed", e.at)
}

// moved is what a transfer did: how many bytes, and why it ended.
type moved struct {
	n   int64
	err error
}

// readToEnd reads the sequence from off on until the peer's end, which leaves
// err nil.
func readToEnd(c io.Reader, off int64) (m moved) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if werr := right(buf[:n], off+m.n); werr != nil {
			return moved{m.n, werr}
		}
		m.n += int64(n)
		if errors.Is(err, io.EOF) {
			return m
		}
		if err != nil {
			m.err = err
			return m
		}
	}
}

// readExactly reads n bytes of the sequence from off on.
func readExactly(c io.Reader, off int64, n int) error {
	buf := make([]byte, n)
	m, err := io.ReadFull(c, buf)
	if werr := right(buf[:m], off); werr != nil {
		return werr
	}
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", m, n, err)
	}
	return nil
}

// write writes n bytes of the sequence from off on.
func write(c io.Writer, off int64, n int) moved {
	m, err := c.Write(data(off, n))
	return moved{int64(m), err}
}

// floodChunk is how much a flood writes at once.
const floodChunk = 32 << 10

// errNotStopped is flood's error when nothing else stopped it.
var errNotStopped = errors.New("the writer was not stopped")

// flood writes the sequence in chunks until an error, or until most bytes are
// gone.
func flood(c io.Writer, most int64, chunk int) (m moved) {
	for m.n < most {
		n, err := c.Write(data(m.n, chunk))
		m.n += int64(n)
		if err == nil && n < chunk {
			err = io.ErrShortWrite
		}
		if err != nil {
			m.err = err
			return m
		}
	}
	m.err = errNotStopped
	return m
}
