//go:build linux

package compare

// This file runs a work: all candidates in rotated slots.

import (
	"context"
	"fmt"
	"io"
	"time"
)

// A Plan is how long and how often.
type Plan struct {
	Rounds int
	Slot   time.Duration
	Warmup time.Duration // before every slot
}

// Estimated costs of a work beside its slots.
const (
	startCost   = 150 * time.Millisecond // of a candidate
	connectCost = 90 * time.Microsecond  // of a connection
	slotCost    = 15 * time.Millisecond  // what is still in flight when a slot ends, and commands
)

// Estimate is how long a work takes with so many candidates.
func (p Plan) Estimate(w Work, candidates int) time.Duration {
	start := startCost
	if w.Mode != churn {
		start += time.Duration(w.Connections) * connectCost
	}
	return time.Duration(candidates) * (start + time.Duration(p.Rounds)*(p.Slot+p.Warmup+slotCost))
}

// Measure runs the work with every candidate that can be had. A candidate that
// fails is left out from there on, and its row says why. Only an error that
// concerns all ends the run.
func (b *Bench) Measure(ctx context.Context, log io.Writer, p Plan, w Work, candidates []Candidate) ([]Row, error) {
	rows := make([]Row, len(candidates))
	sessions := make([]*session, len(candidates))
	defer func() {
		for _, s := range sessions {
			if s != nil {
				s.stop()
			}
		}
	}()
	leaveOut := func(i int, err error) {
		rows[i].Err = err
		if ctx.Err() == nil {
			fmt.Fprintf(log, "%s: left out: %s\n", w.Name, leftOut(rows[i].Candidate, err))
		}
		if sessions[i] != nil {
			sessions[i].stop()
			sessions[i] = nil
		}
	}
	for i, c := range candidates {
		rows[i].Candidate = c.Name
		s, err := b.start(ctx, c, w)
		if err != nil {
			leaveOut(i, err)
			continue
		}
		sessions[i] = s
		if w.Mode != churn {
			if err := s.load.open(ctx, w.Connections); err != nil {
				leaveOut(i, s.explain(err))
			}
		}
	}
	for round := range p.Rounds {
		for _, i := range Order(len(candidates), round) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if sessions[i] == nil {
				continue
			}
			sample, err := sessions[i].slot(ctx, w, p.Warmup, p.Slot)
			if err != nil {
				leaveOut(i, err)
				continue
			}
			rows[i].Samples = append(rows[i].Samples, sample)
			if b.Samples != nil {
				if err := b.Samples.Encode(struct {
					Work, Candidate string
					Round           int
					Sample
				}{w.Name, rows[i].Candidate, round, sample}); err != nil {
					return nil, err
				}
			}
		}
	}
	return rows, ctx.Err()
}
