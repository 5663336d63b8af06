// This file turns ordered steps into rows of text.

package sequence

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Draw writes the diagram, each line at most Width columns. Steps that failed
// for a reason of their own are marked with a cross and the reason.
func (d *Diagram) Draw(w io.Writer, style Style) error {
	p := newPage(d.roles(), style)
	g, marks := d.order()
	p.heads(d.roles())
	for i := 0; i < len(marks); i++ {
		m := marks[i]
		if i+1 < len(marks) && m.to == marks[i+1] {
			p.row(m, marks[i+1])
			i++
			continue
		}
		p.row(m, nil)
	}
	p.ends(d.roles(), g.endings(d.Steps))
	_, err := io.WriteString(w, p.out.String())
	return err
}

// The ink of a cell.
type ink byte

const (
	plain ink = iota
	faint
	bold
	blue
	green
	red
)

var inks = [...]string{plain: "\x1b[0m", faint: "\x1b[2m", bold: "\x1b[1m", blue: "\x1b[36m", green: "\x1b[32m", red: "\x1b[1;31m"}

// glyphs are what lines are drawn with.
type glyphs struct{ life, line, right, left, cross, rule rune }

var (
	boxes = glyphs{life: '│', line: '─', right: '▶', left: '◀', cross: '✗', rule: '─'}
	ascii = glyphs{life: '|', line: '-', right: '>', left: '<', cross: 'X', rule: '-'}
)

// Marks are the signs that Style uses for what is right and what is wrong.
func (s Style) Marks() (right, wrong string) {
	if s.Unicode {
		return "✓", "✗"
	}
	return "ok", "X"
}

// A page is where the diagram is put together, line by line.
type page struct {
	style Style
	glyphs
	x     []int // the column of each lifeline
	cells [Width]rune
	inks  [Width]ink
	out   strings.Builder
}

// columns are where the lifelines stand, by their number. The words of the
// outer roles go outside, those of the inner ones between the lines.
var columns = [maxRoles + 1][]int{1: {24}, 2: {28, 53}, 3: {18, 39, 60}, 4: {14, 30, 46, 62}}

func newPage(roles []string, style Style) *page {
	p := &page{style: style, glyphs: ascii, x: columns[len(roles)]}
	if style.Unicode {
		p.glyphs = boxes
	}
	p.clear()
	return p
}

func (p *page) clear() {
	for i := range p.cells {
		p.cells[i], p.inks[i] = ' ', plain
	}
}

// lifelines draws every lifeline.
func (p *page) lifelines() {
	for _, x := range p.x {
		p.cells[x], p.inks[x] = p.life, faint
	}
}

// put writes s from column x; what does not fit is cut.
func (p *page) put(x int, s string, k ink) {
	for _, r := range s {
		if x >= 0 && x < Width {
			p.cells[x], p.inks[x] = r, k
		}
		x++
	}
}

// flush ends the line.
func (p *page) flush() {
	n := Width
	for n > 0 && p.cells[n-1] == ' ' {
		n--
	}
	now := plain
	for i, r := range p.cells[:n] {
		if k := p.inks[i]; p.style.Color && r != ' ' && k != now {
			if now != plain {
				p.out.WriteString(inks[plain])
			}
			if k != plain {
				p.out.WriteString(inks[k])
			}
			now = k
		}
		p.out.WriteRune(r)
	}
	if now != plain {
		p.out.WriteString(inks[plain])
	}
	p.out.WriteByte('\n')
	p.clear()
}

// heads names the lifelines.
func (p *page) heads(roles []string) {
	for i, r := range roles {
		r = clean(r)
		p.put(p.x[i]-utf8.RuneCountInString(r)/2, r, bold)
	}
	p.flush()
}

// A tag is the words beside a lifeline, and on which side.
type tag struct {
	lines []string
	lane  int
	left  bool
	ink   ink
}

// row draws one step, and with it the one that received what it sent.
func (p *page) row(m, received *mark) {
	arrow := m.freight != "" && m.dest >= 0 && m.dest != m.lane
	right := m.dest > m.lane
	// The words stand opposite the arrow; without one, on the side of the
	// connection that they are about.
	side := m.lane == 0 || m.lane < len(p.x)-1 && m.dest >= 0 && m.dest < m.lane
	if arrow {
		side = right
	}
	tags := []tag{p.tag(m, side)}
	if received != nil {
		tags = append(tags, p.tag(received, !right))
	}
	height := 1
	for _, t := range tags {
		height = max(height, len(t.lines))
	}
	for i := range height {
		p.lifelines()
		if i == 0 && arrow {
			p.arrow(m.lane, m.dest, m.freight)
		}
		for _, t := range tags {
			if i < len(t.lines) {
				p.words(t, t.lines[i])
			}
		}
		p.flush()
	}
}

// arrow draws a line from one lifeline to another, with what it carries.
func (p *page) arrow(from, to int, freight string) {
	lo, hi := min(p.x[from], p.x[to]), max(p.x[from], p.x[to])
	for x := lo + 1; x < hi; x++ {
		p.cells[x], p.inks[x] = p.line, blue
	}
	room := hi - lo - 5 // a dash, two spaces, the head and one more dash
	if to > from {
		p.cells[hi-1] = p.right
	} else {
		p.cells[lo+1] = p.left
	}
	if n := utf8.RuneCountInString(freight); n <= room+1 {
		start := lo + 1 + (hi-lo-1-n)/2
		p.put(start-1, " "+freight+" ", plain)
	}
}

// tag is what a mark says, wrapped to the room it has.
func (p *page) tag(m *mark, left bool) tag {
	t := tag{lane: m.lane, left: left}
	text := m.label
	if m.bad {
		t.ink = red
		text = string(p.cross) + " " + m.label + ":\n" + m.why
	}
	t.lines = wrap(text, p.room(m.lane, left))
	return t
}

// room is how many columns the words beside a lifeline have.
func (p *page) room(lane int, left bool) int {
	x := p.x[lane]
	switch {
	case left && lane == 0:
		return x - 1
	case left:
		return x - p.x[lane-1] - 3
	case lane == len(p.x)-1:
		return Width - x - 2
	}
	return p.x[lane+1] - x - 3
}

func (p *page) words(t tag, s string) {
	x := p.x[t.lane] + 2
	if t.left {
		x = p.x[t.lane] - 1 - utf8.RuneCountInString(s)
	}
	p.put(x, s, t.ink)
}

// wrap breaks s into lines: nowhere if there is room, else at its line breaks,
// else between words, and within a word that is longer than the room.
func wrap(s string, room int) []string {
	if one := strings.ReplaceAll(s, "\n", " "); utf8.RuneCountInString(one) <= room {
		return []string{one}
	}
	var lines []string
	for clause := range strings.SplitSeq(s, "\n") {
		lines = append(lines, wrapWords(clause, room)...)
	}
	return lines
}

func wrapWords(s string, room int) []string {
	var lines []string
	line, n := "", 0
	for _, word := range strings.Fields(s) {
		k := utf8.RuneCountInString(word)
		if n > 0 && n+1+k <= room {
			line, n = line+" "+word, n+1+k
			continue
		}
		if n > 0 {
			lines = append(lines, line)
		}
		rs := []rune(word)
		for len(rs) > room {
			lines, rs = append(lines, string(rs[:room])), rs[room:]
		}
		line, n = string(rs), len(rs)
	}
	return append(lines, line)
}
