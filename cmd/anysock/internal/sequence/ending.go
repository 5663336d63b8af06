// This file draws the endings below a diagram.

package sequence

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/anysock/anysock"
)

// An ending is what one side of one connection recorded.
type ending struct {
	lane, peer int // peer is -1 if it is not known
	end        *anysock.End
}

// endings are in the order of the roles, and within one in that of their peers.
func (g *graph) endings(steps []Step) []ending {
	var es []ending
	for i := range steps {
		s := &steps[i]
		if s.Event.Op != anysock.OpEnd || s.Event.End == nil || s.Role < 0 || s.Role >= g.lanes {
			continue
		}
		e := ending{s.Role, -1, s.Event.End}
		if l := g.links[s.Event.Socket]; l != nil && l.other != nil {
			e.peer = l.other.lane
		}
		es = append(es, e)
	}
	slices.SortStableFunc(es, func(x, y ending) int {
		if x.lane != y.lane {
			return x.lane - y.lane
		}
		return x.peer - y.peer
	})
	return es
}

// The columns of the endings, and where they start.
var endColumns = []struct {
	x     int
	title string
}{{2, "each side recorded"}, {22, "how it ended"}, {39, "ended by"}, {48, "sent"}, {54, "received"}, {64, "acked by"}, {74, "lasted"}}

func (p *page) ends(roles []string, es []ending) {
	if len(es) == 0 {
		return
	}
	p.flush()
	for _, c := range endColumns {
		p.put(c.x, c.title, faint)
	}
	p.flush()
	several := map[int]int{}
	for _, e := range es {
		several[e.lane]++
	}
	for _, e := range es {
		who := clean(roles[e.lane])
		if several[e.lane] > 1 && e.peer >= 0 {
			who += " to " + clean(roles[e.peer])
		}
		k := green
		if !e.end.How.Complete() {
			k = red
		}
		cells := []string{
			who, e.end.How.String(), by(e.end), strconv.FormatInt(e.end.Sent, 10), strconv.FormatInt(e.end.Received, 10),
			acked(e.end), span(e.end.Ended.Sub(e.end.Opened)),
		}
		for i, s := range cells {
			ink := plain
			if i == 1 {
				ink = k
			}
			p.put(endColumns[i].x, s, ink)
		}
		p.flush()
	}
}

// by is who ended first.
func by(e *anysock.End) string {
	if e.By == anysock.Nobody {
		return "-"
	}
	return e.By.String()
}

// acked is who has what was sent, or how much of it nobody has.
func acked(e *anysock.End) string {
	switch {
	case e.Unacked > 0:
		return fmt.Sprintf("-%d", e.Unacked)
	case e.AckedBy == anysock.AckedNone:
		return "-"
	}
	return e.AckedBy.String()
}

// span is a duration in at most six columns, up to a day.
func span(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.01:
		return fmt.Sprintf("%.2fms", s*1e3)
	case s < 0.1:
		return fmt.Sprintf("%.1fms", s*1e3)
	case s < 100:
		return fmt.Sprintf("%.2fs", s)
	default:
		return fmt.Sprintf("%.0fs", s)
	}
}
