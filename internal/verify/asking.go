package verify

// This file asks a server, and finds words for what answers instead of one.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// A PeerError says that what answers at the address is not what the run needs.
type PeerError struct {
	What string // what it does
	Hint string // what to try
	Err  error  // of the connection; may be nil
}

// Error is one line.
func (e *PeerError) Error() string {
	if e.Err != nil {
		return e.What + ": " + e.Err.Error()
	}
	return e.What
}

// Unwrap is the connection's error.
func (e *PeerError) Unwrap() error { return e.Err }

const hintServe = "the far end must be 'anysock verify --serve', or this end with --relay FROM,TO; --echo judges an echo server"

// exchange asks a server over a new connection and ends it.
func exchange(c *anysock.Conn, run uint64, q ask, patience time.Duration) (answer, error) {
	var a answer
	text, err := encodeText(opening{Kind: kindAsk, Run: run, Number: uint64(len(q.Numbers))}.encode(), q)
	if err != nil {
		return a, err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return a, err
	}
	if _, err := c.Write(text); err != nil {
		return a, notServed(err, nil)
	}
	head := make([]byte, len(magic))
	n, err := io.ReadFull(c, head)
	if err != nil || string(head) != magic {
		return a, notServed(err, head[:n])
	}
	// An echo sends back the opening, which begins with the magic; the length
	// that it gives is out of bounds.
	if err := readText(c, maxAnswer, &a); err != nil {
		var e *anysock.Error
		if !errors.As(err, &e) {
			return a, &PeerError{What: "what answers is no server of verify", Hint: "an echo server is judged with --echo; " + hintServe, Err: err}
		}
		return a, notServed(err, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// What was asked for is here; how the connection ends is not judged.
	if _, err := c.WriteContext(ctx, []byte{greeting}); err == nil {
		_, _ = c.Disconnect(ctx)
	}
	return a, nil
}

// notServed is why there is no answer.
func notServed(err error, got []byte) error {
	var e *anysock.Error
	switch {
	case len(got) > 0:
		return &PeerError{What: fmt.Sprintf("what answers is no server of verify: it says %q", firstOf(strings.TrimSpace(string(got)), maxSaid)), Hint: hintServe}
	case errors.Is(err, io.EOF):
		return &PeerError{What: "the connection was ended without an answer", Hint: hintServe}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &PeerError{What: "no server of verify answers", Hint: hintServe, Err: err}
	case errors.As(err, &e) && e.Kind == anysock.KindReset:
		return &PeerError{What: "the connection was reset without an answer", Hint: "if it is a relay, look at its target; " + hintServe, Err: err}
	}
	return &PeerError{What: "no answer", Hint: hintServe, Err: err}
}

// maxSaid bounds what is quoted of a stranger.
const maxSaid = 40
