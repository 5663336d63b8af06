package stats

import "testing"

func TestInterval(t *testing.T) {
	count := func(n int) []float64 { // n values in no order: 1 to n
		v := make([]float64, n)
		for i := range v {
			v[i] = float64((i*7)%n + 1)
		}
		return v
	}
	for _, c := range []struct {
		n         int
		low, high float64
	}{
		{1, 1, 1},
		{5, 1, 5},
		// Tables of the sign test, two-sided 5 %.
		{6, 1, 6},
		{8, 1, 8},
		{9, 2, 8},
		{20, 6, 15},
		{25, 8, 18},
		{50, 18, 33},
	} {
		values := count(c.n)
		if low, high := Interval(values); low != c.low || high != c.high {
			t.Errorf("of %d values: %v to %v, want %v to %v", c.n, low, high, c.low, c.high)
		}
		if m, want := Median(values), float64(c.n+1)/2; m != want {
			t.Errorf("median of 1 to %d = %v, want %v", c.n, m, want)
		}
	}
}

func TestRatiosPairByPair(t *testing.T) {
	got := Ratios([]float64{2, 9, 5}, []float64{1, 3})
	if len(got) != 2 || got[0] != 2 || got[1] != 3 {
		t.Errorf("ratios %v, want [2 3]", got)
	}
}
