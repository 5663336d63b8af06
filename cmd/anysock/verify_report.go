package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
	"github.com/anysock/anysock/internal/verify"
)

// This file says how a run of verify goes, and what came of it.

// A verifyTeller says how a run goes: each finding as it comes, a line that
// changes on a terminal, and the summary.
type verifyTeller struct {
	a     *app
	shown int

	mu   sync.Mutex // of the live line
	live bool
	done chan struct{}
	over chan struct{}
}

// verifyShown bounds the findings that are shown; all are counted.
const verifyShown = 10

// finding tells of one; the run calls it one at a time.
func (t *verifyTeller) finding(f verify.Finding) {
	if t.shown++; !t.a.json && t.shown > verifyShown {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	if t.a.json {
		t.a.record(levelNotice, "finding", "", anysock.NotEnded, f)
		return
	}
	t.a.log.Warn(printable.Text(f.String()))
	if t.shown == verifyShown {
		t.a.log.Warn("further findings are only counted")
	}
}

// interrupted says what a first interrupt does.
func (t *verifyTeller) interrupted(in *interrupts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	t.a.log.Warn(in.why() + ": no more connections, finishing those at work; a second signal aborts them")
}

// liveEvery is how often the line changes.
const liveEvery = 200 * time.Millisecond

// start begins the line that shows how far the run is, on a terminal.
func (t *verifyTeller) start(run *verify.Run, total uint64) {
	t.done, t.over = make(chan struct{}), make(chan struct{})
	if !t.a.terminal || t.a.json || t.a.traceOn || t.a.env("TERM") == "dumb" {
		close(t.over)
		return
	}
	t.a.spawn(func() {
		defer close(t.over)
		tick := time.NewTicker(liveEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-t.done:
				return
			}
			p := run.Progress()
			t.mu.Lock()
			t.wipe()
			_, _ = t.a.stderr.Write([]byte(t.a.pen.faint(progressLine(p, total))))
			t.live = true
			t.mu.Unlock()
		}
	})
}

// wipe takes the live line away; mu is held.
func (t *verifyTeller) wipe() {
	if t.live {
		_, _ = t.a.stderr.Write([]byte("\r\x1b[K"))
		t.live = false
	}
}

func (t *verifyTeller) stop() {
	close(t.done)
	<-t.over
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
}

// progressLine is how far a run has come, in less than 80 columns.
func progressLine(p verify.Progress, total uint64) string {
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %d", total)
	}
	rate := 0.0
	if s := p.Elapsed.Seconds(); s > 0 {
		rate = float64(p.Done) / s
	}
	return fmt.Sprintf("%d%s, %.0f/s, %d at work, %s up, %s down, %d with a fault",
		p.Done, of, rate, p.Active, megabytes(p.Up), megabytes(p.Down), p.Faulty)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// summary prints the report and finds the status.
func (t *verifyTeller) summary(in *interrupts, rep *verify.Report, allowErrors bool) error {
	if t.a.json {
		t.a.record(levelNotice, "report", "", anysock.NotEnded, rep)
	} else if _, err := t.a.stdout.Write([]byte(verifyText(rep, in.drain.Err() != nil))); err != nil {
		return &outputError{err}
	}
	bad := rep.Losses()
	if !allowErrors {
		bad += rep.Errors()
	}
	if bad == 0 {
		if in.abort.Err() != nil {
			return &failure{err: fmt.Errorf("verify: %s aborted, %w", count(int(rep.Cut), "connection"), context.Cause(in.abort)), status: exitAborted}
		}
		if rep.Connections == 0 && in.drain.Err() == nil {
			return &failure{err: errors.New("verify: nothing could be tried"), status: exitSetup, hint: "other --orders"}
		}
		return nil
	}
	hint := ""
	if len(rep.Findings) > 0 {
		hint = fmt.Sprintf("to repeat one, add --seed %d --first %d --count 1", rep.Seed, rep.Findings[0].Number)
	}
	return &failure{err: fmt.Errorf("verify: a fault on %d of %s", bad, count(int(rep.Connections), "connection")), status: exitVerify, hint: hint}
}

// verifyText is a report for people.
func verifyText(rep *verify.Report, interrupted bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s over %s in %.1f s, %d at a time, seed %d\n", count(int(rep.Connections), "connection"), rep.Address, rep.Seconds, rep.AtOnce, rep.Seed)
	if interrupted {
		b.WriteString("  interrupted: this is what was done so far\n")
	}
	fmt.Fprintf(&b, "  %d ended in order, %d aborted and told so\n", rep.InOrder, rep.Aborted)
	fmt.Fprintf(&b, "  %s up, %s down, every byte that came compared\n", megabytes(rep.Up), megabytes(rep.Down))
	for _, n := range []struct {
		n    int64
		what string
	}{
		{rep.NotJudged, "aborted without anything to be seen of it at the far end"},
		{rep.Cut, "cut short by us, and not judged"},
		{rep.Strangers, "from elsewhere, turned away"},
	} {
		if n.n > 0 {
			fmt.Fprintf(&b, "  %d %s\n", n.n, n.what)
		}
	}
	for _, line := range rep.DowngradeLines() {
		fmt.Fprintf(&b, "  downgraded, because an end of the path cannot express it: %s\n", line)
	}
	for _, u := range untriedLines(rep.Untried) {
		fmt.Fprintf(&b, "  not tried: %s\n", u)
	}
	lines := rep.FaultLines()
	for _, line := range lines {
		fmt.Fprintf(&b, "%s\n", line)
	}
	if len(lines) == 0 {
		b.WriteString("nothing was lost, no end was false\n")
	}
	return b.String()
}

// untriedLines puts orders with the same reason in one line.
func untriedLines(us []verify.Untried) []string {
	var whys []string
	by := map[string][]string{}
	for _, u := range us {
		if !slices.Contains(whys, u.Why) {
			whys = append(whys, u.Why)
		}
		by[u.Why] = append(by[u.Why], u.Order.String())
	}
	var lines []string
	for _, why := range whys {
		lines = append(lines, strings.Join(by[why], ", ")+": "+why)
	}
	return lines
}
