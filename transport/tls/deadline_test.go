package tls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

// numbers is a text that tells every place of it.
func numbers(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteString(time.Duration(i).String())
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

// bubblePair is a connection over mem in a bubble, with buffers that are full
// soon.
func bubblePair(t *testing.T) (a, b *anysock.Conn) {
	t.Helper()
	c := newCerts(t)
	near, far := anysock.Pipe(anysock.Options{ReceiveBuffer: 20_000})
	a, b, err := overPair(t.Context(), c, tls.VersionTLS13, near, far, anysock.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// A write deadline that passes ends the Write with what it has accepted, and
// all of that arrives though the deadline stays in the past and nobody writes
// again; the connection goes on afterwards.
func TestPassedWriteDeadlineKeepsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := bubblePair(t)
		p := numbers(500_000)
		began := time.Now()
		a.SetWriteDeadline(began.Add(time.Second))
		n, err := a.Write(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(p) {
			t.Fatalf("Write: %d of %d bytes, %v", n, len(p), err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("Write gave up after %s", took)
		}
		if m, err := a.Write(p[n:]); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write past its deadline: %d, %v", m, err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, p[:n]) {
			t.Fatalf("of %d accepted bytes not all came: %v", n, err)
		}
		if sent := a.Sent(); sent != int64(n) {
			t.Errorf("Sent says %d of %d", sent, n)
		}
		a.SetWriteDeadline(time.Time{})
		write(t, a, "more")
		expect(t, b, "more")
		write(t, b, "back")
		expect(t, a, "back")
		_, _ = a.Abort(), b.Abort()
	})
}

// A read deadline that passes in the middle of a record loses nothing of it.
func TestPassedReadDeadlineInARecord(t *testing.T) {
	c := newCerts(t)
	a, b, w := session(t, c, tls.VersionTLS13, false)
	write(t, b, "message")
	for range 5 + len("message") {
		if err := w.pass(1); err != nil {
			t.Fatal(err)
		}
		a.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Read of a part of a record: %d, %v", n, err)
		}
	}
	a.SetReadDeadline(time.Now().Add(testBound))
	if err := w.pass(1 + 16); err != nil { // the rest: type and tag
		t.Fatal(err)
	}
	expect(t, a, "message")
}

// An end that the carrier does not take before the deadline is tried again by
// the next call, and comes after what was accepted.
func TestCloseWritePastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := bubblePair(t)
		a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(numbers(500_000))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Write: %d, %v", n, err)
		}
		if err := a.CloseWrite(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("CloseWrite past the deadline: %v", err)
		}
		a.SetWriteDeadline(time.Time{})
		closed := make(chan error)
		go func() { closed <- a.CloseWrite() }()
		got, err := io.ReadAll(b)
		if err != nil || len(got) != n {
			t.Errorf("%d bytes came of %d, %v", len(got), n, err)
		}
		if err := <-closed; err != nil {
			t.Errorf("CloseWrite: %v", err)
		}
		_, _ = a.Abort(), b.Abort()
	})
}

// Disconnect to a peer that does not read does not claim more than what
// arrives, though a record that is cut is lost whole.
func TestUnackedCoversARecord(t *testing.T) {
	p := numbers(200_000)
	for size := 20_000; size < 40_000; size += 1777 {
		synctest.Test(t, func(t *testing.T) {
			c := newCerts(t)
			near, far := anysock.Pipe(anysock.Options{ReceiveBuffer: size})
			a, b, err := overPair(t.Context(), c, tls.VersionTLS13, near, far, anysock.Options{})
			if err != nil {
				t.Fatal(err)
			}
			a.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := a.Write(p); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("Write: %v", err)
			}
			end, err := a.Disconnect(t.Context())
			wantError(t, err, anysock.KindLost)
			got, err := io.ReadAll(b)
			wantError(t, err, anysock.KindTruncated)
			if int64(len(got)) < end.Sent-end.Unacked || !bytes.Equal(got, p[:len(got)]) {
				t.Errorf("%d bytes came; the ending is %v", len(got), end)
			}
			_ = b.Close()
			<-near.Done()
			<-far.Done()
		})
	}
}

// An idle connection has no goroutine, on neither side.
func TestIdleHasNoGoroutine(t *testing.T) {
	c := newCerts(t)
	ln := listen(t, "tls://127.0.0.1:0"+c.serving())
	settled := func() int {
		for deadline := time.Now().Add(testBound); ; {
			n := runtime.NumGoroutine()
			runtime.Gosched()
			if n == runtime.NumGoroutine() || time.Now().After(deadline) {
				return n
			}
		}
	}
	dial(t, "tls://"+ln.Addr().String()+c.trusting())
	write(t, accept(t, ln), "x")
	before := settled()
	for range 20 {
		a := dial(t, "tls://"+ln.Addr().String()+c.trusting())
		b := accept(t, ln)
		write(t, a, strings.Repeat("x", 1000))
		expect(t, b, strings.Repeat("x", 1000))
	}
	var after int
	for deadline := time.Now().Add(testBound); time.Now().Before(deadline); {
		if after = settled(); after < before+20 {
			return
		}
	}
	t.Errorf("20 idle connections have %d goroutines more", after-before)
}
