// This file holds the Writer: deadlines for a sink whose writes only block.

package deadline

import (
	"net"
	"os"
	"sync"
	"time"
)

// A Writer gives deadlines to a sink. A goroutine writes behind by at most
// BufferSize bytes; it is there only while there is something to write. What
// has been counted is written, whatever deadline passes meanwhile.
//
// Calls of Write take turns by the caller's doing; the other methods may be
// called from several goroutines.
type Writer struct {
	sink   func(p []byte) (int, error)
	by     Instant
	closed chan struct{}
	ended  chan struct{}  // closed when what End was given has returned
	wg     sync.WaitGroup // the goroutine

	mu      sync.Mutex // guards what follows
	ring    ring       // taken and not yet written; after err, lost
	err     error      // why it failed; sticky
	running bool       // the goroutine is there, and uses ring's front
	ending  bool       // End was called
	end     func() error
	changed chan struct{} // closed and removed when something has changed; nil if nobody waits
	gone    bool          // Close was called
}

// NewWriter makes a Writer for a sink that writes all of p or returns an error,
// as io.Writer has it. One goroutine at a time calls it. Close must be called.
func NewWriter(sink func(p []byte) (int, error)) *Writer {
	return &Writer{sink: sink, closed: make(chan struct{}), ended: make(chan struct{})}
}

// Write takes p and returns when the last byte of it is taken, not when it is
// written: that is Flush. The count is of what was taken. The error is the
// sink's, from this call or one before, os.ErrDeadlineExceeded, or
// net.ErrClosed after End and Close.
func (w *Writer) Write(p []byte) (int, error) {
	sent := 0
	for {
		changed, err := w.put(p, &sent)
		if changed == nil {
			return sent, err
		}
		w.await(changed)
	}
}

// put takes what there is room for. It returns what to wait for, or nil when
// the Write is over.
func (w *Writer) put(p []byte, sent *int) (changed chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.gone, w.ending:
		return nil, net.ErrClosed
	case w.err != nil:
		return nil, w.err
	case w.by.Passed():
		return nil, os.ErrDeadlineExceeded
	}
	n := w.ring.put(p[*sent:])
	*sent += n
	if n > 0 && !w.running {
		w.start()
	}
	if *sent == len(p) {
		return nil, nil
	}
	return w.change(), nil
}

// WriteThrough is Write and Flush in one: it returns when p is written. Past
// the deadline it counts what was taken, and is without an error if that is
// all; when the sink fails it counts only what was written.
func (w *Writer) WriteThrough(p []byte) (int, error) {
	n, err := w.Write(p)
	if err == nil {
		err = w.Flush()
	}
	switch {
	case err == nil:
	case w.Err() != nil:
		if n > 0 { // what was lost is this call's: those before have waited
			n -= w.disown(n)
		}
	case n == len(p):
		err = nil // the deadline has passed, but all is taken
	}
	return n, err
}

// disown takes at most n lost bytes out of the count.
func (w *Writer) disown(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(n, w.ring.n)
	w.ring.drop(n)
	w.ring.release(false)
	return n
}

// Flush waits until all that was taken is written and, after End, the end too:
// nil. Or until the deadline (os.ErrDeadlineExceeded), a failure (the sink's
// error) or Close (net.ErrClosed).
func (w *Writer) Flush() error {
	for {
		w.mu.Lock()
		switch {
		case w.err != nil:
			err := w.err
			w.mu.Unlock()
			return err
		case w.gone:
			w.mu.Unlock()
			return net.ErrClosed
		case !w.running:
			w.mu.Unlock()
			return nil
		}
		changed := w.change()
		w.mu.Unlock()
		if w.by.Passed() {
			return os.ErrDeadlineExceeded
		}
		w.await(changed)
	}
}

func (w *Writer) await(changed chan struct{}) {
	select {
	case <-changed:
	case <-w.by.Wait():
	case <-w.closed:
	}
}

// change is closed at the next change; mu is held.
func (w *Writer) change() chan struct{} {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// wake tells who waits; mu is held.
func (w *Writer) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// start starts the goroutine; mu is held.
func (w *Writer) start() {
	w.running = true
	w.wg.Add(1)
	go w.drain()
}

// maxPiece is how much the sink is given at once: half of the buffer, so that
// the other half can be filled meanwhile.
const maxPiece = BufferSize / 2

// drain is the goroutine: it writes until there is nothing left.
func (w *Writer) drain() {
	defer w.wg.Done()
	for {
		w.mu.Lock()
		piece := w.ring.front()
		if w.gone || w.err != nil || len(piece) == 0 {
			break // with mu
		}
		w.mu.Unlock()
		n, err := w.sink(piece[:min(len(piece), maxPiece)])
		w.mu.Lock()
		w.ring.drop(n)
		if err != nil {
			w.err = err
		}
		w.wake()
		w.mu.Unlock()
	}
	if w.ending && !w.gone {
		// running stays set: nobody else gets here.
		w.mu.Unlock()
		err := w.end()
		w.mu.Lock()
		if w.err == nil {
			w.err = err
		}
		close(w.ended)
	}
	w.running = false
	w.ring.release(w.gone)
	w.wake()
	w.mu.Unlock()
}

// End has end called behind the last byte, or at once if there is none left or
// the sink has failed; its error is what Flush and Err return, if there was none
// before. It does not wait for that. Nothing is taken any more. A second call
// does nothing. After Close, end is not called.
func (w *Writer) End(end func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.gone {
		return
	}
	w.ending, w.end = true, end
	if !w.running {
		w.start()
	}
	w.wake()
}

// Ending reports whether End was called.
func (w *Writer) Ending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ending
}

// Ended is closed when what End was given has returned.
func (w *Writer) Ended() <-chan struct{} { return w.ended }

// Closed is closed by Close.
func (w *Writer) Closed() <-chan struct{} { return w.closed }

// Queued is how many bytes were taken and not written; after a failure, how
// many are lost.
func (w *Writer) Queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ring.n
}

// Err is the sink's error, or end's.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// SetDeadline bounds Write, WriteThrough and Flush, pending ones too; zero is
// no bound. After Close it returns net.ErrClosed.
func (w *Writer) SetDeadline(t time.Time) error {
	if isClosed(w.closed) {
		return net.ErrClosed
	}
	w.by.Set(t)
	return nil
}

// Close turns callers away and discards what is not written. The goroutine ends
// with the call of the sink that it has made: whoever can make that return does
// so, and then waits with Wait. A second Close does nothing.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return
	}
	w.gone = true
	close(w.closed)
	w.by.Stop()
	if !w.running {
		w.ring.release(true)
	}
	w.wake()
}

// Wait waits until the goroutine has ended, after Close or End.
func (w *Writer) Wait() { w.wg.Wait() }
