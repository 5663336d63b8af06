package load

import "math"

// This file holds the times of an open loop. Request k of all is due k/rate
// after the start, and belongs to connection k mod n; the times follow from the
// number, so that nothing has to be remembered about requests that wait.

// A schedule says when requests are due, in nanoseconds since the run's base.
type schedule struct {
	start int64
	gap   float64 // nanoseconds from a request to the next
	lines int64
}

func newSchedule(start int64, rate float64, lines int) schedule {
	return schedule{start: start, gap: 1e9 / rate, lines: int64(lines)}
}

// never is later than any run lasts.
const never = 1 << 62

// at is when request k of all is due.
func (s schedule) at(k int64) int64 {
	return s.start + int64(math.Round(min(float64(k)*s.gap, never)))
}

// lineAt is when request j of a line is due.
func (s schedule) lineAt(line int, j int64) int64 { return s.at(int64(line) + j*s.lines) }

// before is how many requests of all are due before t.
func (s schedule) before(t int64) int64 {
	if t <= s.start {
		return 0
	}
	k := int64(float64(t-s.start) / s.gap)
	for k > 0 && s.at(k-1) >= t {
		k--
	}
	for s.at(k) < t {
		k++
	}
	return k
}

// lineBefore is how many requests of a line are due before t.
func (s schedule) lineBefore(line int, t int64) int64 {
	k := s.before(t) - int64(line)
	if k <= 0 {
		return 0
	}
	return (k + s.lines - 1) / s.lines
}
