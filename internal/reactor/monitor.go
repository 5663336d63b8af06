package reactor

import (
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// minCheck bounds how often a Monitor asks the kernel.
const minCheck = 50 * time.Millisecond

// A Monitor notices TCP peers, and paths, that went silent while something is
// unacknowledged (sys.Silence). A connection is looked at only while it may
// owe an answer, so those that are idle cost nothing.
type Monitor struct {
	loop    *Loop
	bound   time.Duration
	lost    func(n *Node, silent time.Duration)
	node    Node // its timer
	entries []debtor
	spare   []debtor // the slice that entries was before, for the next look
}

// A debtor is a connection that has sent something.
type debtor struct {
	n       *Node
	gen     uint32
	silence sys.Silence
}

// NewMonitor makes one that calls lost for a connection of which nothing was
// heard for the bound.
func (l *Loop) NewMonitor(bound time.Duration, lost func(n *Node, silent time.Duration)) *Monitor {
	m := &Monitor{loop: l, bound: bound, lost: lost}
	m.node.Source = m
	return m
}

// Owe enters n, because it has sent something. That it is entered already
// costs one look at a flag.
func (m *Monitor) Owe(n *Node) {
	if n.owing || m.bound <= 0 {
		return
	}
	n.owing = true
	m.entries = append(m.entries, debtor{n: n, gen: n.gen})
	if !m.node.TimerSet() {
		m.arm()
	}
}

func (m *Monitor) arm() {
	m.loop.SetTimer(&m.node, max(m.bound/sys.ChecksPerBound, minCheck))
}

// Ready is never called: there is no descriptor.
func (*Monitor) Ready(sys.Events) {}

// Expired looks at all that may owe.
func (m *Monitor) Expired() {
	now := time.Now()
	entries := m.entries
	m.entries = m.spare[:0]
	for _, e := range entries {
		if e.n.gen != e.gen { // closed since, and perhaps in use again
			continue
		}
		l, err := m.loop.Liveness(e.n)
		switch {
		case err != nil || l.Owed == 0:
			e.n.owing = false
		case e.silence.Lost(l, now, m.bound):
			e.n.owing = false
			m.lost(e.n, l.LastHeard)
		default:
			m.entries = append(m.entries, e)
		}
	}
	clear(entries)
	m.spare = entries
	if len(m.entries) > 0 && !m.node.TimerSet() {
		m.arm()
	}
}
