package anysock

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTurn: one holder at a time under contention, cancellation and shutting.
func TestTurn(t *testing.T) {
	var tn turn
	held := 0
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 2000 {
				ctx, cancel := context.WithCancel(context.Background())
				if (i+j)%3 == 0 {
					go cancel()
				}
				if err := tn.lock(ctx); err == nil {
					held++
					if held != 1 {
						t.Errorf("%d hold the turn", held)
					}
					held--
					if j%97 == 0 {
						tn.shut()
						tn.reopen()
					}
					tn.unlock()
				}
				cancel()
			}
		}()
	}
	wg.Wait()
	if !tn.try() {
		t.Error("the turn is not free at the end")
	}
	tn.shut()
	if err := tn.lock(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("lock of a shut turn: %v", err)
	}
	tn.unlock()
	if err := tn.lock(context.Background()); err != nil {
		t.Errorf("a free turn can be had, shut or not: %v", err)
	}
}

// heldWrite is a carrier whose Write has delivered when it says so, and
// returns later; its Read then finds a reset.
type heldWrite struct {
	net.Conn
	delivered, release chan struct{}
	once               sync.Once
}

func (h *heldWrite) Write(p []byte) (int, error) {
	close(h.delivered)
	<-h.release
	return len(p), nil
}

func (h *heldWrite) Read([]byte) (int, error) {
	<-h.delivered
	return 0, syscall.ECONNRESET
}

// SetWriteDeadline is called to wake the writer.
func (h *heldWrite) SetWriteDeadline(d time.Time) error {
	if !d.IsZero() {
		h.once.Do(func() { close(h.release) })
	}
	return nil
}

// TestEndingCountsCallsAtWork: the ending that a read records counts what a
// write had delivered but not returned, and the write's event precedes it.
func TestEndingCountsCallsAtWork(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	var ops []string
	h := &heldWrite{Conn: a, delivered: make(chan struct{}), release: make(chan struct{})}
	c := newConn(0, "test", asStream(h), CapAbort, Options{}, nil, func(e Event) { ops = append(ops, e.Op) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n, err := c.Write(make([]byte, 250)); n != 250 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("read: %v", err)
	}
	<-done
	if e := c.End(); e.Sent != 250 || e.How != AbortedByPeer {
		t.Errorf("the ending says %v", e)
	}
	if len(ops) != 3 || ops[2] != OpEnd {
		t.Errorf("events: %v", ops)
	}
	c.Close()
}
