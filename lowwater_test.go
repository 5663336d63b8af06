package anysock_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

// This file holds the tests of the low-water mark and of waiting with a
// time-out.

// TestReadAtLeast: the result is exact however the bytes come in.
func TestReadAtLeast(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		c, peer := mustPair(t, addr, &anysock.Dialer{}, &anysock.ListenConfig{})
		type result struct {
			n   int
			err error
		}
		read := func(p []byte, low int) chan result {
			ch := make(chan result, 1)
			go func() {
				n, err := c.ReadAtLeast(soon(t), p, low)
				ch <- result{n, err}
			}()
			return ch
		}
		write := func(n int) {
			t.Helper()
			if m, err := peer.Write(make([]byte, n)); m != n || err != nil {
				t.Fatalf("Write = %d, %v", m, err)
			}
		}

		got := read(make([]byte, 1000), 250)
		for _, n := range []int{100, 100, 49} {
			write(n)
			select {
			case r := <-got:
				t.Fatalf("ReadAtLeast(250) returned early with %d, %v", r.n, r.err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		write(1)
		if r := await(t, "250 bytes", got); r.n != 250 || r.err != nil {
			t.Errorf("ReadAtLeast = %d, %v; want 250", r.n, r.err)
		}

		// More than is asked for comes along when it is there.
		write(300)
		eventually(t, "300 bytes to be there", func() bool {
			r, err := c.Wait(soon(t), anysock.Readable, 300)
			return err == nil && r&anysock.Readable != 0
		})
		if r := await(t, "300 bytes", read(make([]byte, 1000), 250)); r.n != 300 || r.err != nil {
			t.Errorf("ReadAtLeast = %d, %v; want 300", r.n, r.err)
		}

		// A mark above the kernel's buffer works too.
		const big = 4 << 20
		got = read(make([]byte, big), big)
		write(big)
		if r := await(t, "4 MiB", got); r.n != big || r.err != nil {
			t.Errorf("ReadAtLeast = %d, %v; want %d", r.n, r.err, big)
		}

		// Afterwards a plain Read takes a single byte: the mark is gone.
		write(1)
		c.SetReadDeadline(time.Now().Add(tooLong))
		if n, err := c.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("Read = %d, %v; want 1", n, err)
		}

		// A cancelled call returns what it had, and the connection goes on.
		ctx, cancel := context.WithCancel(t.Context())
		cut := make(chan result, 1)
		go func() {
			n, err := c.ReadAtLeast(ctx, make([]byte, 100), 50)
			cut <- result{n, err}
		}()
		write(7)
		eventually(t, "the bytes to be taken", func() bool { return c.Received() == 250+300+big+1+7 })
		cancel()
		if r := await(t, "the cancelled call", cut); r.n != 7 || !errors.Is(r.err, context.Canceled) {
			t.Errorf("cancelled ReadAtLeast = %d, %v; want 7 and the context's error", r.n, r.err)
		}

		// An end in the middle is unexpected, an end before the first byte is not.
		got = read(make([]byte, 100), 50)
		write(10)
		must(t, "CloseWrite", peer.CloseWrite())
		if r := await(t, "the end", got); r.n != 10 || !errors.Is(r.err, io.ErrUnexpectedEOF) || errors.Is(r.err, io.EOF) {
			t.Errorf("ReadAtLeast over an end = %d, %v; want 10, ErrUnexpectedEOF", r.n, r.err)
		}
		if n, err := c.ReadAtLeast(soon(t), make([]byte, 100), 50); n != 0 || err != io.EOF { //nolint:errorlint // EOF comes bare
			t.Errorf("ReadAtLeast after the end = %d, %v; want 0, EOF", n, err)
		}
	})
}

// TestReadAtLeastBounds: a mark outside the buffer is an error, not a hang.
func TestReadAtLeastBounds(t *testing.T) {
	c, peer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	if _, err := peer.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ size, low int }{{10, 0}, {10, -1}, {10, 11}, {0, 0}, {0, 1}} {
		n, err := c.ReadAtLeast(soon(t), make([]byte, tt.size), tt.low)
		if n != 0 {
			t.Errorf("ReadAtLeast of %d with mark %d read %d bytes", tt.size, tt.low, n)
		}
		wantErrorKind(t, "the mark", err, anysock.KindState)
	}
	if n, err := c.ReadAtLeast(soon(t), make([]byte, 10), 10); n != 10 || err != nil {
		t.Errorf("ReadAtLeast at the bound = %d, %v", n, err)
	}
}

// TestWaitTimeout: waiting consumes nothing, ends with the context's error,
// and leaves the connection and its deadlines alone.
func TestWaitTimeout(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		c, peer := mustPair(t, addr, &anysock.Dialer{}, &anysock.ListenConfig{})
		wait := func(d time.Duration, low int) (anysock.Readiness, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return c.Wait(ctx, anysock.Readable, low)
		}
		start := time.Now()
		r, err := wait(30*time.Millisecond, 1)
		if r != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) < 30*time.Millisecond {
			t.Errorf("Wait = %v, %v after %s; want a time-out after 30 ms", r, err, time.Since(start))
		}
		wantErrorKind(t, "the time-out", err, anysock.KindTimeout)

		// Fewer bytes than the mark do not make it readable.
		if _, err := peer.Write(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		if r, err := wait(tooLong, 9); err != nil || r&anysock.Readable == 0 {
			t.Fatalf("Wait for 9 bytes = %v, %v", r, err)
		}
		if r, err := wait(30*time.Millisecond, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait for 10 bytes with 9 there = %v, %v", r, err)
		}
		// Nothing was consumed.
		if n, err := c.ReadAtLeast(soon(t), make([]byte, 20), 9); n != 9 || err != nil {
			t.Errorf("ReadAtLeast = %d, %v; want the 9 bytes", n, err)
		}
		// The peer's end makes it readable with fewer.
		if _, err := peer.Write(make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		must(t, "CloseWrite", peer.CloseWrite())
		if r, err := wait(tooLong, 100); err != nil || r&anysock.Readable == 0 {
			t.Errorf("Wait over an end = %v, %v", r, err)
		}
		if s := readAll(t, c); len(s) != 3 {
			t.Errorf("read %d bytes, want 3", len(s))
		}
		if r, err := c.Wait(soon(t), anysock.Writable, 0); !testproc.HasEpoll(t) {
			wantErrorKind(t, "Wait for room", err, anysock.KindUnsupported)
		} else if err != nil || r&anysock.Writable == 0 {
			t.Errorf("Wait for room = %v, %v", r, err)
		}
		// Closing wakes it.
		woken := make(chan error, 1)
		d, dpeer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
		go func() {
			_, err := d.Wait(soon(t), anysock.Readable, 1)
			woken <- err
		}()
		_ = dpeer
		must(t, "close", d.Close())
		wantErrorKind(t, "Wait over a Close", await(t, "Wait", woken), anysock.KindClosed)
	})
}
