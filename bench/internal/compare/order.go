package compare

// Order is the order in which n candidates have their slots in a round. Rounds
// come in twos: a rotation, and the same from the end. So in 2n rounds each
// candidate stands in each place twice, and comes before each of its two
// neighbours as often as after it.
func Order(n, round int) []int {
	order := make([]int, n)
	for i := range order {
		at := i
		if round%2 == 1 {
			at = n - 1 - i
		}
		order[at] = (i + round/2) % n
	}
	return order
}
