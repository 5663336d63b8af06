// This file tests what happens when the carrier is slow or full: frames that a
// deadline cuts, answers that cannot be sent, peers that take their time.

package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

// TestCutFrameIsFinished without another call: the peer gets every byte that
// Write said it had accepted, in whole frames.
func TestCutFrameIsFinished(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<15) // 512 KiB; the carrier takes 64
	if err := c.SetWriteDeadline(timeout(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Write(sent)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n%MaxData != 0 || n >= len(sent) {
		t.Fatalf("Write says %d, %v; want some frames and a timeout", n, err)
	}
	if m, err := c.Write(sent); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the next Write says %d, %v", m, err)
	}
	for off := 0; off < n; off += MaxData {
		raw.expect(frame(frameData, sent[off:off+MaxData]...))
	}
	if err := c.SetWriteDeadline(never); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	raw.expect(data("more"))
}

// TestAnswersOvertakeNothing: what is due while a frame is stuck comes behind
// it, once of each kind.
func TestAnswersOvertakeNothing(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	block := bytes.Repeat([]byte{7}, MaxData)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(bytes.Repeat(block, 2)) // more than the carrier takes
		written <- err
	}()
	for i := range 100 {
		raw.send(data("x"), counted(framePing, int64(i+1)))
	}
	raw.send(counted(frameEnd, 100))
	if s, err := readAll(c); len(s) != 100 || err != nil {
		t.Fatalf("the program read %d bytes, %v", len(s), err)
	}
	l := record(&limited{rawReader{raw}})
	if err := <-written; err != nil {
		t.Error(err)
	}
	if l.ack != 100 || len(l.pongs) == 0 || len(l.pongs) > 20 || l.problem != nil {
		t.Errorf("the raw peer got END_ACK %d, PONGs %d, %v", l.ack, l.pongs, l.problem)
	}
	_ = c.Close()
}

// limited ends when nothing more comes for a while.
type limited struct{ r rawReader }

func (l *limited) Read(b []byte) (int, error) {
	raw := l.r
	raw.p.patience = 5 * watchAfter
	n, err := raw.Read(b)
	if errors.Is(err, context.DeadlineExceeded) {
		return n, io.EOF
	}
	return n, err
}

// TestPingFloodIsNotAnsweredAsOften: answers are few, and nothing is queued for
// a peer that does not read them.
func TestPingFloodIsNotAnsweredAsOften(t *testing.T) {
	const flood = 20_000
	c, raw := withRawPeer(t, liveness{})
	began := time.Now()
	raw.send(bytes.Repeat(counted(framePing, 0), flood), data("x"))
	if err := readExactly(c, 1); err != nil {
		t.Fatal(err)
	}
	most := int(time.Since(began)/pongEvery) + 2
	l := record(&limited{rawReader{raw}})
	if l.problem != nil || len(l.pongs) == 0 || len(l.pongs) > most+1 {
		t.Errorf("%d PONGs for %d PINGs, want 1 to %d (%v)", len(l.pongs), flood, most+1, l.problem)
	}
}

// TestAbortDoesNotWaitForAFullCarrier, and the peer still sees a failure.
func TestAbortDoesNotWaitForAFullCarrier(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 1<<20))
		written <- err
	}()
	until(t, "the carrier is full", func() bool { return underneath(c).isWriting() })
	began := time.Now()
	if err := c.Abort(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Abort took %s", took)
	}
	if err := <-written; err == nil {
		t.Error("a Write that was cut says that all is well")
	}
	if _, err := io.Copy(io.Discard, rawReader{raw}); kindOf(err) != anysock.KindReset {
		t.Errorf("the peer saw %v", err)
	}
}

func (s *stream) isWriting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writer == program && s.sent > 0
}

// TestSlowReaderIsWaitedFor: a Disconnect goes on as long as the peer's
// program takes 256 KiB within each DrainTimeout; and no longer.
func TestSlowReaderIsWaitedFor(t *testing.T) {
	const total = 4 << 20
	for _, tt := range []struct {
		pace time.Duration
		how  anysock.How
	}{{4 * time.Second, anysock.Graceful}, {time.Minute, anysock.Lost}} {
		t.Run(tt.how.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := memPairAt(t, anysock.Options{}, "?buffer=8388608")
				x, y := anysock.Wrap(newStream(a, defaults), anysock.Options{}), anysock.Wrap(newStream(b, defaults), anysock.Options{})
				if _, err := x.Write(make([]byte, total)); err != nil {
					t.Fatal(err)
				}
				reading := make(chan error, 1)
				go func() {
					buf := make([]byte, MarkEvery)
					for range total / MarkEvery {
						<-time.After(tt.pace) // by the clock of the bubble
						if _, err := io.ReadFull(y, buf); err != nil {
							reading <- err
							return
						}
					}
					_, err := readAll(y)
					_ = y.Close()
					reading <- err
				}()
				end, _ := x.Disconnect(t.Context())
				if end.How != tt.how || (end.How == anysock.Lost) != (end.Unacked > 0) {
					t.Errorf("the ending is %q, %v", end, end.Err)
				}
				if err := <-reading; err != nil {
					t.Errorf("the reader, in the end: %v", err)
				}
				_ = y.Abort()
			})
		})
	}
}

// TestWaitAckedAsks: in the middle of a connection, by a PING of its own.
func TestWaitAckedAsks(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := c.WaitAcked(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitAcked without an answer says %v", err)
	}
	raw.expect(data("hello"), counted(framePing, 5))
	waiting := make(chan error, 1)
	go func() { waiting <- c.WaitAcked(bounded(t)) }()
	raw.send(counted(framePong, 5))
	if err := <-waiting; err != nil {
		t.Errorf("WaitAcked says %v", err)
	}
	if n, err := c.Unacked(); n != 0 || err != nil {
		t.Errorf("then %d bytes are unacknowledged, %v", n, err)
	}
}

// TestPongsArePaced: the first at once, the next ones 10 ms apart, with the
// last PING's count.
func TestPongsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, raw := withRawPeer(t, liveness{})
		reading := make(chan error, 1)
		go func() { reading <- readExactly(c, 4) }()
		began := time.Now()
		raw.send(counted(framePing, 0))
		raw.expect(counted(framePong, 0))
		for i := range 3 {
			raw.send(counted(framePing, int64(i)), data("x"), counted(framePing, int64(i+1)))
			raw.expect(counted(framePong, int64(i+1)))
			if at, want := time.Since(began), time.Duration(i+1)*pongEvery; at != want {
				t.Errorf("answer %d came after %s, want %s", i+2, at, want)
			}
		}
		raw.send(data("x"))
		if err := <-reading; err != nil {
			t.Error(err)
		}
	})
}
