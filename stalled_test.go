package anysock_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// A stalledStream is one whose peer takes nothing: what writes, its end too,
// waits for the write deadline, and what reads for the read deadline.
type stalledStream struct {
	net.Conn // a pipe's end, for addresses and the read side

	mu       sync.Mutex
	deadline time.Time
	moved    chan struct{}
}

func newStalledStream(t *testing.T) *stalledStream {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	return &stalledStream{Conn: here, moved: make(chan struct{})}
}

func (s *stalledStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	close(s.moved)
	s.moved = make(chan struct{})
	return nil
}

// stall returns at the write deadline.
func (s *stalledStream) stall() error {
	for {
		s.mu.Lock()
		deadline, moved := s.deadline, s.moved
		s.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			expired = time.After(time.Until(deadline))
		}
		select {
		case <-moved:
		case <-expired:
			return os.ErrDeadlineExceeded
		}
	}
}

func (s *stalledStream) Write(p []byte) (int, error) {
	if err := s.stall(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *stalledStream) CloseWrite() error     { return s.stall() }
func (s *stalledStream) WaitAcked() error      { return s.stall() }
func (s *stalledStream) Unacked() (int, error) { return 1, nil }
func (s *stalledStream) Abort() error          { return s.Close() }

// TestCloseTurnsWaitingWritersAway: a carrier that does not take our end holds
// up the background disconnect, and nobody else.
func TestCloseTurnsWaitingWritersAway(t *testing.T) {
	c := anysock.Wrap(newStalledStream(t), anysock.Options{})
	calls := []func() error{
		func() error { _, err := c.Write([]byte("x")); return err },
		func() error { _, err := c.WriteBuffers([][]byte{{1}}); return err },
		func() error { return c.CloseWrite() },
		func() error { return c.WaitAcked(t.Context()) },
	}
	results := make(chan error, 2*len(calls))
	for _, call := range calls {
		go func() { results <- call() }()
	}
	must(t, "Close", c.Close())
	for _, call := range calls { // those that come later
		go func() { results <- call() }()
	}
	for range cap(results) {
		select {
		case err := <-results:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("a call at work or later says %v", err)
			}
		case <-time.After(tooLong):
			t.Fatal("a call waits for the background disconnect")
		}
	}
	start := time.Now()
	_ = c.Abort()
	<-c.Done()
	if took := time.Since(start); took > time.Second/2 {
		t.Errorf("Abort took %s", took)
	}
}

// TestAbortEndsAWaitForAcknowledgement: at once, also where the stream only
// knows deadlines.
func TestAbortEndsAWaitForAcknowledgement(t *testing.T) {
	s := newStalledStream(t)
	c := anysock.Wrap(&ackStalled{s}, anysock.Options{})
	must(t, "Close", c.Close())
	<-time.After(20 * time.Millisecond) // the disconnect waits for the acknowledgement
	start := time.Now()
	_ = c.Abort()
	<-c.Done()
	if took := time.Since(start); took > time.Second/2 {
		t.Errorf("Abort took %s", took)
	}
	if how := c.End().How; how != anysock.AbortedByUs {
		t.Errorf("the ending is %s", how)
	}
}

// ackStalled takes our end, and never acknowledges it.
type ackStalled struct{ *stalledStream }

func (s *ackStalled) CloseWrite() error        { return nil }
func (s *ackStalled) Read([]byte) (int, error) { return 0, io.EOF }
