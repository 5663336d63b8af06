//go:build linux

package compare

// This file holds what anysock is to reach, and says whether it has.

import (
	"fmt"
	"strings"
)

// A Target is a bound on a ratio between two candidates in one work.
type Target struct {
	Work          string
	Subject, Base string
	What          string
	Metric        Metric
	Bound         float64
	AtLeast       bool // the bound is a lower one
}

// Names of the candidates that the targets are about.
const (
	callbacks      = "anysock callbacks"
	coroutineStyle = "anysock coroutines"
	relay          = "anysock relay"
)

// EchoTargets are those of the set echo.
func EchoTargets() []Target {
	const cpu, p99, uring = "CPU per message", "p99 latency", "C io_uring"
	return []Target{
		{"64", callbacks, EchoBase, cpu, CPU, 0.86, false},
		{"depth", callbacks, EchoBase, cpu, CPU, 0.86, false},
		{"10000", callbacks, EchoBase, cpu, CPU, 0.90, false},
		{"1", callbacks, EchoBase, cpu, CPU, 0.55, false},
		{"large", callbacks, EchoBase, cpu, CPU, 1, false},
		{"churn", callbacks, EchoBase, "CPU per connection", CPU, 0.65, false},
		{"64", callbacks, uring, cpu, CPU, 1.05, false},
		{"depth", callbacks, uring, cpu, CPU, 1.05, false},
		{"10000", callbacks, uring, cpu, CPU, 1.05, false},
		{"64", callbacks, EchoBase, p99, P99, 0.70, false},
		{"64", coroutineStyle, "package net", cpu, CPU, 0.88, false},
	}
}

// RelayTargets are those of the set relay.
func RelayTargets() []Target {
	const throughput, perSecond = "throughput", "connections per second"
	return []Target{
		{"bulk", relay, RelayBase, throughput, Rate, 1.4, true},
		{"bulk", relay, "HAProxy splice-auto", throughput, Rate, 1.2, true},
		{"bulk", relay, "C splice", throughput, Rate, 1, true},
		{"bulk", relay, RelayBase, "CPU per GB", CPU, 0.48, false},
		{"connections", relay, RelayBase, perSecond, Rate, 1, true},
		{"connections", relay, RelayBase, "CPU per connection", CPU, 0.95, false},
		{"connections-2", relay, RelayBase, perSecond, Rate, 1, true},
		{"connections-2", relay, RelayBase, "CPU per connection", CPU, 0.95, false},
		{"rtt", relay, RelayBase, "round trip, p50", P50, 0.90, false},
	}
}

// An IdleTarget is an upper bound on what an idle connection costs.
type IdleTarget struct {
	Candidate string
	What      string
	Value     func(IdleRow) float64
	Bound     float64
	Unit      string
}

func residentEach(r IdleRow) float64 { resident, _ := r.Overall(); return resident }

func descriptorsEach(r IdleRow) float64 { _, descriptors := r.Overall(); return descriptors }

func processBase(r IdleRow) float64 { return float64(r.Points[0].Resident) / 1e6 }

// EchoIdleTargets are those of the set memory.
func EchoIdleTargets() []IdleTarget {
	return []IdleTarget{
		{callbacks, "memory per idle connection", residentEach, 300, "B"},
		{coroutineStyle, "memory per idle connection", residentEach, 3000, "B"},
	}
}

// RelayIdleTargets are those of the set relay-memory.
func RelayIdleTargets() []IdleTarget {
	return []IdleTarget{
		{relay, "memory per idle connection", residentEach, 500, "B"},
		{relay, "descriptors per idle connection", descriptorsEach, 2, ""},
		{relay, "process without connections", processBase, 6, "MB"},
	}
}

const targetHead = "| work | compared | what | target | measured | |\n|---|---|---|---|---|---|\n"

// TargetTable holds the results of the works, by name, to the targets.
func TargetTable(targets []Target, results map[string][]Row) string {
	var b strings.Builder
	b.WriteString(targetHead)
	for _, t := range targets {
		bound := "≤"
		if t.AtLeast {
			bound = "≥"
		}
		fmt.Fprintf(&b, "| %s | %s / %s | %s | %s %.2f | ", t.Work, t.Subject, t.Base, t.What, bound, t.Bound)
		subject, base := find(results[t.Work], t.Subject), find(results[t.Work], t.Base)
		if subject == nil || base == nil {
			b.WriteString("– | not measured |\n")
			continue
		}
		r := Compare(subject, base, t.Metric)
		fmt.Fprintf(&b, "%s | %s |\n", r, verdict(r.Median, t.Bound, t.AtLeast))
	}
	b.WriteByte('\n')
	return b.String()
}

// IdleTargetTable does so for idle connections.
func IdleTargetTable(targets []IdleTarget, rows []IdleRow) string {
	var b strings.Builder
	b.WriteString("| | what | target | measured | |\n|---|---|---|---|---|\n")
	for _, t := range targets {
		measured, said := "–", "not measured"
		for _, r := range rows {
			if r.Candidate == t.Candidate && r.Err == nil && r.complete() {
				v := t.Value(r)
				measured, said = strings.TrimSpace(figure(v)+" "+t.Unit), verdict(v, t.Bound, false)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | ≤ %s | %s | %s |\n", t.Candidate, t.What,
			strings.TrimSpace(fmt.Sprintf("%g %s", t.Bound, t.Unit)), measured, said)
	}
	b.WriteByte('\n')
	return b.String()
}

func verdict(value, bound float64, atLeast bool) string {
	if atLeast == (value >= bound) || value == bound {
		return "reached"
	}
	return "**missed**"
}
