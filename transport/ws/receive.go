// This file holds the reading of frames and what each way to end means.

package ws

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	"github.com/coder/websocket"
)

// A receiver waits for bytes below, in front of the library, and hands them to
// it by whole headers, whole control frames and what is there of a payload. So
// the library never waits, and a deadline that ends a wait tears no frame. It
// is what the stream's Lookout looks at.
type receiver struct {
	s       *stream
	raw     []byte         // came from below, and the library has not seen it
	sip     *[sipSize]byte // of the pool: holds raw between two calls, if it is not what came early
	message io.Reader      // that is being read; nil between messages
	left    int64          // of the payload of its frame, in bytes
	last    bool           // that frame ends the message
	lent    bool           // raw lies in the buffer of the caller of Read

	looks atomic.Bool  // it waits for what comes, and not for the program
	turns atomic.Int64 // how often it has begun to

	mu    sync.Mutex    // guards what follows
	ended error         // why nothing more comes; io.EOF is the peer's end
	done  chan struct{} // closed when ended is set; nil until somebody asks
}

const (
	// sipSize bounds what is read ahead between two calls: a control frame and a
	// header fit in.
	sipSize = 512
	// scratchSize bounds what is read into the caller's buffer where the header
	// of a frame is expected, because the payload then moves in it.
	scratchSize = 4 << 10
)

var sips = sync.Pool{New: func() any { return new([sipSize]byte) }}

// SetDeadline bounds Read and Wait.
func (r *receiver) SetDeadline(t time.Time) error { return r.s.below.SetReadDeadline(t) }

// Held is how many bytes of a payload are here.
func (r *receiver) Held() int { return int(min(r.left, int64(len(r.raw)))) }

// begin says that somebody looks at what comes.
func (r *receiver) begin() {
	r.turns.Add(1)
	r.looks.Store(true)
}

// Wait waits for bytes of a message. The library answers pings and close frames
// meanwhile.
func (r *receiver) Wait() error {
	r.begin()
	defer r.looks.Store(false)
	for {
		if err := r.advance(); err != nil {
			return err
		}
		if r.Held() > 0 {
			return nil
		}
		if err := r.fill(nil); err != nil {
			return err
		}
	}
}

// Read waits for the first byte, and returns what came with it: the payloads of
// all frames that are here and that p has room for.
func (r *receiver) Read(p []byte) (n int, err error) {
	r.begin()
	defer r.looks.Store(false)
	defer r.store()
	for {
		n, err = r.take(p)
		switch {
		case n > 0:
			return n, nil // an error comes again
		case err != nil:
			return 0, err
		}
		if err = r.fill(p); err != nil {
			return 0, err
		}
	}
}

// store puts what is left of raw where it can stay between two calls: it is less
// than a header and a control frame if it lies in the caller's buffer.
func (r *receiver) store() {
	switch {
	case len(r.raw) == 0:
		r.raw = nil
		r.release()
	case r.lent:
		r.raw = r.pour()
	}
	r.lent = false
}

// pour moves raw to the beginning of sip.
func (r *receiver) pour() []byte {
	if r.sip == nil {
		r.sip = sips.Get().(*[sipSize]byte)
	}
	return r.sip[:copy(r.sip[:], r.raw)]
}

// release gives sip back. Nothing in raw lies there.
func (r *receiver) release() {
	if r.sip != nil {
		sips.Put(r.sip)
		r.sip = nil
	}
}

// drop forgets what was received; nobody looks any more.
func (r *receiver) drop() {
	r.raw = nil
	r.release()
}

// fill waits for more of raw, which the library has no use for as it is. What
// comes lies in p if that is large enough, which raw must not, and in sip else.
func (r *receiver) fill(p []byte) error {
	if len(r.raw) == 0 && len(p) >= sipSize {
		r.release()
		// The middle of a payload is where it is to be. Of what stands behind a
		// header only so much is taken as moves quickly.
		if r.left >= scratchSize {
			p = p[:min(int64(len(p)), r.left)]
		} else {
			p = p[:min(len(p), scratchSize)]
		}
		r.lent = true
		n, err := r.receive(p)
		r.raw = p[:n]
		return err
	}
	r.raw, r.lent = r.pour(), false
	n, err := r.receive(r.sip[len(r.raw):])
	r.raw = r.sip[:len(r.raw)+n]
	if len(r.raw) == 0 {
		r.release()
	}
	return err
}

// receive waits below, interrupted by the deadline only.
func (r *receiver) receive(p []byte) (int, error) {
	n, err := r.s.wire.Carrier.Read(p)
	r.s.wire.received.Add(int64(n))
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, os.ErrDeadlineExceeded
	}
	return 0, r.end(err)
}

// take gives the library what is here, and p the payloads.
func (r *receiver) take(p []byte) (n int, err error) {
	for n < len(p) {
		if err = r.advance(); err != nil {
			break
		}
		m := min(r.Held(), len(p)-n)
		if m == 0 {
			break
		}
		// Where raw lies in p, it lies behind n, so nothing is overwritten that
		// is still to come.
		r.pass(m)
		if _, err = r.message.Read(p[n : n+m]); err != nil {
			return n, r.end(err)
		}
		n += m
		r.left -= int64(m)
		r.endMessage()
	}
	return n, err
}

// endMessage forgets a message that is complete. The library counts the same.
func (r *receiver) endMessage() {
	if r.left == 0 && r.last {
		r.message = nil
	}
}

// pass lets the library read n bytes of raw, no less and no more.
func (r *receiver) pass(n int) { r.s.wire.passed, r.raw = r.raw[:n], r.raw[n:] }

// advance gives the library headers and control frames, until it is in a
// payload or raw ends. An error is why nothing more comes.
func (r *receiver) advance() error {
	err := r.reason()
	for err == nil && r.left == 0 {
		h, ok := readHeader(r.raw)
		size := h.size
		if h.control() && h.payload <= maxControl { // one that is longer is refused for that
			size += int(h.payload)
		}
		if !ok || len(r.raw) < size {
			return nil
		}
		r.pass(size)
		err = r.header(h)
	}
	return err
}

// header lets the library read a header, and the control frame that it belongs
// to.
func (r *receiver) header(h header) error {
	message, kind := r.message, websocket.MessageBinary
	var err error
	if message == nil {
		kind, message, err = r.s.conn.Reader(background)
	} else {
		_, err = message.Read(nil) // reads headers up to the next that has a payload
	}
	switch {
	case errors.Is(err, errNothing): // behind a control frame, or an empty one
		return nil
	case r.message != nil && err == io.EOF: //nolint:errorlint // a cut would match it too
		r.message = nil // an empty frame has ended it
		return nil
	case err != nil:
		return r.end(err)
	case kind != websocket.MessageBinary:
		r.s.reply(websocket.StatusUnsupportedData, "text messages are not taken")
		return r.end(errText)
	}
	r.message, r.left, r.last = message, h.payload, h.last
	r.endMessage()
	return nil
}

// end records why reading has ended, and returns that.
func (r *receiver) end(err error) error {
	r.conclude(r.judge(err))
	return r.reason()
}

// judge says what an error of the library means.
func (r *receiver) judge(err error) error {
	var below *anysock.Error
	var closed websocket.CloseError
	switch {
	case errors.Is(err, errText):
		return fail(anysock.KindTruncated, errText, "the other side must send binary messages; in a browser, set binaryType and send an ArrayBuffer")
	case errors.As(err, &closed):
		r.s.ending.Add(1)
		go r.s.bothEnded()
		return closedBy(closed)
	case errors.As(err, &below):
		return below
	case errors.Is(err, deadline.ErrCut):
		return fail(anysock.KindTruncated, errCut, "")
	case errors.Is(err, deadline.ErrQueueFull):
		return fail(anysock.KindTruncated, deadline.ErrQueueFull, "")
	}
	// Framing that RFC 6455 forbids. The library says so to the other side in
	// most cases; where it does not, as for a client's frame without a mask
	// (section 5.1), we do.
	r.s.reply(websocket.StatusProtocolError, "protocol error")
	return fail(anysock.KindTruncated, fmt.Errorf("the other side broke the WebSocket protocol: %w", plain(err)), "")
}

var (
	errText = errors.New("the other side sent a text message, but this is a stream of bytes")
	errCut  = fmt.Errorf("the connection below ended without a close frame: %w", deadline.ErrCut)
)

func fail(kind anysock.Kind, err error, hint string) error {
	return &anysock.Error{Op: anysock.OpRead, Addr: "ws", Kind: kind, Err: err, Hint: hint}
}

// closedBy is what the peer's close frame means: an end, or an abort.
func closedBy(c websocket.CloseError) error {
	switch c.Code {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return io.EOF
	}
	text := fmt.Sprintf("the peer aborted the WebSocket with code %d", int(c.Code))
	if c.Reason != "" {
		text += ": " + shown(c.Reason)
	}
	return fail(anysock.KindReset, errors.New(text), "")
}

// reason is why nothing more comes: io.EOF is the peer's end, nil is that
// nothing has ended.
func (r *receiver) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// conclude records why nothing more comes, once.
func (r *receiver) conclude(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		return
	}
	r.ended = why
	if r.done != nil {
		close(r.done)
	}
}

// over is closed when nothing more comes.
func (r *receiver) over() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.ended != nil {
			close(r.done)
		}
	}
	return r.done
}
