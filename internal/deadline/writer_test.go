package deadline

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// newWriter writes to a pipe through a Writer, which is gone with its goroutine
// when the test ends.
func newWriter(t *testing.T) (*Writer, *io.PipeReader) {
	t.Helper()
	pr, pw := io.Pipe()
	w := NewWriter(pw.Write)
	t.Cleanup(func() {
		w.Close()
		pr.Close()
		w.Wait()
	})
	return w, pr
}

// What is counted past a deadline is written, and not a byte more.
func TestWriterCounts(t *testing.T) {
	w, pr := newWriter(t)
	data := make([]byte, 3*BufferSize)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	w.SetDeadline(time.Now().Add(short))
	n, err := w.Write(data)
	if n != BufferSize || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	if q := w.Queued(); q != n {
		t.Errorf("%d bytes are queued", q)
	}
	if m, err := w.Write([]byte("x")); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", m, err)
	}
	if err := w.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	w.SetDeadline(time.Time{})
	got := make(chan []byte)
	go func() {
		b := make([]byte, len(data))
		_, _ = io.ReadFull(pr, b)
		got <- b
	}()
	if m, err := w.WriteThrough(data[n:]); m != len(data)-n || err != nil {
		t.Fatalf("%d, %v", m, err)
	}
	if q := w.Queued(); q != 0 {
		t.Errorf("%d bytes are queued", q)
	}
	if !bytes.Equal(<-got, data) {
		t.Error("what was written is not what was given")
	}
}

// Write returns when the bytes are taken, WriteThrough when they are written
// or the deadline has passed.
func TestWriterWriteIsTaken(t *testing.T) {
	w, pr := newWriter(t)
	if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	w.SetDeadline(time.Now().Add(short))
	if n, err := w.WriteThrough([]byte("def")); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if !w.by.Passed() {
		t.Error("WriteThrough did not wait")
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(pr, buf); err != nil || string(buf) != "abcdef" {
		t.Errorf("%q, %v", buf, err)
	}
	w.SetDeadline(time.Time{})
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running || w.ring.buf != nil {
		t.Error("an idle Writer has a goroutine or a buffer")
	}
}

var errFull = errors.New("full")

// A quota takes so many bytes and then fails.
type quota struct {
	mu    sync.Mutex
	left  int
	hold  chan struct{} // writes wait until it is closed
	ended int
}

func (q *quota) Write(p []byte) (int, error) {
	if q.hold != nil {
		<-q.hold
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(p), q.left)
	q.left -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func (q *quota) end() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended++
	return nil
}

// WriteThrough counts what was written; nothing of it is left over.
func TestWriterFailure(t *testing.T) {
	for _, left := range []int{0, 5, 100, BufferSize, BufferSize + 7, 2*BufferSize - 1} {
		w := NewWriter((&quota{left: left}).Write)
		n, err := w.WriteThrough(make([]byte, 2*BufferSize))
		if n != left || !errors.Is(err, errFull) {
			t.Errorf("%d, %v; want %d", n, err, left)
		}
		if q := w.Queued(); q != 0 {
			t.Errorf("%d bytes are called lost twice", q)
		}
		if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, errFull) {
			t.Errorf("again: %d, %v", n, err)
		}
		if err := w.Flush(); !errors.Is(err, errFull) {
			t.Error(err)
		}
		w.Close()
		w.Wait()
	}
}

// A failure that comes when the writer has left is told later, with what is
// lost.
func TestWriterLateFailure(t *testing.T) {
	q := &quota{left: 10, hold: make(chan struct{})}
	w := NewWriter(q.Write)
	if n, err := w.Write(make([]byte, 100)); n != 100 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	w.SetDeadline(time.Now().Add(short))
	if n, err := w.WriteThrough(make([]byte, 30)); n != 30 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	close(q.hold)
	w.SetDeadline(time.Time{})
	if err := w.Flush(); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if n := w.Queued(); n != 120 {
		t.Errorf("%d bytes are lost, want 120", n)
	}
	w.Close()
	w.Wait()
}

// The end comes behind the last byte, whether or not somebody waits for it.
func TestWriterEnd(t *testing.T) {
	pr, pw := io.Pipe()
	w := NewWriter(pw.Write)
	if _, err := w.Write(make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	w.SetDeadline(time.Now().Add(-time.Second))
	w.End(pw.Close)
	w.End(func() error { t.Error("ended twice"); return nil })
	if isClosed(w.Ended()) {
		t.Error("ended before the bytes were written")
	}
	if err := w.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
	if b, err := io.ReadAll(pr); len(b) != 50_000 || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	<-w.Ended()
	w.SetDeadline(time.Time{})
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	w.Wait()
	w.Close()

	// Nothing was written; and the end's error is the Writer's.
	w = NewWriter(pw.Write)
	w.End(func() error { return errFull })
	if err := w.Flush(); !errors.Is(err, errFull) {
		t.Error(err)
	}
	w.Close()
	w.Wait()
}

// Closing wakes a writer, discards the rest, and calls no end.
func TestWriterClose(t *testing.T) {
	q := &quota{left: 1 << 30, hold: make(chan struct{})}
	w := NewWriter(q.Write)
	result := make(chan error)
	go func() {
		_, err := w.Write(make([]byte, 3*BufferSize))
		result <- err
	}()
	for start := time.Now(); w.Queued() < BufferSize; runtime.Gosched() {
		if time.Since(start) > bound {
			t.Fatal("nothing is taken")
		}
	}
	w.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	w.End(q.end)
	defer func() {
		if err := w.Flush(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}()
	if err := w.Flush(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := w.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	close(q.hold)
	w.Wait()
	if q.ended != 0 {
		t.Error("the end was sent after Close")
	}
	if n := 1<<30 - q.left; n > BufferSize {
		t.Errorf("%d bytes were written after Close", n)
	}
	w.Close()
}
