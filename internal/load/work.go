// Package load makes work for a stream server and measures what becomes of it:
// messages that are echoed (closed and open loop), connections made and ended,
// bytes in bulk. It is what 'anysock bench' runs.
//
// Whatever comes back is compared with what was sent. Latencies are kept in
// HDR histograms. In an open loop they are counted from the instant at which a
// request was to be sent, whether or not it could be: a server that stalls has
// made all those wait that were due meanwhile.
package load

// This file holds the description of the work, and its bounds.

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// A Mode is a sort of work.
type Mode string

// The modes, and what the server has to be.
const (
	Echo    Mode = "echo"    // messages on standing connections; an echo server
	Connect Mode = "connect" // a connection for each message; an echo server
	Up      Mode = "up"      // bytes to the server as fast as it takes them; a discard server
	Down    Mode = "down"    // bytes from the server as fast as it sends them; a chargen server
	Both    Mode = "both"    // both at once; an echo server
)

// Modes lists the modes.
func Modes() []Mode { return []Mode{Echo, Connect, Up, Down, Both} }

// Bulk reports whether bytes are counted and not requests.
func (m Mode) Bulk() bool { return m == Up || m == Down || m == Both }

// The bounds of a Work.
const (
	MaxConnections = 1 << 20
	MaxDepth       = 1 << 16
	MaxOutstanding = 1 << 24        // connections times depth
	MaxSize        = 16 << 20       // bytes
	MaxRate        = 1e8            // requests a second
	MaxSpan        = 24 * time.Hour // warmup, duration and timeout together
)

// A Span is a time.Duration that is seconds in JSON.
type Span time.Duration

// MarshalJSON writes seconds.
func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// UnmarshalJSON reads seconds.
func (s *Span) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	if math.Abs(seconds) > 2*MaxSpan.Seconds() {
		return fmt.Errorf("%g seconds are out of range", seconds)
	}
	*s = Span(math.Round(seconds * float64(time.Second)))
	return nil
}

// String is time.Duration's.
func (s Span) String() string { return time.Duration(s).String() }

// A Work says what to do. Check says whether it makes sense.
type Work struct {
	Mode        Mode `json:"mode"`
	Connections int  `json:"connections"`
	// Depth is how many messages may be unanswered on a connection. With a
	// Rate 0 is as many as are due; without one it is at least 1.
	Depth int `json:"depth"`
	// Size is that of a message; in bulk, of what is written at once.
	Size int `json:"size"`
	// Rate is how many requests are due in a second, on all connections
	// together: an open loop. 0 is a closed loop: each answer makes the next
	// request.
	Rate float64 `json:"rate"`
	// Warmup is work that is not counted, before that which is.
	Warmup Span `json:"warmup_seconds"`
	// Duration is how long work is counted; 0 is until Requests or Bytes.
	Duration Span `json:"duration_seconds"`
	// Timeout bounds each wait: for a connection, for the next byte of an
	// answer that is due, and at the end for the last answers.
	Timeout Span `json:"timeout_seconds"`
	// Requests ends the work after so many (echo, connect); 0 is no bound.
	Requests int64 `json:"requests"`
	// Bytes ends the work after so many (up, down, both: of those sent); 0 is
	// no bound.
	Bytes int64 `json:"bytes"`
}

// A WorkError says which field of a Work makes no sense.
type WorkError struct {
	Field string // its name in JSON, without a unit: "duration"
	Msg   string
	Hint  string
}

func (e *WorkError) Error() string { return e.Field + ": " + e.Msg }

// Check says what makes no sense; the error is a *WorkError.
func (w *Work) Check() error {
	wrong := func(field, hint, format string, args ...any) error {
		return &WorkError{Field: field, Msg: fmt.Sprintf(format, args...), Hint: hint}
	}
	known := false
	for _, m := range Modes() {
		known = known || w.Mode == m
	}
	bulk := w.Mode.Bulk()
	switch {
	case !known:
		return wrong("mode", "echo, connect, up, down or both", "there is no mode %q", string(w.Mode))
	case w.Connections < 1 || w.Connections > MaxConnections:
		return wrong("connections", "", "%d: it is 1 to %d", w.Connections, MaxConnections)
	case w.Size < 1 || w.Size > MaxSize:
		return wrong("size", "", "%d: it is 1 to %d bytes", w.Size, MaxSize)
	case math.IsNaN(w.Rate) || w.Rate < 0 || w.Rate > MaxRate:
		return wrong("rate", "", "%g: it is 0 to %g requests a second", w.Rate, float64(MaxRate))
	case w.Rate > 0 && bulk:
		return wrong("rate", "a rate is for --mode echo and connect", "mode %s goes as fast as it can", w.Mode)
	case w.Mode != Echo && w.Depth != 1 && w.Depth != 0:
		return wrong("depth", "more connections", "%d: mode %s has no messages that follow each other", w.Depth, w.Mode)
	case w.Depth < 0 || w.Depth > MaxDepth:
		return wrong("depth", "", "%d: it is 1 to %d", w.Depth, MaxDepth)
	case w.Depth == 0 && w.Rate == 0 && w.Mode == Echo:
		return wrong("depth", "0 is for an open loop, which has a rate", "a closed loop has at least 1")
	case w.Depth*w.Connections > MaxOutstanding:
		return wrong("depth", "", "%d on each of %d connections: at most %d in all", w.Depth, w.Connections, MaxOutstanding)
	case w.Warmup < 0:
		return wrong("warmup", "", "it must not be negative")
	case w.Duration < 0:
		return wrong("duration", "", "it must not be negative")
	case w.Timeout <= 0:
		return wrong("timeout", "", "it must be more than 0")
	case time.Duration(w.Warmup) > MaxSpan || time.Duration(w.Duration) > MaxSpan || time.Duration(w.Timeout) > MaxSpan ||
		time.Duration(w.Warmup+w.Duration+w.Timeout) > MaxSpan:
		return wrong("duration", "", "warm-up, duration and timeout are at most %s together", MaxSpan)
	case w.Requests < 0:
		return wrong("requests", "", "it must not be negative")
	case w.Bytes < 0:
		return wrong("bytes", "", "it must not be negative")
	case w.Requests > 0 && bulk:
		return wrong("requests", "--bytes", "mode %s has none", w.Mode)
	case w.Bytes > 0 && !bulk:
		return wrong("bytes", "--requests", "mode %s counts requests", w.Mode)
	case w.Duration == 0 && w.Requests == 0 && w.Bytes == 0:
		return wrong("duration", "", "without a bound of requests or bytes it must be more than 0")
	}
	return nil
}

// limit is how long work is counted at most.
func (w *Work) limit() time.Duration {
	if w.Duration > 0 {
		return time.Duration(w.Duration)
	}
	return MaxSpan - time.Duration(w.Warmup) - time.Duration(w.Timeout)
}
