// Tests of the mem stream below Conn: its buffer, and what each end sees of
// what the other did.

package anysock

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemBufferKeepsOrder moves random pieces through rings of many sizes and
// compares with a plain queue.
func TestMemBufferKeepsOrder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, limit := range []int{1, 2, 3, 7, minMemBuffer - 1, minMemBuffer, minMemBuffer + 1, 5000} {
		b := memBuffer{limit: limit}
		var want []byte
		next := byte(0)
		for range 2000 {
			p := make([]byte, rnd.IntN(limit+2))
			for i := range p {
				p[i] = next + byte(i)
			}
			n := b.put(p)
			if room := limit - len(want); n != min(len(p), room) {
				t.Fatalf("limit %d: put took %d of %d with room for %d", limit, n, len(p), room)
			}
			next += byte(n)
			want = append(want, p[:n]...)

			q := make([]byte, rnd.IntN(limit+2))
			n = b.take(q)
			if n != min(len(q), len(want)) || !bytes.Equal(q[:n], want[:n]) {
				t.Fatalf("limit %d: take gave %d bytes of %d, or other ones", limit, n, len(want))
			}
			want = want[n:]
			if b.n != len(want) || len(b.ring) > limit {
				t.Fatalf("limit %d: holds %d, want %d; ring of %d", limit, b.n, len(want), len(b.ring))
			}
		}
	}
}

// TestMemBufferIsLazy: an idle connection has no buffer, and a closed one
// gives it back.
func TestMemBufferIsLazy(t *testing.T) {
	t.Parallel()
	a, b := memTestPair(DefaultMemBuffer)
	if len(a.in.ring)+len(b.in.ring) != 0 {
		t.Error("a new pair has buffers")
	}
	_, _ = a.Write([]byte("x"))
	if len(b.in.ring) != minMemBuffer {
		t.Errorf("one byte takes a ring of %d", len(b.in.ring))
	}
	_ = b.Close()
	if b.in.ring != nil {
		t.Error("a closed end keeps its buffer")
	}
}

func memTestPair(limit int) (*memStream, *memStream) {
	return newMemPair(memAddr{"mem", "a"}, memAddr{"mem", "b"}, limit, limit)
}

// TestMemStreamEndings is the table of what b sees after what a did: the
// bytes, then the error of Read, then that of Write.
func TestMemStreamEndings(t *testing.T) {
	t.Parallel()
	const hello = "hello"
	for _, tt := range []struct {
		name           string
		unread         bool // a has received bytes that it did not read
		bEnded         bool // b has ended its direction
		do             func(a *memStream)
		read, write    error
		unacked        int
		closeWriteNext error
	}{
		{name: "end", do: func(a *memStream) { _ = a.CloseWrite() }, read: io.EOF},
		{name: "close", do: func(a *memStream) { _ = a.Close() }, read: io.EOF, write: syscall.EPIPE},
		{name: "close with unread data", unread: true, do: func(a *memStream) { _ = a.Close() }, read: syscall.ECONNRESET, write: syscall.ECONNRESET, unacked: 3, closeWriteNext: syscall.ECONNRESET},
		{name: "close with unread data and end", unread: true, bEnded: true, do: func(a *memStream) { _ = a.Close() }, read: syscall.ECONNRESET, write: syscall.ECONNRESET, unacked: 4, closeWriteNext: syscall.ECONNRESET},
		{name: "end, close with unread data", unread: true, do: func(a *memStream) { _, _ = a.CloseWrite(), a.Close() }, read: io.EOF, write: syscall.EPIPE, unacked: 3, closeWriteNext: syscall.EPIPE},
		{name: "both ended, close with unread data", unread: true, bEnded: true, do: func(a *memStream) { _, _ = a.CloseWrite(), a.Close() }, read: io.EOF, write: syscall.EPIPE},
		{name: "abort", do: func(a *memStream) { _ = a.Abort() }, read: syscall.ECONNRESET, write: syscall.ECONNRESET, closeWriteNext: syscall.ECONNRESET},
		{name: "end, abort", do: func(a *memStream) { _, _ = a.CloseWrite(), a.Abort() }, read: io.EOF, write: syscall.EPIPE, closeWriteNext: syscall.EPIPE},
		{name: "both ended, abort", bEnded: true, do: func(a *memStream) { _, _ = a.CloseWrite(), a.Abort() }, read: io.EOF, write: syscall.EPIPE},
		{name: "close, abort", do: func(a *memStream) { _, _ = a.Close(), a.Abort() }, read: io.EOF, write: syscall.EPIPE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := memTestPair(100)
			if tt.unread {
				_, _ = b.Write([]byte("abc"))
			}
			if tt.bEnded {
				_ = b.CloseWrite()
			}
			if n, err := a.Write([]byte(hello)); n != len(hello) || err != nil {
				t.Fatal(n, err)
			}
			tt.do(a)
			if n, err := b.Unread(); n != len(hello) || err != nil {
				t.Errorf("unread: %d, %v", n, err)
			}
			if n, err := b.Unacked(); n != tt.unacked || err != nil {
				t.Errorf("unacked: %d, %v, want %d", n, err, tt.unacked)
			}
			if _, err := b.Write([]byte("x")); !errors.Is(err, tt.write) {
				t.Errorf("write: %v, want %v", err, tt.write)
			}
			p := make([]byte, 10)
			if n, err := b.Read(p); string(p[:n]) != hello || err != nil {
				t.Errorf("read: %q, %v", p[:n], err)
			}
			for range 2 { // an ending stays
				if n, err := b.Read(p); n != 0 || !errors.Is(err, tt.read) {
					t.Errorf("read: %d, %v, want %v", n, err, tt.read)
				}
			}
			if err := b.CloseWrite(); !errors.Is(err, tt.closeWriteNext) {
				t.Errorf("our end after theirs: %v, want %v", err, tt.closeWriteNext)
			}
			if err := b.TakeError(); !errors.Is(err, tt.closeWriteNext) {
				t.Errorf("pending error: %v, want %v", err, tt.closeWriteNext)
			}
			if err := b.WaitAcked(); !errors.Is(err, tt.closeWriteNext) {
				t.Errorf("acknowledgement: %v, want %v", err, tt.closeWriteNext)
			}
		})
	}
}

// TestMemStreamCloseRead: what comes is dropped, the peer is not held up, and
// closing afterwards is no reset.
func TestMemStreamCloseRead(t *testing.T) {
	t.Parallel()
	a, b := memTestPair(10)
	_, _ = b.Write([]byte("abc"))
	if err := a.CloseRead(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Write(make([]byte, 1000)); n != 1000 || err != nil {
		t.Errorf("write to a peer that reads no more: %d, %v", n, err)
	}
	if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read: %d, %v", n, err)
	}
	_ = a.Close()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("peer reads %v", err)
	}
}

// TestMemStreamCloseWakes: a close wakes those who wait at both ends.
func TestMemStreamCloseWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := memTestPair(4)
		_, _ = a.Write(make([]byte, 4))
		var wg sync.WaitGroup
		check := func(name string, want error, call func() (int, error)) {
			wg.Go(func() {
				if n, err := call(); n != 0 || !errors.Is(err, want) {
					t.Errorf("%s: %d, %v, want %v", name, n, err, want)
				}
			})
		}
		check("our read", net.ErrClosed, func() (int, error) { return a.Read(make([]byte, 1)) })
		check("our write", net.ErrClosed, func() (int, error) { return a.Write(make([]byte, 1)) })
		synctest.Wait()
		_ = a.Close()
		wg.Wait()
		for name, err := range map[string]error{
			"deadline": a.SetDeadline(time.Time{}), "read deadline": a.SetReadDeadline(time.Time{}),
			"write deadline": a.SetWriteDeadline(time.Time{}), "end": a.CloseWrite(),
			"close read": a.CloseRead(), "acknowledgement": a.WaitAcked(),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after close: %v", name, err)
			}
		}
		if _, err := a.Unread(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("unread after close: %v", err)
		}
		if err := errors.Join(a.Close(), a.Abort()); err != nil {
			t.Errorf("a second close: %v", err)
		}
		_ = b.Close()

		a, b = memTestPair(4)
		_, _ = b.Write(make([]byte, 4))
		check("peer's read", syscall.ECONNRESET, func() (int, error) { return b.Read(make([]byte, 1)) })
		check("peer's write", syscall.ECONNRESET, func() (int, error) { return b.Write(make([]byte, 1)) })
		synctest.Wait()
		_ = a.Abort()
		wg.Wait()
	})
}

// TestMemDeadlineExact: a call ends at its deadline and not before or after,
// the deadline can be moved while the call waits, and then set again.
func TestMemDeadlineExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := memTestPair(4)
		defer b.Close()
		defer a.Close()
		_, _ = a.Write(make([]byte, 4))
		type side struct {
			name string
			set  func(time.Time) error
			call func() (int, error)
		}
		for _, s := range []side{
			{"read", a.SetReadDeadline, func() (int, error) { return a.Read(make([]byte, 1)) }},
			{"write", a.SetWriteDeadline, func() (int, error) { return a.Write(make([]byte, 1)) }},
			{"both, read", a.SetDeadline, func() (int, error) { return a.Read(make([]byte, 1)) }},
			{"both, write", a.SetDeadline, func() (int, error) { return a.Write(make([]byte, 1)) }},
		} {
			expect := func(after time.Duration) {
				t.Helper()
				start := time.Now()
				if n, err := s.call(); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: %d, %v", s.name, n, err)
				}
				if took := time.Since(start); took != after {
					t.Errorf("%s: took %s, want %s", s.name, took, after)
				}
			}
			_ = s.set(time.Now().Add(3 * time.Second))
			expect(3 * time.Second)
			expect(0) // it stays
			_ = s.set(time.Now().Add(time.Second))
			expect(time.Second) // and can be used again

			_ = s.set(time.Now().Add(time.Second))
			later := time.AfterFunc(500*time.Millisecond, func() { _ = s.set(time.Now().Add(time.Minute)) })
			expect(60*time.Second + 500*time.Millisecond)
			later.Stop()

			_ = s.set(time.Time{})
			sooner := time.AfterFunc(time.Hour, func() { _ = s.set(time.Unix(1, 0)) })
			expect(time.Hour)
			sooner.Stop()
			_ = s.set(time.Time{})
		}
		// A Write that had sent a part says so.
		_, _ = b.Read(make([]byte, 3))
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 10)); n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v, want 3 bytes and the deadline's error", n, err)
		}
	})
}

func BenchmarkMemStream(b *testing.B) {
	const size = 32 << 10
	x, y := memTestPair(DefaultMemBuffer)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{y}, make([]byte, size))
	}()
	p := make([]byte, size)
	b.SetBytes(size)
	for b.Loop() {
		if _, err := x.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	_ = x.Close()
	<-done
}
