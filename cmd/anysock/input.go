package main

import (
	"context"
	"io"
)

// inputBuffer is how much of standard input is read at once.
const inputBuffer = 64 << 10

// maxEmptyReads bounds the reads in a row that bring neither bytes nor an end.
const maxEmptyReads = 100

// An input reads standard input for whoever asks, one chunk at a time and only
// when asked. A wait for it can be given up, although a read(2) of a terminal
// or pipe cannot: the chunk then waits for the next who asks.
//
// The reading goroutine is the input's. It ends with close, except that a read
// which is at work then ends with the process, because nothing else wakes it.
type input struct {
	r    io.Reader
	want chan struct{}
	quit chan struct{}
	got  chan chunk // has room for one, so that the reader never waits for us

	began   bool
	pending bool // a read was asked for and not taken
	err     error
}

// A chunk is the outcome of one read.
type chunk struct {
	p   []byte
	err error
}

func newInput(r io.Reader) *input {
	return &input{r: r, want: make(chan struct{}), quit: make(chan struct{}), got: make(chan chunk, 1)}
}

// next waits for a chunk or until ctx is done. The bytes are valid until the
// next call. After the end or a failure it returns that again. Calls must not
// overlap.
func (in *input) next(ctx context.Context) ([]byte, error) {
	if in.err != nil {
		return nil, in.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !in.began {
		in.began = true
		go in.read()
	}
	if !in.pending {
		in.pending = true
		in.want <- struct{}{}
	}
	select {
	case c := <-in.got:
		in.pending = false
		in.err = c.err
		if len(c.p) > 0 {
			return c.p, nil
		}
		return nil, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read is the input's goroutine.
func (in *input) read() {
	buf := make([]byte, inputBuffer)
	for {
		select {
		case <-in.want:
		case <-in.quit:
			return
		}
		var c chunk
		for range maxEmptyReads {
			n, err := in.r.Read(buf)
			if c = (chunk{buf[:n], err}); n > 0 || err != nil {
				break
			}
			c.err = io.ErrNoProgress
		}
		in.got <- c
	}
}

// close ends the reader. next must not be called afterwards.
func (in *input) close() { close(in.quit) }
