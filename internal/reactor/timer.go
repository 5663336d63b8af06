package reactor

import (
	"math/bits"
	"time"
)

// tick is the precision of timers: none is early, and none is later than that
// on a loop that is not busy.
const tick = 8 * time.Millisecond

const (
	slotBits = 8
	slots    = 1 << slotBits
	levels   = 3
	// horizon is how many ticks ahead the wheel has slots for; timers beyond
	// (37 hours) wait in the furthest slot and are looked at again.
	horizon = 1 << (slotBits * levels)
)

// A wheel is a hierarchical timing wheel (Varghese and Lauck, 1987): a slot for
// each of the next 256 ticks, one for each of the next 256 times 256 ticks,
// and so on. Setting and stopping cost the same however many timers there are,
// and a timer moves at most twice before it runs out.
type wheel struct {
	current uint32 // the tick up to which everything has run out
	heads   [levels][slots]*Node
	marks   [levels][slots / 64]uint64 // slots that may have timers
}

// ticks is the loop's time in ticks.
func (l *Loop) ticks() uint32 { return uint32(l.now / tick) }

// set enters n at tick due, the next one at the earliest.
func (w *wheel) set(n *Node, due uint32) {
	if int32(due-w.current) < 1 {
		due = w.current + 1
	}
	n.due = due
	w.place(n)
}

func (w *wheel) place(n *Node) {
	ahead := n.due - w.current
	at := n.due
	if ahead >= horizon {
		ahead = horizon - 1
		at = w.current + ahead
	}
	level := 0
	for ahead >= slots {
		ahead >>= slotBits
		level++
	}
	w.put(n, level, at>>(slotBits*level)%slots)
}

func (w *wheel) put(n *Node, level int, slot uint32) {
	head := &w.heads[level][slot]
	n.next = *head
	if n.next != nil {
		n.next.previous = &n.next
	}
	*head, n.previous = n, head
	w.marks[level][slot/64] |= 1 << (slot % 64)
}

// unlink takes n out of its slot; the slot's mark stays, which costs a look.
func (n *Node) unlink() {
	if n.previous == nil {
		return
	}
	*n.previous = n.next
	if n.next != nil {
		n.next.previous = n.previous
	}
	n.next, n.previous = nil, nil
}

// next is the first tick at which something may be due; false if there is
// nothing.
func (w *wheel) next() (uint32, bool) {
	var first uint32
	found := false
	for level := range levels {
		shift := slotBits * level
		at := w.current >> shift
		k, ok := w.marked(level, at+1)
		if !ok {
			continue
		}
		due := (at + 1 + k) << shift
		if !found || int32(due-first) < 0 {
			first, found = due, true
		}
	}
	return first, found
}

// marked is how many slots lie between slot from and the first marked one at or
// after it, all the way round.
func (w *wheel) marked(level int, from uint32) (uint32, bool) {
	m := &w.marks[level]
	for k := uint32(0); k < slots; {
		slot := (from + k) % slots
		if word := m[slot/64] >> (slot % 64); word != 0 {
			k += uint32(bits.TrailingZeros64(word))
			return k, k < slots
		}
		k += 64 - slot%64
	}
	return 0, false
}

// advance lets run out what is due up to tick now.
func (w *wheel) advance(now uint32) {
	for int32(now-w.current) > 0 {
		due, ok := w.next()
		if !ok || int32(due-now) > 0 {
			w.current = now
			return
		}
		w.current = due
		for level := levels - 1; level > 0; level-- {
			if shift := slotBits * level; due%(1<<shift) == 0 {
				w.cascade(level, due>>shift%slots)
			}
		}
		w.expire(due % slots)
	}
}

// cascade spreads a slot over the level below.
func (w *wheel) cascade(level int, slot uint32) {
	n := w.empty(level, slot)
	for n != nil {
		next := n.next
		n.next, n.previous = nil, nil
		if int32(n.due-w.current) <= 0 {
			n.due = w.current // due now: it goes into the slot that expires next
			w.put(n, 0, w.current%slots)
		} else {
			w.place(n)
		}
		n = next
	}
}

// empty takes the whole list out of a slot.
func (w *wheel) empty(level int, slot uint32) *Node {
	n := w.heads[level][slot]
	w.heads[level][slot] = nil
	w.marks[level][slot/64] &^= 1 << (slot % 64)
	return n
}

// expire calls the Sources of a slot, whose timers may set and stop each
// other meanwhile: nothing can be set for the current tick.
func (w *wheel) expire(slot uint32) {
	w.marks[0][slot/64] &^= 1 << (slot % 64)
	for {
		n := w.heads[0][slot]
		if n == nil {
			return
		}
		n.unlink()
		if int32(n.due-w.current) > 0 { // beyond the horizon, or of the next round
			w.place(n)
			continue
		}
		n.Source.Expired()
	}
}
