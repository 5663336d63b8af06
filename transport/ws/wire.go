// This file holds the wire: the connection below as the WebSocket library sees
// it.

package ws

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
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
	deadline.Carrier
	below  *anysock.Conn
	client bool  // frames that go out are masked
	start  int64 // what below had sent before the first frame

	early    []byte       // what came with the last bytes of the handshake
	passed   []byte       // what the library may read: the receiver's
	received atomic.Int64 // bytes

	mu     sync.Mutex // guards what follows
	op     byte       // of the frame that is going out
	left   int64      // of it, in bytes
	drop   bool       // it is not wanted: a close frame has gone out
	closed bool       // a close frame has
	queued int64      // bytes given to the carrier
	data   int64      // of them, up to the end of the last data frame
}

// Read gives the library what the receiver has passed to it, and never waits.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.passed) == 0 {
		return 0, errNothing
	}
	n := min(len(p), len(w.passed))
	if &p[0] != &w.passed[0] { // else they are where they are to be
		copy(p, w.passed[:n])
	}
	w.passed = w.passed[n:]
	return n, nil
}

// errNothing ends a step of the library, between two frames: it has read all
// that it was to.
var errNothing = errors.New("nothing more has come")

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
		h, _ := readHeader(p)
		w.op, w.left = h.op, int64(h.size)+h.payload
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
	opPong    = 0xa
	finalBit  = 0x80
	maskedBit = 0x80
)

// A header is what is needed of the header of a frame. The library judges it.
type header struct {
	op      byte
	last    bool  // FIN: it ends the message
	size    int   // of the header, in bytes
	payload int64 // bytes; negative in a bad frame
}

// control reports whether it is that of a close frame, a ping or a pong.
func (h header) control() bool { return h.op >= opClose && h.op <= opPong }

// maxControl bounds the payload of a control frame (RFC 6455 section 5.5).
const maxControl = 125

// readHeader reads the header that p begins with, if it is whole.
func readHeader(p []byte) (h header, ok bool) {
	if len(p) < 2 {
		return header{}, false
	}
	h = header{op: p[0] & 0xf, last: p[0]&finalBit != 0, size: 2, payload: int64(p[1] &^ maskedBit)}
	extended := 0
	switch h.payload {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	h.size += extended
	if p[1]&maskedBit != 0 {
		h.size += 4
	}
	if len(p) < h.size {
		return header{}, false
	}
	switch extended {
	case 2:
		h.payload = int64(binary.BigEndian.Uint16(p[2:]))
	case 8:
		h.payload = int64(binary.BigEndian.Uint64(p[2:]))
	}
	return h, true
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
