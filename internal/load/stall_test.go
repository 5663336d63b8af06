package load

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

// This file tests what the open loop is for: a stall is not hidden. Time is
// testing/synctest's, so that every latency is known exactly.

// A stallingServer echoes messages of a size, and waits before the answer to
// one of them, counted over all its connections.
type stallingServer struct {
	size  int
	stall int64         // before this message, counted from 0; the probe is the first
	wait  time.Duration // 0 is for ever
	quit  chan struct{}
	seen  atomic.Int64
	dials atomic.Int64
}

// dial makes a connection to the server.
func (s *stallingServer) dial(context.Context) (*anysock.Conn, error) {
	s.dials.Add(1)
	near, far := anysock.Pipe(anysock.Options{ReceiveBuffer: 1 << 20})
	go s.serve(far)
	return near, nil
}

// serve is owned by the bubble, which waits for it.
func (s *stallingServer) serve(c *anysock.Conn) {
	defer c.Close()
	buf := make([]byte, s.size)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		n := s.seen.Add(1) - 1
		if n == s.stall || s.wait == 0 && n > s.stall {
			var after <-chan time.Time
			if s.wait > 0 {
				after = time.After(s.wait)
			}
			select {
			case <-after:
			case <-s.quit:
				_ = c.Abort()
				return
			}
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// inBubble makes a run against the server, with exact alarms.
func inBubble(t *testing.T, s *stallingServer, w Work, check func(*Result)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.quit = make(chan struct{})
		s.size = w.Size
		r, err := Run(t.Context(), context.Background(), Config{
			Work: w, Address: "mem:", Dial: s.dial, alarm: func() (alarm, error) { return timerAlarm{}, nil },
		})
		close(s.quit)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = anysock.Wait(t.Context()) // its error is about other tests' connections
		check(r)
	})
}

// near compares a value of a histogram, which has three digits.
func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if d := got - want; d < -want/500 || d > want/500 {
		t.Errorf("%s is %s, want %s", what, got, want)
	}
}

const instant = time.Nanosecond // what takes no time is recorded as this

// A server stalls for 100 ms in a second of 1000 requests. 100 of them are due
// meanwhile, and wait from 100 ms down to 1 ms; all others take no time.
func TestOpenLoopShowsTheStall(t *testing.T) {
	for name, depth := range map[string]int{
		"all are sent when they are due": 0,
		// The others cannot even be sent, and are charged just the same.
		"one at a time": 1,
	} {
		t.Run(name, func(t *testing.T) {
			w := Work{
				Mode: Echo, Connections: 1, Depth: depth, Size: 10, Rate: 1000,
				Duration: Span(time.Second), Timeout: Span(10 * time.Second),
			}
			inBubble(t, &stallingServer{stall: 501, wait: 100 * time.Millisecond}, w, func(r *Result) {
				if r.Requests != 1000 || r.Unanswered != 0 || len(r.Failures) != 0 || r.Latency.Count() != 1000 {
					t.Fatalf("%d answered, %d not, %v; %d in the histogram", r.Requests, r.Unanswered, r.Failures, r.Latency.Count())
				}
				near(t, "seconds", time.Duration(r.Seconds*1e9), time.Second)
				near(t, "p90", r.Latency.At(90), instant)
				near(t, "p90.1", r.Latency.At(90.1), time.Millisecond)
				near(t, "p95", r.Latency.At(95), 50*time.Millisecond)
				near(t, "p99", r.Latency.At(99), 90*time.Millisecond)
				near(t, "max", r.Latency.Max(), 100*time.Millisecond)
				lag := instant
				if depth == 1 {
					lag = 99 * time.Millisecond // of the first that was due in the stall
				}
				near(t, "lag", r.Lag.Max(), lag)
			})
		})
	}
}

// The same server in a closed loop: one request is slow, and nothing shows
// how many others would have been. (This is what the open loop is for.)
func TestClosedLoopHidesTheStall(t *testing.T) {
	w := Work{Mode: Echo, Connections: 1, Depth: 1, Size: 10, Requests: 1000, Timeout: Span(10 * time.Second)}
	inBubble(t, &stallingServer{stall: 501, wait: 100 * time.Millisecond}, w, func(r *Result) {
		if r.Requests != 1000 || r.Latency.Count() != 1000 {
			t.Fatalf("%d answered, %d in the histogram", r.Requests, r.Latency.Count())
		}
		near(t, "p99.9", r.Latency.At(99.9), instant)
		near(t, "max", r.Latency.Max(), 100*time.Millisecond)
		near(t, "seconds", time.Duration(r.Seconds*1e9), 100*time.Millisecond)
	})
}

// Several connections share the requests in turn; one stalls, and those of the
// others take no time.
func TestOpenLoopSharesTheRequests(t *testing.T) {
	w := Work{
		Mode: Echo, Connections: 4, Size: 10, Rate: 1000,
		Duration: Span(time.Second), Timeout: Span(10 * time.Second),
	}
	inBubble(t, &stallingServer{stall: 501, wait: 100 * time.Millisecond}, w, func(r *Result) {
		if r.Requests != 1000 {
			t.Errorf("%d answered", r.Requests)
		}
		// 25 of the 1000 are due on that connection: 100, 96, ..., 4 ms.
		near(t, "p97.5", r.Latency.At(97.5), instant)
		near(t, "p97.6", r.Latency.At(97.6), 4*time.Millisecond)
		near(t, "max", r.Latency.Max(), 100*time.Millisecond)
	})
}

// What is due in the warm-up is not counted, and a stall that begins there is
// counted from when counting begins.
func TestWarmUpIsNotCounted(t *testing.T) {
	w := Work{
		Mode: Echo, Connections: 1, Size: 10, Rate: 1000,
		Warmup: Span(500 * time.Millisecond), Duration: Span(time.Second), Timeout: Span(10 * time.Second),
	}
	inBubble(t, &stallingServer{stall: 451, wait: 100 * time.Millisecond}, w, func(r *Result) {
		if r.Requests != 1000 || r.Latency.Count() != 1000 {
			t.Errorf("%d answered, %d in the histogram", r.Requests, r.Latency.Count())
		}
		near(t, "p95", r.Latency.At(95), instant)
		near(t, "max", r.Latency.Max(), 50*time.Millisecond)
	})
}

// A server that stalls for good: every request that was due is accounted for,
// and the histogram has those without an answer with the time they waited.
func TestOpenLoopCountsWhatIsNotAnswered(t *testing.T) {
	w := Work{
		Mode: Echo, Connections: 1, Size: 10, Rate: 1000,
		Duration: Span(time.Second), Timeout: Span(2 * time.Second),
	}
	s := &stallingServer{stall: 501}
	inBubble(t, s, w, func(r *Result) {
		if r.Requests != 500 || r.Unanswered != 500 || r.Unsent != 0 || r.Latency.Count() != 1000 {
			t.Errorf("%d answered, %d not, %d not sent, %d in the histogram", r.Requests, r.Unanswered, r.Unsent, r.Latency.Count())
		}
		if len(r.Failures) != 1 || r.Failures[0].Kind != "timeout" || r.Failures[0].Count != 1 || r.Failures[0].Requests != 500 {
			t.Errorf("failures %+v", r.Failures)
		}
		near(t, "p50", r.Latency.At(50), instant)
		// It is noticed within a timeout and an eighth after the last answer.
		if at := r.Latency.At(50.1); at < 1500*time.Millisecond || at > 2500*time.Millisecond {
			t.Errorf("the last of them waited %s", at)
		}
		near(t, "from the first to the last", r.Latency.Max()-r.Latency.At(50.1), 499*time.Millisecond)
	})
}

// With one at a time what was due is not even sent.
func TestOpenLoopCountsWhatIsNotSent(t *testing.T) {
	w := Work{
		Mode: Echo, Connections: 1, Depth: 1, Size: 10, Rate: 1000,
		Duration: Span(time.Second), Timeout: Span(2 * time.Second),
	}
	s := &stallingServer{stall: 501}
	inBubble(t, s, w, func(r *Result) {
		if r.Requests != 500 || r.Unanswered != 500 || r.Unsent != 499 || r.Latency.Count() != 1000 {
			t.Errorf("%d answered, %d not, %d not sent, %d in the histogram", r.Requests, r.Unanswered, r.Unsent, r.Latency.Count())
		}
	})
}

// A line whose server times out in the middle is made again, and the rate is
// that of the whole time.
func TestLineThatTimesOutIsMadeAgain(t *testing.T) {
	w := Work{
		Mode: Echo, Connections: 1, Size: 10, Rate: 1000,
		Duration: Span(10 * time.Second), Timeout: Span(time.Second),
	}
	s := &stallingServer{stall: 501, wait: time.Hour}
	inBubble(t, s, w, func(r *Result) {
		lost := r.Failures[0].Requests
		if s.dials.Load() != 2 || len(r.Failures) != 1 || r.Failures[0].Kind != "timeout" {
			t.Fatalf("%d connections, %+v", s.dials.Load(), r.Failures)
		}
		if lost < 1000 || lost > 1250 || r.Unanswered != lost || r.Requests+lost != 10_000 || r.Latency.Count() != 10_000 {
			t.Errorf("%d answered, %d not, %d lost, %d in the histogram", r.Requests, r.Unanswered, lost, r.Latency.Count())
		}
		// While it was made again, requests went on being due.
		if r.Lag.Max() < redialPause-2*time.Millisecond || r.Lag.Max() > 2*redialPause {
			t.Errorf("lag %s", r.Lag.Max())
		}
		near(t, "seconds", time.Duration(r.Seconds*1e9), 10*time.Second)
	})
}
