// This file holds what the decoders read from. They take from a connection the
// bytes of the message and not one more: what the other side sends right after
// it belongs to the stream.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/anysock/anysock"
)

// A source is a connection as the decoders see it.
type source interface {
	io.Reader
	// Peek copies bytes that wait into p without consuming them, and waits
	// for the first.
	Peek(p []byte) (int, error)
}

// A connSource reads a connection for as long as ctx allows.
type connSource struct {
	ctx context.Context // the exchange's
	c   *anysock.Conn
}

func (s connSource) Read(p []byte) (int, error) { return s.c.ReadContext(s.ctx, p) }
func (s connSource) Peek(p []byte) (int, error) { return s.c.Peek(s.ctx, p) }

var _ source = connSource{}

// A wireError is a message that the protocol does not allow.
type wireError struct {
	text  string
	reply reply5 // what a SOCKS5 server answers to it
}

func (e *wireError) Error() string { return e.text }

func malformed(format string, args ...any) error {
	return &wireError{text: fmt.Sprintf(format, args...), reply: replyFailure}
}

// readExact fills p. The error is io.EOF if there was nothing at all and first
// is set, io.ErrUnexpectedEOF if the other side ended in the middle.
func readExact(src source, p []byte, first bool) error {
	_, err := io.ReadFull(src, p)
	if errors.Is(err, io.EOF) && !first && len(p) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readText reads up to a NUL, which is not part of the text of at most limit
// bytes.
func readText(src source, what string, limit int) (string, error) {
	var text []byte
	for {
		var ahead [maxText + 1]byte
		n, err := src.Peek(ahead[:min(limit+1-len(text), len(ahead))])
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		end := n
		found := false
		for i, b := range ahead[:n] {
			if b == 0 {
				end, found = i+1, true
				break
			}
		}
		if err := readExact(src, ahead[:end], false); err != nil {
			return "", err
		}
		if found {
			return string(append(text, ahead[:end-1]...)), nil
		}
		if text = append(text, ahead[:end]...); len(text) > limit {
			return "", malformed("the %s is longer than %d bytes", what, limit)
		}
	}
}
