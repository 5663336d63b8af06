package load

import (
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/anysock/anysock"
)

// This file holds what is counted while the work goes on. Connections share a
// few shards, each with a lock that is hardly ever waited for: a histogram of
// its own for every connection would cost 300 kB each.

// The histograms hold nanoseconds with three significant digits.
const histogramDigits = 3

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(MaxSpan), histogramDigits)
}

// A shard is a part of the counts.
type shard struct {
	mu       sync.Mutex
	answered int64 // requests that were counted
	within   int64 // answers within the time that is counted, of whichever requests
	last     int64 // when the last of them was answered
	latency  *hdrhistogram.Histogram
	connect  *hdrhistogram.Histogram
	lag      *hdrhistogram.Histogram // nil in a closed loop

	failures   map[string]*Failure
	endings    map[string]int64
	unanswered int64 // in the histogram, with the time that they had waited
	unsent     int64 // of these

	_ [64]byte // the next one's lock is on another cache line
}

func newShards(work Work) []*shard {
	shards := make([]*shard, min(runtime.GOMAXPROCS(0), work.Connections))
	for i := range shards {
		s := &shard{failures: map[string]*Failure{}, endings: map[string]int64{}, connect: newHistogram()}
		if !work.Mode.Bulk() {
			s.latency = newHistogram()
		}
		if work.Rate > 0 {
			s.lag = newHistogram()
		}
		shards[i] = s
	}
	return shards
}

// record puts a time into a histogram. None is out of range, because MaxSpan
// bounds the whole run; below the least it is that.
func record(h *hdrhistogram.Histogram, ns, times int64) {
	_ = h.RecordValues(min(max(ns, 1), int64(MaxSpan)), times)
}

// answer counts requests that began at start and are answered now.
func (s *shard) answer(start, now, times int64) {
	s.answered += times
	s.last = max(s.last, now)
	record(s.latency, now-start, times)
}

// connected counts the making of a connection.
func (s *shard) connected(took int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record(s.connect, took, 1)
}

// fail counts a failure that left requests without an answer.
func (s *shard) fail(err error, requests int64) {
	kind := kindOf(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failures[kind]
	if f == nil {
		f = &Failure{Kind: kind, First: err.Error(), Err: err}
		s.failures[kind] = f
	}
	f.Count++
	f.Requests += requests
}

// lastly remembers when the last work was done.
func (s *shard) lastly(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, now)
}

// ended counts how a connection ended.
func (s *shard) ended(how anysock.How) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endings[how.String()]++
}

// The kinds of failure beside those of anysock.Kind.
const (
	KindEnded      = "ended"       // the peer ended in order, with answers due
	KindWrongBytes = "wrong bytes" // something else came back than was sent
)

// A WrongBytesError says that something else came back than was sent.
type WrongBytesError struct {
	Peer string
	At   int64 // the position in the stream of the first wrong byte
	More bool  // everything was right, and then more came
}

func (e *WrongBytesError) Error() string {
	if e.More {
		return e.Peer + ": more came back than was sent"
	}
	return e.Peer + ": wrong bytes came back"
}

// An EndedError says that the peer ended in order in the middle of the work.
type EndedError struct{ Peer string }

func (e *EndedError) Error() string {
	return e.Peer + ": the peer ended in order, in the middle of the work"
}

// kindOf is the word for a failure.
func kindOf(err error) string {
	var (
		wrong *WrongBytesError
		ended *EndedError
		e     *anysock.Error
	)
	switch {
	case errors.As(err, &wrong):
		return KindWrongBytes
	case errors.As(err, &ended), errors.Is(err, io.EOF):
		return KindEnded
	case errors.As(err, &e):
		return e.Kind.String()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return anysock.KindTimeout.String()
	}
	return anysock.KindOther.String()
}

// A count is all shards together.
type count struct {
	answered, unanswered, unsent int64
	within                       int64
	last                         int64
	failures                     []Failure
	endings                      map[string]int64
	latency, connect, lag        *hdrhistogram.Histogram
}

// collect adds the shards up.
func collect(shards []*shard) count {
	c := count{endings: map[string]int64{}}
	failures := map[string]*Failure{}
	add := func(to **hdrhistogram.Histogram, from *hdrhistogram.Histogram) {
		switch {
		case from == nil:
		case *to == nil:
			*to = from.Clone()
		default:
			(*to).Merge(from)
		}
	}
	for _, s := range shards {
		s.mu.Lock()
		c.answered += s.answered
		c.within += s.within
		c.unanswered += s.unanswered
		c.unsent += s.unsent
		c.last = max(c.last, s.last)
		add(&c.latency, s.latency)
		add(&c.connect, s.connect)
		add(&c.lag, s.lag)
		for how, n := range s.endings {
			c.endings[how] += n
		}
		for kind, f := range s.failures {
			if have := failures[kind]; have != nil {
				have.Count += f.Count
				have.Requests += f.Requests
				continue
			}
			of := *f
			failures[kind] = &of
		}
		s.mu.Unlock()
	}
	for _, f := range failures {
		c.failures = append(c.failures, *f)
	}
	slices.SortFunc(c.failures, func(a, b Failure) int { return strings.Compare(a.Kind, b.Kind) })
	return c
}
