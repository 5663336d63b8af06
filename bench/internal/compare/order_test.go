package compare

import (
	"slices"
	"testing"
)

func TestOrder(t *testing.T) {
	for n := 1; n <= 11; n++ {
		places := make([][]int, n) // by candidate, then place
		after := make([]map[int]int, n)
		for i := range places {
			places[i], after[i] = make([]int, n), map[int]int{}
		}
		for round := range 2 * n {
			order := Order(n, round)
			if sorted := slices.Sorted(slices.Values(order)); sorted[0] != 0 || sorted[n-1] != n-1 || len(slices.Compact(sorted)) != n {
				t.Fatalf("round %d of %d candidates is %v", round, n, order)
			}
			for place, candidate := range order {
				places[candidate][place]++
				if place > 0 {
					after[candidate][order[place-1]]++
				}
			}
		}
		for candidate, counts := range places {
			for place, count := range counts {
				if count != 2 {
					t.Errorf("of %d candidates number %d stands in place %d %d times in %d rounds, want 2", n, candidate, place, count, 2*n)
				}
			}
			for before, count := range after[candidate] {
				if back := after[before][candidate]; count != back {
					t.Errorf("of %d candidates %d follows %d %d times, and the other way %d times", n, candidate, before, count, back)
				}
			}
		}
	}
}
