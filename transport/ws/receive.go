// This file holds the reading of frames, ahead of the program and by a bounded
// buffer, and what each way to end means.

package ws

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	"github.com/coder/websocket"
)

// A receiver is what the stream's Reader reads. Its goroutine alone calls wait
// and read.
type receiver struct {
	s       *stream
	message io.Reader    // that is being read; nil between messages
	looks   atomic.Bool  // it waits for what comes, and not for the program
	turns   atomic.Int64 // how often it has begun to
	done    chan struct{}

	mu    sync.Mutex
	ended error // why nothing more comes, and done is closed; io.EOF is the peer's end
}

// wait waits for bytes of a message, without a buffer. The library answers
// pings and close frames meanwhile.
func (r *receiver) wait() error {
	r.turns.Add(1)
	r.looks.Store(true)
	defer r.looks.Store(false)
	for {
		if r.message != nil {
			// Reading nothing waits for the next frame with something in it.
			_, err := r.message.Read(nil)
			switch {
			case err == nil:
				return nil
			case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
				return r.end(err)
			}
		}
		kind, message, err := r.s.conn.Reader(background)
		switch {
		case err != nil:
			return r.end(err)
		case kind != websocket.MessageBinary:
			r.s.reply(websocket.StatusUnsupportedData, "text messages are not taken")
			return r.end(errText)
		}
		r.message = message
	}
}

// read reads all of p, or up to the end of the frame.
func (r *receiver) read(p []byte) (int, error) {
	r.turns.Add(1)
	r.looks.Store(true)
	defer r.looks.Store(false)
	n, err := r.message.Read(p)
	if err != nil { // no end: wait has looked. Of a frame that is cut nothing is unmasked.
		return 0, r.end(err)
	}
	return n, nil
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
	if r.ended == nil {
		r.ended = why
		close(r.done)
	}
}
