// This file holds the halves for descriptors that cannot be waited for:
// regular files, devices, and everything on platforms without a better way. A
// goroutine makes the system call, and the caller waits for the goroutine or
// for its deadline, whichever comes first: see package deadline.
//
// There is at most one goroutine for each direction, with one buffer. It
// belongs to its half and ends with the one system call it makes. The kernel
// does not interrupt that call when the descriptor is closed: on a file it
// ends soon, on a blocking pipe with the next byte or the pipe's end. So
// nobody waits for it.

package stdio

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/anysock/anysock/internal/deadline"
)

// A pumpedInput reads ahead by at most one system call.
type pumpedInput struct {
	f    *os.File
	r    *deadline.Reader
	once sync.Once
}

func newPumpedInput(f *os.File) *pumpedInput {
	return &pumpedInput{f: f, r: deadline.NewReader(deadline.Source{Read: f.Read})}
}

func (p *pumpedInput) Read(b []byte) (int, error) { return p.r.Read(b) }

func (p *pumpedInput) SetReadDeadline(t time.Time) error { return p.r.SetDeadline(t) }

// Unread is not known: the file may grow.
func (p *pumpedInput) Unread() (int, error) { return 0, errors.ErrUnsupported }

func (p *pumpedInput) Close() error {
	var err error
	p.once.Do(func() {
		p.r.Close()
		err = p.f.Close()
	})
	return err
}

// A pumpedOutput writes behind by at most one buffer: a Write past its
// deadline counts what the goroutine has taken. An error of the goroutine is
// that of the next call, and what it has not written yet is not acknowledged.
type pumpedOutput struct {
	f      *os.File
	origin *os.File // f is a copy of it; or nil
	w      *deadline.Writer

	mu    sync.Mutex // guards what follows
	ended bool       // the file is closed as soon as nothing is in flight
	gone  bool       // it is
}

// newPumpedOutput takes over f. It writes to a copy where package os would end
// the process for a broken pipe.
func newPumpedOutput(f *os.File) *pumpedOutput {
	p := &pumpedOutput{f: f}
	if g, ok := copyOf(f); ok {
		p.f, p.origin = g, f
	}
	p.w = deadline.NewWriter(p.f.Write)
	return p
}

func (p *pumpedOutput) Write(b []byte) (int, error) { return p.w.WriteThrough(b) }

func (p *pumpedOutput) SetWriteDeadline(t time.Time) error { return p.w.SetDeadline(t) }

// Unacked is what the goroutine has not written yet, and then our end.
func (p *pumpedOutput) Unacked() (int, error) {
	n := p.w.Queued()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended && !p.gone {
		n++
	}
	return n, nil
}

// waitFlushed waits until the goroutine has written what it has, or until the
// deadline, and reports what has become of it.
func (p *pumpedOutput) waitFlushed() error { return p.w.Flush() }

// Close ends the output behind what the goroutine has, without waiting for it:
// waitFlushed does. The error is that of what was written before.
func (p *pumpedOutput) Close() error {
	p.mu.Lock()
	again := p.ended
	p.ended = true
	p.mu.Unlock()
	if again {
		return nil
	}
	busy := p.w.Queued() > 0 && p.w.Err() == nil
	p.w.End(p.release)
	if busy {
		return nil
	}
	select {
	case <-p.w.Ended(): // at once: there was nothing to write
	case <-p.w.Closed():
		return net.ErrClosed
	}
	return p.w.Err()
}

// release closes the file, once.
func (p *pumpedOutput) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	p.gone = true
	err := p.f.Close() // a file may fail to be stored at the very end
	if p.origin != nil {
		p.origin.Close()
	}
	return err
}

// drop closes the file whatever is in flight, and wakes who waits.
func (p *pumpedOutput) drop() {
	p.w.Close()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.release()
}
