// Package stats says how well a median is known.
package stats

import (
	"math"
	"slices"
)

// MinValues is the fewest values of which the extremes enclose the median with
// a probability of 95 %.
const MinValues = 6

// Median is the middle of the values, or between the two in the middle. There
// has to be one.
func Median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Interval encloses the median of what the values were drawn from with a
// probability of at least 95 %; fewer than [MinValues] values are all within
// it, and prove less. The number of values below that median is binomial with
// p = 1/2 whatever the distribution, so leaving out the k-1 smallest and the
// k-1 greatest misses it with twice P(X < k). It takes the greatest k that
// keeps this within 5 %.
func Interval(values []float64) (low, high float64) {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	outside, p, k := 0.0, math.Pow(0.5, float64(n)), 0
	for outside+p <= 0.025 && k < n/2 {
		outside += p
		p *= float64(n-k) / float64(k+1)
		k++
	}
	k = max(k, 1)
	return s[k-1], s[n-k]
}

// Ratios are subject by base, pair by pair.
func Ratios(subject, base []float64) []float64 {
	r := make([]float64, min(len(subject), len(base)))
	for i := range r {
		r[i] = subject[i] / base[i]
	}
	return r
}
