package load

import (
	"math/rand/v2"
	"testing"
)

// How many are due before an instant, and when each is due, agree, and the
// lines share all requests.
func TestScheduleAgreesWithItself(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		rate := []float64{1e-15, 0.1, 1, 3, 1000, 12345.6, 999_999, 1e8}[random.IntN(8)]
		lines := 1 + random.IntN(9)
		s := newSchedule(random.Int64N(1e12), rate, lines)
		for _, k := range []int64{0, 1, 2, 7, random.Int64N(1e6), random.Int64N(1 + int64(rate*MaxSpan.Seconds()))} {
			at := s.at(k)
			if at > int64(1e12+MaxSpan) {
				continue // no run is as long
			}
			if n := s.before(at); s.at(n) < at || n > 0 && s.at(n-1) >= at {
				t.Fatalf("rate %g: before(at(%d)) is %d", rate, k, n)
			}
			if n := s.before(at + 1); n <= k {
				t.Fatalf("rate %g: request %d is due at %d, and only %d are before %d", rate, k, at, n, at+1)
			}
			var all int64
			for line := range lines {
				n := s.lineBefore(line, at)
				all += n
				if n > 0 && s.lineAt(line, n-1) >= at || s.lineAt(line, n) < at {
					t.Fatalf("rate %g, line %d of %d: %d before %d", rate, line, lines, n, at)
				}
			}
			if all != s.before(at) {
				t.Fatalf("rate %g: the %d lines have %d requests of %d", rate, lines, all, s.before(at))
			}
		}
	}
	s := newSchedule(1000, 1000, 1)
	if s.before(1000) != 0 || s.before(1001) != 1 || s.before(0) != 0 || s.at(3) != 3_001_000 || newSchedule(0, 1e-15, 1).at(1) != never {
		t.Error("the first is due at the start, the others a millisecond apart")
	}
}
