package deadline

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

const (
	short = 20 * time.Millisecond
	bound = 10 * time.Second
)

// newReader reads r through a Reader, which is gone with its goroutine when
// the test ends.
func newReader(t *testing.T, src Source, unblock func()) *Reader {
	t.Helper()
	r := NewReader(src)
	t.Cleanup(func() {
		r.Close()
		unblock()
		r.Wait()
	})
	return r
}

// What the goroutine reads after the caller has left is the next caller's.
func TestReaderLosesNothing(t *testing.T) {
	for _, eager := range []bool{false, true} {
		pr, pw := io.Pipe()
		r := newReader(t, Source{Read: pr.Read, Eager: eager}, func() { pr.Close() })
		buf := make([]byte, 3)
		for i := range 10 {
			r.SetDeadline(time.Now().Add(short / 10))
			if n, err := r.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("eager %t, round %d: %d, %v", eager, i, n, err)
			}
		}
		mustWrite(t, pw, "abcde")
		r.SetDeadline(time.Time{})
		if n, err := io.ReadFull(r, buf); n != 3 || err != nil || string(buf) != "abc" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		// A deadline that has passed counts for what is there, too.
		r.SetDeadline(time.Now().Add(-time.Second))
		if n, err := r.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d, %v", n, err)
		}
		r.SetDeadline(time.Time{})
		if n, err := r.Read(buf); string(buf[:n]) != "de" || err != nil {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		pw.Close()
		for range 2 {
			if n, err := r.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if isClosed(r.Failed()) {
			t.Error("an end is reported as a failure")
		}
	}
}

func mustWrite(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

// A caller that waits hears of a deadline that is set, of data, and of Close.
func TestReaderWakes(t *testing.T) {
	pr, pw := io.Pipe()
	r := newReader(t, Source{Read: pr.Read, Eager: true}, func() { pr.Close() })
	result := make(chan error)
	read := func() {
		_, err := r.Read(make([]byte, 1))
		result <- err
	}
	go read()
	r.SetDeadline(time.Now().Add(short))
	if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	r.SetDeadline(time.Now().Add(bound))
	go read()
	mustWrite(t, pw, "x")
	if err := <-result; err != nil {
		t.Error(err)
	}
	go read()
	r.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := r.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	r.Close()
}

// An eager Reader stops reading when its buffer is full, goes on when there is
// room, and gives everything in order.
func TestReaderIsBounded(t *testing.T) {
	data := make([]byte, 10*BufferSize+123)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	src := bytes.NewReader(data)
	asked := make(chan int, 1000)
	r := newReader(t, Source{Eager: true, Read: func(p []byte) (int, error) {
		asked <- len(p)
		return src.Read(p[:min(len(p), 5000)])
	}}, func() {})
	for r.Buffered() < BufferSize*3/4 {
		select {
		case <-asked:
		case <-time.After(time.Millisecond): // what was asked for last may not be there yet
		}
	}
	var got []byte
	for len(got) < len(data) {
		buf := make([]byte, 777)
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		if b := r.Buffered(); b > BufferSize {
			t.Fatalf("%d bytes are buffered", b)
		}
		for len(asked) > 0 {
			if n := <-asked; n == 0 || n > BufferSize {
				t.Fatalf("the source is asked for %d bytes", n)
			}
		}
	}
	if !bytes.Equal(got, data) {
		t.Error("what was read is not what was there")
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
}

// A failure is known before the bytes in front of it are read, and comes after
// them.
func TestReaderFailed(t *testing.T) {
	reset := errors.New("reset")
	pr, pw := io.Pipe()
	r := newReader(t, Source{Read: pr.Read, Eager: true}, func() { pr.Close() })
	mustWrite(t, pw, "last words")
	pw.CloseWithError(reset)
	select {
	case <-r.Failed():
	case <-time.After(bound):
		t.Fatal("not noticed")
	}
	if err := r.Err(); !errors.Is(err, reset) {
		t.Error(err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "last words" || !errors.Is(err, reset) {
		t.Errorf("%q, %v", got, err)
	}
}

// Closing is no failure, and what comes afterwards is not kept.
func TestReaderClosedIsNoFailure(t *testing.T) {
	pr, pw := io.Pipe()
	r := NewReader(Source{Read: pr.Read, Eager: true})
	r.Close()
	pw.CloseWithError(errors.New("reset"))
	r.Wait()
	if isClosed(r.Failed()) {
		t.Error("Failed is closed")
	}
}

// While a source with Wait has nothing, no buffer is held; one read without
// being asked, and no more, when it is not eager.
func TestReaderHoldsNoBufferWhenIdle(t *testing.T) {
	for _, eager := range []bool{false, true} {
		there := make(chan string)
		idle := make(chan struct{}, 10)
		var left string
		r := newReader(t, Source{
			Eager: eager,
			Wait: func() error {
				idle <- struct{}{}
				s, ok := <-there
				if !ok {
					return io.EOF
				}
				left = s
				return nil
			},
			Read: func(p []byte) (int, error) { return copy(p, left), nil },
		}, func() { close(there) })
		held := func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.ring.buf != nil
		}
		for range 3 {
			go func() {
				<-idle
				if held() {
					t.Error("an idle Reader holds a buffer")
				}
				there <- "data"
			}()
			buf := make([]byte, 10)
			if n, err := r.Read(buf); string(buf[:n]) != "data" || err != nil {
				t.Fatalf("%q, %v", buf[:n], err)
			}
		}
	}
}
