// This file holds the halves for descriptors that cannot be waited for:
// regular files, devices, and everything on platforms without a better way. A
// goroutine makes the system call, and the caller waits for the goroutine or
// for its deadline, whichever comes first. What the goroutine has read then
// stays for the next call, so that no byte is lost.
//
// There is at most one goroutine for each direction, with pumpBuffer bytes. It
// belongs to its half and ends with the one system call it makes. The kernel
// does not interrupt that call when the descriptor is closed: on a file it
// ends soon, on a blocking pipe with the next byte or the pipe's end.

package stdio

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A pumpedInput reads ahead by at most one system call.
type pumpedInput struct {
	f      *os.File
	readBy deadline
	closed chan struct{}
	once   sync.Once

	// what follows belongs to the one call of Read
	buf     []byte
	left    []byte // of buf: read and not yet given to the caller
	err     error  // what follows left
	reading bool   // the goroutine is at work, and buf is its
	result  chan readResult
}

type readResult struct {
	n   int
	err error
}

func newPumpedInput(f *os.File) *pumpedInput {
	return &pumpedInput{f: f, closed: make(chan struct{}), result: make(chan readResult, 1)}
}

func (p *pumpedInput) Read(b []byte) (int, error) {
	if isClosed(p.closed) {
		return 0, net.ErrClosed
	}
	if p.readBy.expired() {
		return 0, os.ErrDeadlineExceeded
	}
	if len(p.left) == 0 && p.err == nil {
		if !p.reading {
			if p.buf == nil {
				p.buf = make([]byte, pumpBuffer)
			}
			p.reading = true
			go p.fetch()
		}
		select {
		case r := <-p.result:
			p.reading = false
			p.left, p.err = p.buf[:r.n], r.err
		case <-p.readBy.wait():
			return 0, os.ErrDeadlineExceeded
		case <-p.closed:
			return 0, net.ErrClosed
		}
	}
	if len(p.left) > 0 {
		n := copy(b, p.left)
		p.left = p.left[n:]
		return n, nil
	}
	err := p.err
	p.err = nil
	return 0, err
}

// fetch is the goroutine.
func (p *pumpedInput) fetch() {
	n, err := p.f.Read(p.buf)
	p.result <- readResult{n, err}
}

func (p *pumpedInput) SetReadDeadline(t time.Time) error {
	if isClosed(p.closed) {
		return net.ErrClosed
	}
	p.readBy.set(t)
	return nil
}

// Unread is not known: the file may grow.
func (p *pumpedInput) Unread() (int, error) { return 0, errors.ErrUnsupported }

func (p *pumpedInput) Close() error {
	var err error
	p.once.Do(func() {
		close(p.closed)
		p.readBy.stop()
		err = p.f.Close()
	})
	return err
}

// A pumpedOutput writes behind by at most one buffer: a Write past its
// deadline counts what the goroutine has taken. An error of the goroutine is
// that of the next call, and what it has not written yet is not acknowledged.
type pumpedOutput struct {
	f       *os.File
	origin  *os.File // f is a copy of it; or nil
	writeBy deadline
	dropped chan struct{}
	once    sync.Once

	mu      sync.Mutex // guards what follows
	buf     []byte
	writing int           // bytes that the goroutine has; buf is its while there are any
	flushed chan struct{} // closed when it is done
	err     error         // why it failed
	lost    int           // bytes that some Write has counted and that were not written
	ended   bool          // the file is closed as soon as nothing is in flight
	gone    bool          // it is
}

// newPumpedOutput takes over f. It writes to a copy where package os would end
// the process for a broken pipe.
func newPumpedOutput(f *os.File) *pumpedOutput {
	p := &pumpedOutput{f: f, dropped: make(chan struct{})}
	if g, ok := copyOf(f); ok {
		p.f, p.origin = g, f
	}
	return p
}

func (p *pumpedOutput) Write(b []byte) (int, error) {
	sent := 0
	for {
		flushed, err := p.step(b, &sent)
		if flushed == nil {
			return sent, err
		}
		select {
		case <-flushed:
		case <-p.writeBy.wait():
			if sent == len(b) {
				return sent, nil // all taken: the goroutine has it
			}
			return sent, os.ErrDeadlineExceeded
		case <-p.dropped:
			return sent, net.ErrClosed
		}
	}
}

// step gives the goroutine a part of b if it has none. It returns what to wait
// for, or nil when the Write is over.
func (p *pumpedOutput) step(b []byte, sent *int) (flushed chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return nil, net.ErrClosed
	case p.err != nil:
		if *sent > 0 { // the part that failed was this call's
			*sent -= p.lost
			p.lost = 0
		}
		return nil, p.err
	case p.writeBy.expired():
		return nil, os.ErrDeadlineExceeded
	case p.writing == 0 && *sent == len(b):
		return nil, nil
	case p.writing == 0:
		if p.buf == nil {
			p.buf = make([]byte, pumpBuffer)
		}
		p.writing = copy(p.buf, b[*sent:])
		p.flushed = make(chan struct{})
		*sent += p.writing
		go p.flush(p.writing)
	}
	return p.flushed, nil
}

// flush is the goroutine.
func (p *pumpedOutput) flush(n int) {
	m, err := p.f.Write(p.buf[:n])
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err, p.lost = err, n-m
	}
	p.writing = 0
	if p.ended {
		p.release()
	}
	close(p.flushed)
}

// release closes the file; mu is held, and nothing is in flight.
func (p *pumpedOutput) release() {
	p.gone = true
	if err := p.f.Close(); p.err == nil {
		p.err = err // a file may fail to be stored at the very end
	}
	if p.origin != nil {
		p.origin.Close()
	}
}

func (p *pumpedOutput) SetWriteDeadline(t time.Time) error {
	if isClosed(p.dropped) {
		return net.ErrClosed
	}
	p.writeBy.set(t)
	return nil
}

// Unacked is what the goroutine has not written yet, and then our end.
func (p *pumpedOutput) Unacked() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.writing + p.lost
	if p.ended && !p.gone {
		n++
	}
	return n, nil
}

// waitFlushed waits until the goroutine has written what it has, or until the
// deadline, and reports what has become of it.
func (p *pumpedOutput) waitFlushed() error {
	p.mu.Lock()
	flushed, writing, err := p.flushed, p.writing, p.err
	p.mu.Unlock()
	if writing == 0 {
		return err
	}
	select {
	case <-flushed:
	case <-p.writeBy.wait():
		return os.ErrDeadlineExceeded
	case <-p.dropped:
		return net.ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Close ends the output behind what the goroutine has, without waiting for it:
// waitFlushed does. The error is that of what was written before.
func (p *pumpedOutput) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	p.ended = true
	if p.writing > 0 {
		return nil
	}
	p.release()
	return p.err
}

// drop closes the file whatever is in flight, and wakes who waits.
func (p *pumpedOutput) drop() {
	p.once.Do(func() {
		close(p.dropped)
		p.writeBy.stop()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if !p.gone {
		p.release()
	}
}
