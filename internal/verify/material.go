package verify

// This file holds what messages are made of, and how they are compared.

import "sync"

// materialSize is a prime number, so that no block of a power of two that is
// lost, doubled or exchanged leaves a message as it was.
const materialSize = 1048573

// material is pseudo-random; its beginning follows again at its end, so that any
// chunk is one slice.
var material = sync.OnceValue(func() []byte {
	p := make([]byte, materialSize, materialSize+maxChunk)
	x := uint32(2654435761)
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x >> 8)
	}
	return append(p, p[:maxChunk]...)
})

// maxChunk bounds one write and one read.
const maxChunk = 64 << 10

// A message is a stretch of the material that a seed chooses; it has no length
// of its own.
type message struct{ start uint64 }

// The two messages of a connection are different ones.
func (p Plan) upward() message { return message{p.Seed % materialSize} }

func (p Plan) downward() message {
	return message{(p.Seed>>20 ^ 0x5bd1e995) % materialSize}
}

// at is n bytes of the message from offset, which must not be changed.
func (m message) at(offset uint64, n int) []byte {
	from := (m.start + offset) % materialSize
	return material()[from:][:n:n]
}

// differs is where p differs from the message at offset, or -1.
func (m message) differs(p []byte, offset uint64) int {
	want := m.at(offset, len(p))
	if string(p) == string(want) {
		return -1
	}
	for i := range p {
		if p[i] != want[i] {
			return i
		}
	}
	return -1
}
