// This file holds the Reader: deadlines for a source whose reads only block.

package deadline

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A Source is what a Reader reads. One goroutine at a time calls it.
type Source struct {
	// Read reads into p, which is never empty, and blocks until there is
	// something, as io.Reader has it. Once it has returned an error it is not
	// called again.
	Read func(p []byte) (int, error)
	// Wait blocks until Read would return something. With it a Reader that
	// has nothing holds no buffer. It may be nil; an error is Read's.
	Wait func() error
	// Eager reads ahead from the start, so that a failure is noticed though
	// nobody reads. Otherwise each call of Reader.Read that finds nothing
	// starts one read of the source, and no goroutine is there in between.
	Eager bool
}

// A Reader gives deadlines to a Source. A goroutine reads ahead by at most
// BufferSize bytes; what it reads after a caller's deadline has passed is the
// next call's, so no byte is lost.
//
// One call of Read is at work at a time; the other methods may be called from
// several goroutines.
type Reader struct {
	src    Source
	by     Instant
	failed chan struct{}
	closed chan struct{}
	wg     sync.WaitGroup // the goroutine

	mu      sync.Mutex // guards what follows
	ring    ring
	err     error         // what follows the bytes of ring; sticky
	running bool          // the goroutine is there
	waiting bool          // it is in Source.Wait, and does not use ring
	changed chan struct{} // closed and removed when something has changed; nil if nobody waits
	gone    bool          // Close was called
}

// NewReader makes a Reader, and starts it if the source is eager. Close must be
// called.
func NewReader(src Source) *Reader {
	r := &Reader{src: src, failed: make(chan struct{}), closed: make(chan struct{})}
	if src.Eager {
		r.mu.Lock()
		r.start()
		r.mu.Unlock()
	}
	return r
}

// Read gives what was read ahead, or waits for it: until the deadline
// (os.ErrDeadlineExceeded) or Close (net.ErrClosed). A deadline that has passed
// counts for what is there, too. After the bytes comes the source's error,
// io.EOF included, at every call.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		n, changed, err := r.take(p)
		if changed == nil {
			return n, err
		}
		select {
		case <-changed:
		case <-r.by.Wait():
		case <-r.closed:
		}
	}
}

// take is Read without waiting; changed is what to wait for, or nil.
func (r *Reader) take(p []byte) (n int, changed chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.gone:
		return 0, nil, net.ErrClosed
	case r.by.Passed():
		return 0, nil, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil, nil
	case r.ring.n > 0:
		n = r.ring.take(p)
		r.idle()
		r.wake()
		return n, nil, nil
	case r.err != nil:
		return 0, nil, r.err
	}
	if !r.running {
		r.start()
	}
	return 0, r.change(), nil
}

// change is closed at the next change; mu is held.
func (r *Reader) change() chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// wake tells who waits; mu is held.
func (r *Reader) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// idle gives an empty buffer back that nobody is filling; mu is held.
func (r *Reader) idle() {
	if r.waiting || !r.running {
		r.ring.release(r.gone)
	}
}

// start starts the goroutine; mu is held.
func (r *Reader) start() {
	r.running = true
	r.wg.Add(1)
	go r.fetch()
}

// fetch is the goroutine: until an error or Close for an eager source, for one
// read else.
func (r *Reader) fetch() {
	defer r.wg.Done()
	for {
		err := r.await()
		if err == nil {
			err = r.fetchOnce()
		}
		if r.fetched(err) {
			return
		}
	}
}

// await is Source.Wait.
func (r *Reader) await() error {
	if r.src.Wait == nil {
		return nil
	}
	r.mu.Lock()
	r.waiting = true
	r.idle()
	r.mu.Unlock()
	err := r.src.Wait()
	r.mu.Lock()
	r.waiting = false
	r.mu.Unlock()
	return err
}

// fetchOnce reads once, when there is room.
func (r *Reader) fetchOnce() error {
	room := r.reserve()
	if room == nil {
		return net.ErrClosed
	}
	n, err := r.src.Read(room)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring.added(n)
	if n > 0 {
		r.wake()
	}
	return err
}

// reserve waits until a quarter of the buffer is free, so that a reader who
// takes little does not cause as many small reads. It returns nil after Close.
func (r *Reader) reserve() []byte {
	for {
		r.mu.Lock()
		if r.gone {
			r.mu.Unlock()
			return nil
		}
		if r.ring.free() >= BufferSize/4 {
			defer r.mu.Unlock()
			return r.ring.room()
		}
		changed := r.change()
		r.mu.Unlock()
		select {
		case <-changed:
		case <-r.closed:
		}
	}
}

// fetched takes the outcome of a read; true means that the goroutine is done.
func (r *Reader) fetched(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.src.Eager && !r.gone {
		return false
	}
	r.running = false
	if err != nil && r.err == nil {
		r.err = err
		if !r.gone && !errors.Is(err, io.EOF) {
			close(r.failed)
		}
	}
	r.idle()
	r.wake()
	return true
}

// Buffered is how many bytes were read ahead.
func (r *Reader) Buffered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring.n
}

// Failed is closed when the source has ended with another error than io.EOF,
// also while bytes from before are still to be read. Close does not close it.
func (r *Reader) Failed() <-chan struct{} { return r.failed }

// Err is the error that follows what was read ahead; nil as long as there is
// none.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// SetDeadline bounds Read, a pending one too; zero is no bound. After Close it
// returns net.ErrClosed.
func (r *Reader) SetDeadline(t time.Time) error {
	if isClosed(r.closed) {
		return net.ErrClosed
	}
	r.by.Set(t)
	return nil
}

// Close turns callers away and discards what was read ahead. The goroutine ends
// with the call of the source that it has made: whoever can make that return
// does so, and then waits with Wait. A second Close does nothing.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	r.gone = true
	close(r.closed)
	r.by.Stop()
	r.idle()
	r.wake()
}

// Wait waits until the goroutine has ended, after Close.
func (r *Reader) Wait() { r.wg.Wait() }
