//go:build linux

package compare

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 0.123456: "0.12", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 1234: "1234", 12345: "12,345", 1234567.8: "1,234,568",
	} {
		if got := figure(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

// row is a candidate that used so many microseconds for each of a thousand
// messages in the slots of a round.
func row(name string, micros ...float64) Row {
	r := Row{Candidate: name}
	for _, m := range micros {
		r.Samples = append(r.Samples, Sample{
			Units: 1000, Elapsed: time.Second, ServerCPU: time.Duration(m * 1e6), LoadCPU: time.Second / 2,
			P50: time.Duration(m*2) * time.Microsecond, P99: time.Duration(m*10) * time.Microsecond,
		})
	}
	return r
}

func TestTablePairsRoundByRound(t *testing.T) {
	rows := []Row{
		row("ours", 4, 6, 8),
		row("base", 8, 8, 8),
		row("alone", 0, 0, 0),
		{Candidate: "gone", Err: fmt.Errorf("socat: %w", ErrMissing)},
		{Candidate: "broken", Err: fmt.Errorf("%w: gcc says much", errBuild)},
		{Candidate: "silent"},
	}
	text := Table(Work{Title: "T", Unit: "message", Mode: echo}, rows, "base")
	for _, want := range []string{
		"### T\n",
		"|  | CPU, µs per message | against base | messages/s | against base | p50, µs | against base | p99, µs | against base | load busy |\n",
		"| ours | 6.00 | 0.75 (0.50 to 1.00) | 1000 | 1.00 (1.00 to 1.00) | 12.0 | 0.75 (0.50 to 1.00) | 60.0 | 0.75 (0.50 to 1.00) | 50 % |\n",
		"| base | 8.00 | 1 | 1000 | 1 | 16.0 | 1 | 80.0 | 1 | 50 % |\n",
		"| alone | – | – | 1000 | – |",
		"Left out: gone: socat: not installed; broken: does not build; silent: measured nothing.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	text = Table(Work{Title: "B", Unit: "GB", Mode: bulk}, []Row{row("ours", 500000)}, "base")
	if want := "| ours | 0.50 | – | 1000 | – | 50 % |\n"; !strings.Contains(text, want) || strings.Contains(text, "p50") {
		t.Errorf("the table of bulk lacks %q or tells latencies:\n%s", want, text)
	}
}

func TestTargetTable(t *testing.T) {
	targets := []Target{
		{"w", "ours", "base", "cost", CPU, 0.76, false},
		{"w", "ours", "base", "cost", CPU, 0.74, false},
		{"w", "ours", "base", "speed", Rate, 1, true},
		{"w", "ours", "base", "speed", Rate, 1.01, true},
		{"w", "ours", "gone", "cost", CPU, 1, false},
		{"other", "ours", "base", "cost", CPU, 1, false},
	}
	failed := row("gone", 1)
	failed.Err = errors.New("wrong bytes")
	text := TargetTable(targets, map[string][]Row{"w": {row("ours", 4, 6, 8), row("base", 8, 8, 8), failed}})
	var verdicts []string
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		verdicts = append(verdicts, strings.TrimSuffix(cells[len(cells)-1], " |"))
	}
	want := []string{"reached", "**missed**", "reached", "**missed**", "not measured", "not measured"}
	if got := verdicts[2 : 2+len(want)]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("verdicts %v, want %v:\n%s", got, want, text)
	}
}

func TestIdleTables(t *testing.T) {
	ours := IdleRow{Candidate: "ours", Points: []IdlePoint{{0, 5e6, 5}, {1000, 6e6, 2005}, {2000, 6.3e6, 4005}, {5000, 7e6, 10005}}}
	short := IdleRow{Candidate: "short", Points: []IdlePoint{{0, 5e6, 5}}, Err: errors.New("EMFILE")}
	text := IdleTable("I", []IdleRow{ours, short})
	for _, want := range []string{"| ours | 5.00 | 1000 to 5000 | 250 | 300, 233 | 2.00 |\n", "Left out: short: EMFILE.\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	text = IdleTargetTable([]IdleTarget{
		{"ours", "memory", residentEach, 250, "B"},
		{"ours", "memory", residentEach, 249, "B"},
		{"ours", "descriptors", descriptorsEach, 2, ""},
		{"ours", "base", processBase, 6, "MB"},
		{"short", "memory", residentEach, 1, "B"},
	}, []IdleRow{ours, short})
	for _, want := range []string{
		"| ours | memory | ≤ 250 B | 250 B | reached |\n", "| ours | memory | ≤ 249 B | 250 B | **missed** |\n",
		"| ours | descriptors | ≤ 2 | 2.00 | reached |\n", "| ours | base | ≤ 6 MB | 5.00 MB | reached |\n",
		"| short | memory | ≤ 1 B | – | not measured |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}

// TestAffordable is at a server with two descriptors for each connection, and
// one that needs none.
func TestAffordable(t *testing.T) {
	points := func(descriptors int) []IdlePoint { return []IdlePoint{{0, 0, 5}, {1000, 0, descriptors}} }
	if n, err := affordable(points(2005), 2000); err != nil || n != 2000 {
		t.Errorf("2000 connections become %d, error %v", n, err)
	}
	n, err := affordable(points(2005), 1<<30)
	if err != nil || n%100 != 0 || n < 100 || n >= 1<<30 {
		t.Errorf("more than there are descriptors becomes %d, error %v", n, err)
	}
	if n, err := affordable(points(5), 1<<20); err != nil || n != 1<<20 {
		t.Errorf("connections without descriptors are limited to %d, error %v", n, err)
	}
}

func TestTargetsNameWhatThereIs(t *testing.T) {
	for _, s := range Sets() {
		if s.Profile {
			continue // which compares nothing
		}
		works, candidates := map[string]bool{}, map[string]bool{}
		for _, w := range s.Works {
			works[w.Name] = true
		}
		for _, c := range s.Candidates {
			if candidates[c.Name] {
				t.Errorf("set %s has two candidates called %s", s.Name, c.Name)
			}
			candidates[c.Name] = true
		}
		for _, target := range s.Targets {
			if !works[target.Work] || !candidates[target.Subject] || !candidates[target.Base] {
				t.Errorf("set %s: target %s of %s against %s", s.Name, target.Work, target.Subject, target.Base)
			}
		}
		for _, target := range s.IdleTargets {
			if !candidates[target.Candidate] {
				t.Errorf("set %s: a target for %s", s.Name, target.Candidate)
			}
		}
		if len(s.Works) > 0 && (!candidates[s.Base] || !candidates[s.Base+Again]) {
			t.Errorf("set %s lacks its base %q, or the same again for the noise", s.Name, s.Base)
		}
	}
}
