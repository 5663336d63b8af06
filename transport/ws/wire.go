// This file holds the wire: the connection below as the WebSocket library sees
// it.

package ws

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
)

// A wire passes frames between the library and the carrier. What the library
// writes is queued, so that it never waits: its lock on writing is free for the
// pongs that its reading causes, and none of its own time limits, which end the
// connection, is ever reached. It reads the headers of the frames that go out,
// and so knows when a close frame has; no frame follows that one.
type wire struct {
	*deadline.Carrier
	below  *anysock.Conn
	client bool  // frames that go out are masked
	start  int64 // what below had sent before the first frame

	early    *bufio.Reader // what came with the last bytes of the handshake; nil if nothing did
	received atomic.Int64  // bytes

	mu     sync.Mutex // guards what follows
	op     byte       // of the frame that is going out
	left   int64      // of it, in bytes
	drop   bool       // it is not wanted: a close frame has gone out
	closed bool       // a close frame has
	queued int64      // bytes given to the carrier
	data   int64      // of them, up to the end of the last data frame
}

// Read reads what came early, and then from below.
func (w *wire) Read(p []byte) (int, error) {
	if w.early != nil {
		if w.early.Buffered() > 0 {
			return w.early.Read(p[:min(len(p), w.early.Buffered())])
		}
		w.early = nil
	}
	n, err := w.Carrier.Read(p)
	w.received.Add(int64(n))
	return n, err
}

// traffic is what went out and what came, in bytes.
func (w *wire) traffic() traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	return traffic{w.queued, w.received.Load()}
}

// Write queues. A frame of the library's may come in several pieces; its
// header, of at most 14 bytes, is whole in the first.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 {
		w.op, w.left = frameHeader(p)
		w.drop = w.closed
		w.closed = w.closed || w.op == opClose
		if w.op < opClose {
			w.data = w.queued + w.left
		}
	}
	w.left -= int64(len(p))
	if w.drop {
		return len(p), nil
	}
	n, err := w.Carrier.Write(p)
	w.queued += int64(n)
	if w.op >= opClose && w.left == 0 {
		w.FlushLater() // data frames are the stream's to flush
	}
	return n, err
}

// sendClose queues a close frame (RFC 6455 section 5.5.1), unless one has gone
// out. It must not be called in the middle of a data frame.
func (w *wire) sendClose(code int, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.left > 0 {
		return
	}
	w.closed = true
	frame := closeFrame(code, reason, w.client)
	n, _ := w.Carrier.Write(frame) // a failure shows in Flush
	w.queued += int64(n)
}

// hasClosed reports whether a close frame has gone out, or waits to.
func (w *wire) hasClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// owed is what was queued and has not been taken below: data frames, with what
// goes out before them, and the control frames behind. After a failure it is
// what is lost.
func (w *wire) owed() (data, control int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.below.Sent() - w.start
	data = max(w.data-sent, 0)
	return data, w.queued - sent - data
}

// answers is asked before each pong. A peer that sends pings and does not read
// the pongs gets no more of them than maxPongs bytes wait already: whoever has
// many to answer may leave some out (RFC 6455 section 5.5.3).
func (w *wire) answers(context.Context, []byte) bool {
	_, control := w.owed()
	return control <= maxPongs
}

// Close is the library's: it has seen both close frames, or is being put away.
// The carrier is the stream's to close.
func (w *wire) Close() error { return nil }

var _ net.Conn = (*wire)(nil)

// Opcodes of RFC 6455 section 5.2. Control frames have the highest bit of four.
const (
	opClose   = 0x8
	finalBit  = 0x80
	maskedBit = 0x80
)

// frameHeader reads the header of a frame: its opcode, and its size in all.
func frameHeader(p []byte) (op byte, size int64) {
	op = p[0] & 0xf
	header, payload := int64(2), int64(p[1]&^maskedBit)
	switch payload {
	case 126:
		header, payload = 4, int64(binary.BigEndian.Uint16(p[2:]))
	case 127:
		header, payload = 10, int64(binary.BigEndian.Uint64(p[2:]))
	}
	if p[1]&maskedBit != 0 {
		header += 4
	}
	return op, header + payload
}

// closeFrame makes a close frame; a client's is masked (RFC 6455 section 5.3).
func closeFrame(code int, reason string, masked bool) []byte {
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	payload = append(payload, reason...)
	frame := []byte{finalBit | opClose, byte(len(payload))}
	if !masked {
		return append(frame, payload...)
	}
	frame[1] |= maskedBit
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	frame = append(frame, key[:]...)
	for i, b := range payload {
		frame = append(frame, b^key[i%4])
	}
	return frame
}
