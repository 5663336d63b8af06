package stdio

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/deadline"
)

// blockingPipe makes a pipe whose ends block, as those that are inherited.
func blockingPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(p[0]), "read end"), os.NewFile(uintptr(p[1]), "write end")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

const short = 30 * time.Millisecond

// Contract 8: what the goroutine reads after the caller has left is the next
// caller's.
func TestPumpedInputLosesNothing(t *testing.T) {
	r, w := blockingPipe(t)
	p := newPumpedInput(r)
	buf := make([]byte, 3)
	for i := range 10 {
		p.SetReadDeadline(time.Now().Add(short / 10))
		if n, err := p.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("round %d: %d, %v", i, n, err)
		}
	}
	write(t, w, "abcde")
	p.SetReadDeadline(time.Time{})
	if n, err := io.ReadFull(p, buf); n != 3 || err != nil || string(buf) != "abc" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	// A deadline that has passed counts for what is there, too.
	p.SetReadDeadline(time.Now().Add(-time.Second))
	if n, err := p.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	p.SetReadDeadline(time.Time{})
	if n, err := p.Read(buf); string(buf[:n]) != "de" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	w.Close()
	if n, err := p.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestPumpedInputClosed(t *testing.T) {
	r, w := blockingPipe(t)
	p := newPumpedInput(r)
	result := make(chan error)
	go func() {
		_, err := p.Read(make([]byte, 1))
		result <- err
	}()
	p.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := p.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := p.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	w.Close() // the goroutine ends: see TestMain
}

// What a write past its deadline counts, the goroutine writes.
func TestPumpedOutputCounts(t *testing.T) {
	r, w := blockingPipe(t)
	p := newPumpedOutput(w)
	p.SetWriteDeadline(time.Now().Add(short))
	n, err := p.Write(make([]byte, 1<<20))
	if n == 0 || n == 1<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	if m, err := p.Write([]byte("x")); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", m, err)
	}
	p.SetWriteDeadline(time.Time{})
	read := make(chan int)
	go func() {
		b, _ := io.ReadAll(r)
		read <- len(b)
	}()
	if m, err := p.Write([]byte("end")); m != 3 || err != nil {
		t.Fatalf("%d, %v", m, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Unacked(); n != 0 || err != nil {
		t.Errorf("%d not acknowledged, %v", n, err)
	}
	if got := <-read; got != n+3 {
		t.Errorf("%d bytes were counted, %d written", n+3, got)
	}
}

// What was taken is written before the end, and the end does not wait.
func TestPumpedOutputFlushes(t *testing.T) {
	r, w := blockingPipe(t)
	p := newPumpedOutput(w)
	p.SetWriteDeadline(time.Now().Add(short))
	n, err := p.Write(make([]byte, 1<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	left, err := p.Unacked()
	if left < 2 || left > deadline.BufferSize+1 || err != nil {
		t.Errorf("%d not acknowledged, %v", left, err)
	}
	if err := p.waitFlushed(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("waited past the deadline: %v", err)
	}
	b, err := io.ReadAll(r)
	if err != nil || len(b) != n {
		t.Errorf("%d of %d bytes, %v", len(b), n, err)
	}
	p.SetWriteDeadline(time.Time{})
	if err := p.waitFlushed(); err != nil {
		t.Error(err)
	}
	if left, err := p.Unacked(); left != 0 || err != nil {
		t.Errorf("%d not acknowledged, %v", left, err)
	}
}

func TestPumpedOutputReportsOnce(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	p := newPumpedOutput(full)
	if n, err := p.Write([]byte("abc")); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := p.Write([]byte("abc")); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	if err := p.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

// An error that comes when the writer has left is told at the end.
func TestPumpedOutputLateError(t *testing.T) {
	r, w := blockingPipe(t)
	p := newPumpedOutput(w)
	p.SetWriteDeadline(time.Now().Add(short))
	if n, err := p.Write(make([]byte, 1<<20)); n == 1<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p.SetWriteDeadline(time.Time{})
	r.Close()
	if err := p.waitFlushed(); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v, want the broken pipe", err)
	}
	if n, err := p.Unacked(); n == 0 || n > deadline.BufferSize || err != nil {
		t.Errorf("%d not acknowledged, %v", n, err)
	}
}

func TestPumpedOutputDropped(t *testing.T) {
	r, w := blockingPipe(t)
	p := newPumpedOutput(w)
	p.SetWriteDeadline(time.Now().Add(short))
	if _, err := p.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	d := newDuplex(newPumpedInput(r), p, processAddr("test"), addr{"test", ""})
	if err := d.Abort(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if n, err := p.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
}
