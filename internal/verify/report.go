package verify

// This file holds the result of a run.

import (
	"fmt"
	"slices"
	"time"

	"github.com/anysock/anysock"
)

// MaxFindings bounds the findings that a report lists; all are counted.
const MaxFindings = 100

// A Report is the result of a run. Its field names in JSON stay what they are.
type Report struct {
	Address string       `json:"address"`
	Seed    uint64       `json:"seed"`
	First   uint64       `json:"first"`
	MaxSize int          `json:"max_size"` // bytes of a message
	AtOnce  int          `json:"at_once"`
	Caps    anysock.Caps `json:"caps"` // of both ends of the path

	Connections int64            `json:"connections"` // judged
	Cut         int64            `json:"cut"`         // cut short by us, not judged
	InOrder     int64            `json:"in_order"`    // ended in order, every byte compared
	Aborted     int64            `json:"aborted"`     // aborted by plan, and told so
	Orders      map[string]int64 `json:"orders"`
	Up          int64            `json:"up_bytes"`   // sent by the client, openings included
	Down        int64            `json:"down_bytes"` // received by it

	// Faults counts connections by what was wrong with them; Lost is the bytes
	// that did not come before an end of file.
	Faults map[string]int64 `json:"faults"`
	Lost   int64            `json:"lost_bytes"`
	// Downgrades counts endings that an end of the path cannot express, by what
	// they became. They are no faults.
	Downgrades map[string]int64 `json:"downgrades,omitempty"`
	Untried    []Untried        `json:"untried,omitempty"`
	// NotJudged counts aborts that nothing could be seen of: at an echo server,
	// and those that came before the server knew of the connection.
	NotJudged int64     `json:"not_judged"`
	Strangers int64     `json:"strangers"` // connections that came to the server from elsewhere
	Findings  []Finding `json:"findings,omitempty"`
	Seconds   float64   `json:"seconds"`
	Complete  bool      `json:"complete"` // not stopped before its end
}

func (rep *Report) init(cfg Config, caps anysock.Caps) {
	rep.Address, rep.Seed, rep.First = cfg.Address.String(), cfg.Seed, cfg.First
	rep.MaxSize, rep.AtOnce, rep.Caps = cfg.MaxSize, cfg.AtOnce, caps
	rep.Orders, rep.Faults, rep.Downgrades = map[string]int64{}, map[string]int64{}, map[string]int64{}
}

// count adds one judged connection.
func (rep *Report) count(p played, v verdict) {
	rep.Connections++
	rep.Orders[p.plan.Order.String()]++
	for _, d := range v.downgrades {
		rep.Downgrades[d]++
	}
	f := v.finding
	switch {
	case f != nil:
		rep.Faults[f.Fault.String()]++
		rep.Lost += f.Lost
		if len(rep.Findings) < MaxFindings {
			rep.Findings = append(rep.Findings, *f)
		}
	case !p.plan.Order.Aborts():
		rep.InOrder++
	case len(v.downgrades) > 0:
	case v.blind:
		rep.NotJudged++
	default:
		rep.Aborted++
	}
}

// end completes it.
func (rep *Report) end(r *Run) {
	rep.Up, rep.Down = r.up.Load(), r.down.Load()
	rep.Seconds = time.Since(r.began).Seconds()
	rep.Complete = rep.Cut == 0 && (r.cfg.Count == 0 || uint64(rep.Connections) >= r.cfg.Count)
	if r.cfg.Count == 0 {
		rep.Complete = rep.Cut == 0 && time.Since(r.began) >= r.cfg.Duration
	}
	if s := r.cfg.Server; s != nil {
		rep.Strangers = s.Strangers()
		for f := range faultCount {
			n := s.Nameless(f)
			if n == 0 {
				continue
			}
			if f == FalseEnd && !rep.Caps.Has(anysock.CapAbort) {
				rep.Downgrades[abortBecameEnd] += n
				continue
			}
			rep.Faults[f.String()] += n
		}
	}
}

// Losses counts the faults of which somebody was not told.
func (rep *Report) Losses() int64 {
	var n int64
	for f := range faultCount {
		if !f.Told() {
			n += rep.Faults[f.String()]
		}
	}
	return n
}

// Errors counts the connections that were refused or broken off, which those
// concerned were told.
func (rep *Report) Errors() int64 {
	return rep.Faults[Refused.String()] + rep.Faults[Broken.String()]
}

// FaultLines says what was wrong, worst first, for people.
func (rep *Report) FaultLines() []string {
	var lines []string
	for f := faultCount - 1; f > None; f-- {
		if n := rep.Faults[f.String()]; n > 0 {
			line := fmt.Sprintf("%s: %d %s", f, n, f.Meaning())
			if f == LostBytes || f == FalseEnd && rep.Faults[LostBytes.String()] == 0 && rep.Lost > 0 {
				line += fmt.Sprintf(" (%d bytes)", rep.Lost)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// DowngradeLines says what became something else, for people.
func (rep *Report) DowngradeLines() []string {
	var lines []string
	for what, n := range rep.Downgrades {
		lines = append(lines, fmt.Sprintf("%s: %d", what, n))
	}
	slices.Sort(lines)
	return lines
}
