// This file finds out what caused what, and from that the order of the rows.

package sequence

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// A mark is what one row says of one lifeline.
type mark struct {
	lane    int
	ev      *anysock.Event
	key     time.Time // when it acted on others, or when others had acted on it
	label   string
	freight string // what it sends along its arrow
	dest    int    // the lifeline that the arrow goes to, -1 if it is not known
	begins  bool   // it is the beginning of a step that has a mark for its return too
	bad     bool   // it failed, and no other step explains it
	why     string // then, the reason

	needs  []*mark // what must stand above it
	to     *mark   // the first step that received what this one sent
	rank   int     // what comes first of what happened at once
	placed bool
}

// A link is one end of a connection.
type link struct {
	socket   uint64
	lane     int
	accepted bool
	opened   *mark // its connect or accept
	other    *link
	local    string
	peer     string

	wrote []moved // what was sent, in order
	read  []moved
	fin   *mark // our end
	rst   *mark // our abort
	eof   *mark // their end as we read it
	over  time.Time
	end   *anysock.End
}

// A moved is a read or write and how many bytes had been moved with it.
type moved struct {
	m    *mark
	upto int64
}

// covering is the first one with which n bytes had been moved, or nil.
func covering(ms []moved, n int64) *mark {
	for _, m := range ms {
		if m.upto >= n {
			return m.m
		}
	}
	return nil
}

// A graph is the steps with their causes.
type graph struct {
	lanes     int
	marks     []*mark // by key
	links     map[uint64]*link
	listeners map[uint64]*mark
}

// order returns the marks from top to bottom.
func (d *Diagram) order() (*graph, []*mark) {
	g := &graph{lanes: len(d.roles()), links: map[uint64]*link{}, listeners: map[uint64]*mark{}}
	for i := range d.Steps {
		if s := &d.Steps[i]; s.Role >= 0 && s.Role < g.lanes {
			g.add(s.Role, &s.Event)
		}
	}
	for _, m := range g.marks {
		if m.label == "" {
			m.label = label(m.ev, g.listeners[m.ev.Socket] != nil)
		}
	}
	g.nest()
	slices.SortStableFunc(g.marks, func(x, y *mark) int { return x.key.Compare(y.key) })
	g.connect()
	for i := range d.Steps {
		if ev := &d.Steps[i].Event; ev.Op == anysock.OpEnd && g.links[ev.Socket] != nil {
			g.links[ev.Socket].end = ev.End
		}
	}
	for _, m := range g.marks {
		g.note(m)
	}
	g.marks = slices.DeleteFunc(g.marks, func(m *mark) bool { return g.aftermath(m) || g.idleAccept(m) || g.formality(m) })
	for _, m := range g.marks {
		g.explain(m)
	}
	for lane := range g.lanes {
		g.chain(lane)
	}
	g.abortsLast()
	return g, g.sort()
}

// add makes the marks of an event. What a step sends leaves when it begins;
// what it receives is there when it returns. A Disconnect has both.
func (g *graph) add(lane int, ev *anysock.Event) {
	m := &mark{lane: lane, ev: ev, key: ev.Time, dest: -1}
	switch ev.Op {
	case anysock.OpEnd:
		return
	case anysock.OpAccept, anysock.OpWait, anysock.OpPeek, anysock.OpRead:
		m.key = ev.Time.Add(ev.Duration)
	case anysock.OpDisconnect:
		g.marks = append(g.marks, &mark{lane: lane, ev: ev, key: ev.Time, dest: -1, label: "disconnect", begins: true})
		m.key = ev.Time.Add(ev.Duration)
	case anysock.OpListen:
		if ev.Err == nil {
			g.listeners[ev.Socket] = m
		}
	}
	m.freight = clean(freight(ev))
	g.marks = append(g.marks, m)
}

// nest puts a connect behind the steps that prepared it: that of a Dialer
// begins with them.
func (g *graph) nest() {
	for _, c := range g.marks {
		if c.ev.Op != anysock.OpConnect {
			continue
		}
		until := c.ev.Time.Add(c.ev.Duration)
		for _, m := range g.marks {
			switch m.ev.Op {
			case anysock.OpSocket, anysock.OpOption, anysock.OpBind:
				if m.ev.Socket == c.ev.Socket && !m.key.Before(c.key) && m.key.Before(until) {
					c.key = m.key.Add(1)
				}
			}
		}
	}
}

// connect finds the connections and which two sockets belong to each.
func (g *graph) connect() {
	for _, m := range g.marks {
		if m.ev.Err != nil || m.ev.Op != anysock.OpConnect && m.ev.Op != anysock.OpAccept {
			continue
		}
		l := &link{socket: m.ev.Socket, lane: m.lane, opened: m, accepted: m.ev.Op == anysock.OpAccept, local: m.ev.Local, peer: m.ev.Peer}
		for _, o := range g.links {
			if o.other == nil && o.accepted != l.accepted && o.local == l.peer && o.peer == l.local {
				o.other, l.other = l, o
			}
		}
		g.links[m.ev.Socket] = l
	}
}

// note records what a step did to its connection.
func (g *graph) note(m *mark) {
	l := g.links[m.ev.Socket]
	if l == nil {
		return
	}
	if l.other != nil {
		m.dest = l.other.lane
	}
	switch ev := m.ev; ev.Op {
	case anysock.OpWrite:
		if ev.Bytes > 0 {
			l.wrote = append(l.wrote, moved{m, ev.Bytes + total(l.wrote)})
		}
	case anysock.OpRead:
		if ev.Bytes > 0 {
			l.read = append(l.read, moved{m, ev.Bytes + total(l.read)})
		}
		if l.eof == nil && (errors.Is(ev.Err, io.EOF) || ev.Bytes > 0 && errors.Is(ev.Err, io.ErrUnexpectedEOF)) {
			l.eof = m
		}
	case anysock.OpShutdown:
		if l.fin == nil && m.freight != "" {
			l.fin = m
		}
	case anysock.OpAbort, anysock.OpClose:
		if ev.Op == anysock.OpAbort {
			l.rst = m
		}
		if l.over.IsZero() {
			l.over = m.key
		}
	}
}

func total(ms []moved) int64 {
	if len(ms) == 0 {
		return 0
	}
	return ms[len(ms)-1].upto
}

// explain finds what a step waited for on the other side, and decides whether
// an error is a failure or the consequence of another step.
func (g *graph) explain(m *mark) {
	ev := m.ev
	l := g.links[ev.Socket]
	var cause *mark
	explained := false
	switch {
	case ev.Op == anysock.OpConnect:
		g.afterListen(m)
		if l == nil || l.other == nil { // no arrow says where to
			m.label = join("connect", ev.Peer)
		}
	case l == nil || l.other == nil:
	case ev.Op == anysock.OpAccept:
		cause = l.other.opened
	case ev.Err != nil && isReset(ev.Err) && l.other.rst != nil && !m.key.Before(l.other.rst.key):
		cause, explained = l.other.rst, true
	case ev.Err != nil && isReset(ev.Err):
		explained = g.afterFailure(m, l.other)
	case ev.Op == anysock.OpRead && m == l.eof:
		cause = l.other.fin
	case ev.Op == anysock.OpRead && ev.Bytes > 0:
		cause = covering(l.other.wrote, g.readUpTo(l, m))
	case (ev.Op == anysock.OpWait || ev.Op == anysock.OpPeek) && ev.Err == nil:
		cause = g.somethingToRead(l, m)
	case ev.Op == anysock.OpDisconnect && ev.Bytes == 0 && g.exchanged(ev):
		m.label = "disconnect"
	case ev.Op == anysock.OpDisconnect && !m.begins && l.end != nil && !l.end.ReadEnded.IsZero():
		cause = l.other.fin
	}
	if cause != nil && cause != m {
		m.needs = append(m.needs, cause)
		if cause.to == nil {
			cause.to = m
		}
	}

	switch {
	case ev.Err == nil, errors.Is(ev.Err, io.EOF), m.begins:
	case explained:
		if ev.Op == anysock.OpRead && ev.Bytes == 0 {
			m.label = "read: reset"
		} else {
			m.label += ": reset"
		}
	case isGivenUp(ev.Err):
		m.label += "\n(called off)"
	default:
		m.bad, m.why = true, clean(reason(ev.Err))
	}
}

// afterFailure puts a reset below what the other side did before, and reports
// whether a call had failed there: what cannot go on is closed with a reset.
func (g *graph) afterFailure(m *mark, other *link) (failed bool) {
	for _, o := range g.marks {
		if o.ev.Socket != other.socket || !o.key.Before(m.key) {
			continue
		}
		m.needs = append(m.needs, o)
		if err := o.ev.Err; err != nil && !errors.Is(err, io.EOF) && !isGivenUp(err) {
			failed = true
		}
	}
	return failed
}

// afterListen puts a connect below the listen that it reaches.
func (g *graph) afterListen(m *mark) {
	for _, ln := range g.listeners {
		if name(ln.ev.Local) == name(m.ev.Peer) {
			m.needs = append(m.needs, ln)
		}
	}
}

// name is what a listener on every address has in common with the address
// that a client used: the port, or the whole path.
func name(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func (g *graph) readUpTo(l *link, m *mark) int64 {
	for _, r := range l.read {
		if r.m == m {
			return r.upto
		}
	}
	return 0
}

// somethingToRead is what made a wait return: the first byte that had not been
// read by then, or the end, or the abort.
func (g *graph) somethingToRead(l *link, m *mark) *mark {
	var before int64
	for _, r := range l.read {
		if r.m.key.Before(m.key) {
			before = r.upto
		}
	}
	if c := covering(l.other.wrote, before+1); c != nil {
		return c
	}
	if l.other.fin != nil {
		return l.other.fin
	}
	return l.other.rst
}

// formality finds the beginning of a Disconnect that had nothing to exchange
// any more: its return says all.
func (g *graph) formality(m *mark) bool { return m.begins && g.exchanged(m.ev) }

// exchanged reports whether both ends of the connection had been sent and read
// before ev began.
func (g *graph) exchanged(ev *anysock.Event) bool {
	l := g.links[ev.Socket]
	return l != nil && l.fin != nil && l.eof != nil && ev.Time.After(l.fin.key) && ev.Time.After(l.eof.key)
}

// idleAccept finds the accept that was pending when a listener which had done
// its work was closed.
func (g *graph) idleAccept(m *mark) bool {
	if m.ev.Op != anysock.OpAccept || !isGivenUp(m.ev.Err) {
		return false
	}
	for _, l := range g.links {
		if l.accepted && l.lane == m.lane && name(l.local) == name(m.ev.Local) {
			return true
		}
	}
	return false
}

// aftermath finds reads and writes that were turned away because their own
// side had closed or aborted the connection, which is on the diagram; and
// glances at a connection, which wait for nothing.
func (g *graph) aftermath(m *mark) bool {
	l := g.links[m.ev.Socket]
	if m.ev.Op == anysock.OpWait && m.ev.Detail == anysock.Readiness(0).String() {
		return true
	}
	switch m.ev.Op {
	case anysock.OpRead, anysock.OpWrite, anysock.OpWait, anysock.OpPeek, anysock.OpShutdown:
		return l != nil && !l.over.IsZero() && m.ev.Bytes == 0 && isGivenUp(m.ev.Err)
	}
	return false
}

// chain adds the order within one role. One that accepts a connection and makes
// another is a relay, and works in both directions at once: there each
// direction has its order, what is passed on comes after what was received,
// and the two connections end independently of each other.
func (g *graph) chain(lane int) {
	var ms []*mark
	for _, m := range g.marks {
		if m.lane == lane {
			ms = append(ms, m)
		}
	}
	legs := g.legs(lane)
	var control *mark // the last that was neither sending nor receiving nor ending
	last := map[direction]*mark{}
	for i, m := range ms {
		dir, data := directionOf(m)
		switch {
		case legs == nil:
			if i > 0 {
				m.needs = append(m.needs, ms[i-1])
			}
		case data:
			for _, p := range []*mark{control, last[dir], g.passedOn(legs, m)} {
				if p != nil {
					m.needs = append(m.needs, p)
				}
			}
			last[dir] = m
		default:
			for _, p := range ms[:i] {
				if !p.ends() || p.ev.Socket == m.ev.Socket {
					m.needs = append(m.needs, p)
				}
			}
			if !m.ends() {
				control = m
			}
		}
		m.rank = g.rank(legs, m)
	}
}

// ends reports whether m is about the ending of a connection.
func (m *mark) ends() bool {
	switch m.ev.Op {
	case anysock.OpDisconnect, anysock.OpClose, anysock.OpAbort:
		return true
	}
	return false
}

// rank puts in order what a relay did at the same time: first what concerns the
// accepted connection, and there first what was received.
func (g *graph) rank(legs map[*link]*link, m *mark) int {
	l := g.links[m.ev.Socket]
	r := 0
	switch {
	case legs == nil:
	case l == nil && m.ends(): // a listener
		r = 4
	case l != nil && !l.accepted:
		r = 2
	}
	if d, data := directionOf(m); legs != nil && data && d.out {
		r++
	}
	return r
}

// A direction is one half of a connection.
type direction struct {
	socket uint64
	out    bool
}

func directionOf(m *mark) (d direction, data bool) {
	switch m.ev.Op {
	case anysock.OpRead, anysock.OpWait, anysock.OpPeek:
		return direction{m.ev.Socket, false}, true
	case anysock.OpWrite, anysock.OpShutdown:
		return direction{m.ev.Socket, true}, true
	}
	return direction{}, false
}

// legs are the two connections of a relay, each with the other one; nil if the
// role is none.
func (g *graph) legs(lane int) map[*link]*link {
	var in, out *link
	for _, l := range g.links {
		switch {
		case l.lane != lane:
		case l.accepted && in == nil:
			in = l
		case !l.accepted && out == nil:
			out = l
		default:
			return nil // more than one pair: whose is whose cannot be known
		}
	}
	if in == nil || out == nil {
		return nil
	}
	return map[*link]*link{in: out, out: in}
}

// passedOn is the step of one leg that m passes on to the other.
func (g *graph) passedOn(legs map[*link]*link, m *mark) *mark {
	l := g.links[m.ev.Socket]
	from := legs[l]
	switch {
	case from == nil:
		return nil
	case m == l.fin:
		return from.eof
	case m.ev.Op == anysock.OpWrite:
		for _, w := range l.wrote {
			if w.m == m {
				return covering(from.read, w.upto)
			}
		}
	}
	return nil
}

// abortsLast puts below each other what an abort could have destroyed, had it
// not arrived before, and the abort.
func (g *graph) abortsLast() {
	for i, m := range g.marks {
		if m.ev.Op == anysock.OpAbort {
			m.needs = append(m.needs, g.marks[:i]...)
		}
	}
}

// ready reports whether all that must stand above m does.
func (m *mark) ready() bool {
	for _, n := range m.needs {
		if !n.placed {
			return false
		}
	}
	return true
}

// sort is a topological sort. Of what could come next it takes the rightmost
// role's, so that servers are ready before clients come and what was sent
// arrives before more is sent. Times decide only within a role; should they
// contradict each other, the earliest step comes next.
func (g *graph) sort() []*mark {
	sorted := make([]*mark, 0, len(g.marks))
	for len(sorted) < len(g.marks) {
		var best, earliest *mark
		for _, m := range g.marks {
			if m.placed {
				continue
			}
			if earliest == nil {
				earliest = m
			}
			if (best == nil || m.lane > best.lane || m.lane == best.lane && m.rank < best.rank) && m.ready() {
				best = m
			}
		}
		if best == nil {
			best = earliest
		}
		best.placed = true
		sorted = append(sorted, best)
		// What was sent is received on the same row, if nothing else comes
		// first there.
		if r := best.to; r != nil && !r.placed && r.ready() {
			r.placed = true
			sorted = append(sorted, r)
		}
	}
	return sorted
}
