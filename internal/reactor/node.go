package reactor

import (
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// A Source is told about its Node.
type Source interface {
	// Ready is called when the descriptor is in one of the states it is
	// watched for. Errors and hang-ups are always reported.
	Ready(found sys.Events)
	// Expired is called when the Node's timer has run out.
	Expired()
}

// A Node is a descriptor on a Loop, with one timer. It is meant to be a part
// of its Source: an idle connection costs no allocation more.
type Node struct {
	// Source is who is told. It may be exchanged on the loop.
	Source Source

	next     *Node  // timers in the same slot
	previous **Node // what points to this one; nil while the timer is not set
	handle   handle
	due      uint32 // tick
	want     sys.Events
	gen      generation
	owing    bool // a Monitor has it
	again    bool // it is to be called again: see Again
}

// A generation tells a Node from the one that had its descriptor before, among
// the events that one wait has found; 0 is not on a loop. There are more of them
// than Nodes that are added while those events are handled.
type generation uint16

// following is the generation of the Node added next.
func (g generation) following() generation { return max(1, g+1) }

// Open reports whether the Node has a descriptor.
func (n *Node) Open() bool { return n.gen != 0 }

// Wanted is what the descriptor is watched for.
func (n *Node) Wanted() sys.Events { return n.want }

// Want changes what the descriptor is watched for. Asking for what is asked
// already costs nothing. Its error is want of kernel memory.
func (l *Loop) Want(n *Node, want sys.Events) error {
	if n.want == want || n.gen == 0 {
		return nil
	}
	if err := l.engine.modify(n, want); err != nil {
		return err
	}
	n.want = want
	return nil
}

// Rearm looks at the descriptor's state anew, although what it is watched for
// stays the same: one that is watched by edges is told once more.
func (l *Loop) Rearm(n *Node) error { return l.engine.modify(n, n.want) }

// Again has the Source called with EventIn when the others that are ready had
// their turn, although nothing may be reported: it has left something unread.
func (l *Loop) Again(n *Node) {
	if !n.again && n.gen != 0 {
		n.again = true
		l.again = append(l.again, n)
	}
}

// Close closes the descriptor and stops the timer. Closing again does nothing.
func (l *Loop) Close(n *Node) {
	if n.gen != 0 {
		n.unlink()
		l.engine.closeNode(n)
		n.gen = 0
	}
}

// SetTimer has Expired called once after d, and not before, rounded up to the
// loop's tick. It replaces an earlier setting, and costs the same however many
// timers there are. d of 0 and less is the next tick.
func (l *Loop) SetTimer(n *Node, d time.Duration) {
	l.StopTimer(n)
	// The loop's own clock stood still since it woke up.
	due := (time.Since(l.base) + max(d, 0) + tick - 1) / tick
	l.wheel.set(n, uint32(due))
}

// StopTimer stops the timer, if it is set.
func (l *Loop) StopTimer(n *Node) { n.unlink() }

// TimerSet reports whether the timer is set.
func (n *Node) TimerSet() bool { return n.previous != nil }
