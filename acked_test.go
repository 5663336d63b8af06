package anysock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// TestWaitAcked: what the peer's kernel has taken is acknowledged, without an
// end of ours; what it has no room for is not, and a deadline or a context
// leaves the connection usable.
func TestWaitAcked(t *testing.T) {
	needAcks(t)
	a, b := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{Options: anysock.Options{ReceiveBuffer: 16 << 10}})
	ctx := t.Context()
	if _, err := a.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitAcked(ctx); err != nil {
		t.Fatalf("WaitAcked of a small write: %v", err)
	}
	if n, err := a.Unacked(); n != 0 || err != nil {
		t.Fatalf("Unacked is %d, %v after WaitAcked", n, err)
	}

	text := make([]byte, 64<<20)
	a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	n, err := a.Write(text)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("writing to a peer that does not read: %d, %v", n, err)
	}
	if err := a.WaitAcked(ctx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("WaitAcked past the deadline: %v", err)
	}
	a.SetWriteDeadline(time.Time{})
	cctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := a.WaitAcked(cctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitAcked with a context that ends: %v", err)
	}
	if n, err := a.Unacked(); n == 0 || err != nil {
		t.Errorf("Unacked is %d, %v while the peer does not read", n, err)
	}
	waited := make(chan error, 1)
	go func() { waited <- a.WaitAcked(ctx) }()
	if _, err := b.ReadAtLeast(ctx, make([]byte, 7+n), 7+n); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("WaitAcked while the peer reads: %v", err)
	}
}

// TestWaitAckedSeesAReset: bytes that a dead connection owes are never
// acknowledged.
func TestWaitAckedSeesAReset(t *testing.T) {
	needAcks(t)
	a, b := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{Options: anysock.Options{ReceiveBuffer: 16 << 10}})
	text := make([]byte, 64<<20)
	a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := a.Write(text); n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("writing to a peer that does not read: %d, %v", n, err)
	}
	a.SetWriteDeadline(time.Time{})
	waited := make(chan error, 1)
	go func() { waited <- a.WaitAcked(t.Context()) }()
	b.Abort()
	var e *anysock.Error
	if err := <-waited; !errors.As(err, &e) || e.Kind != anysock.KindReset {
		t.Errorf("WaitAcked of a connection that is reset: %v", err)
	}
	if how := a.End().How; how != anysock.AbortedByPeer {
		t.Errorf("the ending is %s", how)
	}
}

// TestWaitAckedUnsupported: Unix sockets have no acknowledgement.
func TestWaitAckedUnsupported(t *testing.T) {
	a, _ := mustPair(t, "unix:"+filepath.Join(t.TempDir(), "s"), &anysock.Dialer{}, &anysock.ListenConfig{})
	if err := a.WaitAcked(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("WaitAcked: %v", err)
	}
	if _, err := a.Unacked(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Unacked: %v", err)
	}
}
