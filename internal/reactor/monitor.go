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
	loop     *Loop
	bound    time.Duration
	lost     func(n *Node, silent time.Duration)
	node     Node    // its timer
	sent     []*Node // those that have sent something since they owed nothing
	crowd    int     // how many have sent when it is worth looking who has gone
	silences map[*Node]*sys.Silence
}

// minCrowd is how many closed Nodes a Monitor may hold on to, until its next
// look.
const minCrowd = 64

// NewMonitor makes one that calls lost for a connection of which nothing was
// heard for the bound.
func (l *Loop) NewMonitor(bound time.Duration, lost func(n *Node, silent time.Duration)) *Monitor {
	m := &Monitor{loop: l, bound: bound, lost: lost, crowd: minCrowd, silences: make(map[*Node]*sys.Silence)}
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
	if len(m.sent) >= m.crowd {
		m.forgetClosed()
	}
	m.sent = append(m.sent, n)
	if !m.node.TimerSet() {
		m.arm()
	}
}

// forgetClosed lets go of the Nodes that are closed: where connections are short
// there would soon be many more of them than of open ones.
func (m *Monitor) forgetClosed() {
	open := m.sent[:0]
	for _, n := range m.sent {
		if n.Open() {
			open = append(open, n)
		} else {
			delete(m.silences, n)
		}
	}
	clear(m.sent[len(open):])
	m.sent = open
	m.crowd = max(2*len(open), minCrowd)
	if cap(open) < m.crowd { // what append grows by would be garbage again soon
		m.sent = append(make([]*Node, 0, m.crowd), open...)
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
	nodes := m.sent
	m.sent, m.crowd = nil, minCrowd // a burst is no reason to keep so much
	for _, n := range nodes {
		if !m.owes(n, now) {
			n.owing = false
			delete(m.silences, n)
			continue
		}
		m.sent = append(m.sent, n)
	}
	m.crowd = max(2*len(m.sent), minCrowd)
	if len(m.sent) > 0 && !m.node.TimerSet() {
		m.arm()
	}
}

// owes looks at one connection.
func (m *Monitor) owes(n *Node, now time.Time) bool {
	if !n.Open() {
		return false
	}
	l, err := m.loop.Liveness(n)
	if err != nil || l.Owed == 0 {
		return false
	}
	s := m.silences[n]
	if s == nil {
		s = new(sys.Silence)
		m.silences[n] = s
	}
	if !s.Lost(l, now, m.bound) {
		return true
	}
	m.lost(n, l.LastHeard)
	return false
}
