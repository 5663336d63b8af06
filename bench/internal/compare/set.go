//go:build linux

package compare

// This file holds the sets: what is run together and becomes one section.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Set is run together, by the same candidates.
type Set struct {
	Name, Title string
	Intro       string // for the section: what was done and what to know of it
	Base        string
	Candidates  []Candidate
	Works       []Work   // measured in slots
	Targets     []Target // of Works
	Profile     bool     // Works are not measured but sampled

	Relay       bool
	Points      []int // numbers of idle connections; none where there are Works
	IdleTargets []IdleTarget
}

// Sets are all there are.
func Sets() []Set {
	return []Set{
		{
			Name: "echo", Title: "Echo servers", Base: EchoBase, Candidates: EchoCandidates(), Works: EchoWorks(), Targets: EchoTargets(),
			Intro: "Each server has one thread or loop and one core; where a server is written in Go, GOMAXPROCS is what the runtime" +
				" makes of that (1), except in the works that say otherwise. The load is one thread on the other core." +
				" CPU is the server's.",
		},
		{
			Name: "memory", Title: "Memory of an idle connection", Candidates: EchoCandidates(), Points: EchoIdlePoints,
			IdleTargets: EchoIdleTargets(),
			Intro: "Resident memory of the server's process at 1,000 to 18,000 connections, each of which has passed one message of" +
				" 250 B. Servers under bench/servers that are written in Go collect their garbage first; the command does not." +
				" What the kernel holds for a socket is not counted.",
		},
		{
			Name: "relay", Title: "Relays, TCP to TCP", Base: RelayBase, Candidates: RelayCandidates(), Works: RelayWorks(),
			Targets: RelayTargets(), Relay: true,
			Intro: "The relay has one core. Client and target are one thread of one process on the other core, so what they share is" +
				" the load's core and never the relay's, except in the work with two threads, where the relay may use both." +
				" \"No relay\" is the load connected with itself: what it costs, and the most that a relay can show. CPU is the relay's.",
		},
		{
			Name: "relay-memory", Title: "Memory of an idle relayed connection", Candidates: RelayCandidates(), Points: RelayIdlePoints,
			IdleTargets: RelayIdleTargets(), Relay: true,
			Intro: "Resident memory of the relay's processes, each connection having passed one message of 250 B there and back." +
				" Fewer connections where the descriptors of one process do not suffice (Go io.Copy holds two pipes for each), or" +
				" where each is a process (socat). No garbage is collected on request, except in Go io.Copy.",
		},
		{
			Name: "echo-profile", Title: "Where the processor time of echo servers goes", Profile: true, Intro: profileIntro,
			Works:      chosenOf(EchoWorks(), func(w Work) bool { return w.MaxProcs == 0 }),
			Candidates: named(EchoCandidates(), callbacks, coroutineStyle, EchoBase, "package net", "C epoll", "C io_uring"),
		},
		{
			Name: "relay-profile", Title: "Where the processor time of relays goes", Profile: true, Intro: profileIntro, Relay: true,
			Works:      chosenOf(RelayWorks(), func(w Work) bool { return w.threads() == 1 }),
			Candidates: named(RelayCandidates(), relay, RelayBase, "HAProxy splice-auto", "C splice"),
		},
	}
}

const profileIntro = "Samples of perf(1) by the processor's clock, of the server's processes, under the same load as above. A sample" +
	" belongs to the system call that was at work in it, with whatever TCP did for both directions in the process's name: over" +
	" loopback a send does much of what the receiver is to do. What is in no system call is interrupts, page faults, and the" +
	" way in and out of the kernel. System calls below 1 % are not named."

// chosenOf are the works that fit.
func chosenOf(works []Work, fits func(Work) bool) []Work {
	return slices.DeleteFunc(works, func(w Work) bool { return !fits(w) })
}

// named are the candidates of these names.
func named(all []Candidate, names ...string) []Candidate {
	return slices.DeleteFunc(all, func(c Candidate) bool { return !slices.Contains(names, c.Name) })
}

// CompareWith makes the candidate of that name the base, and measures it twice.
func (s *Set) CompareWith(name string) error {
	if s.Base == "" {
		return fmt.Errorf("in the set %s nothing is compared with a base", s.Name)
	}
	s.Candidates = slices.DeleteFunc(s.Candidates, func(c Candidate) bool { return strings.HasSuffix(c.Name, Again) })
	i := slices.IndexFunc(s.Candidates, func(c Candidate) bool { return c.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no candidate %q in the set %s", name, s.Name)
	}
	s.Base = name
	s.Candidates = append(s.Candidates, again(s.Candidates[i]))
	return nil
}

// Estimate is how long a run takes.
func (s Set) Estimate(p Plan) time.Duration {
	var total time.Duration
	if s.Profile {
		p = Plan{Rounds: 1, Slot: profileCost, Warmup: p.Warmup}
	}
	for _, w := range s.Works {
		total += p.Estimate(w, len(s.Candidates))
	}
	if len(s.Points) > 0 {
		total += time.Duration(len(s.Candidates)) * IdleEstimate(s.Points)
	}
	return total
}

// Run measures the set and returns its section.
func (s Set) Run(ctx context.Context, b *Bench, log io.Writer, p Plan) (string, error) {
	fmt.Fprintf(log, "set %s, about %v\n", s.Name, s.Estimate(p).Round(time.Second))
	for _, c := range s.Candidates { // build first: a compiler at work disturbs
		if c.prepare == nil {
			continue
		}
		if _, err := c.prepare(ctx, b.Tools); err != nil {
			fmt.Fprintf(log, "%s is left out: %v\n", c.Name, err)
		}
	}
	if _, err := b.Tools.c(ctx, "load"); err != nil {
		return "", fmt.Errorf("the load generator: %w", err)
	}
	var tables strings.Builder
	var targets string
	var told Plan
	switch {
	case s.Profile:
		for _, w := range s.Works {
			profiles, err := b.Profile(ctx, log, p, w, s.Candidates)
			if err != nil {
				return "", err
			}
			tables.WriteString(ProfileTable(w, profiles))
		}
	case len(s.Works) > 0:
		told = p
		results := map[string][]Row{}
		for _, w := range s.Works {
			begun := time.Now()
			rows, err := b.Measure(ctx, log, p, w, s.Candidates)
			if err != nil {
				return "", err
			}
			results[w.Name] = rows
			tables.WriteString(Table(w, rows, s.base()))
			fmt.Fprintf(log, "%s: %v\n", w.Name, time.Since(begun).Round(time.Second))
		}
		targets = "### Targets\n\n" + TargetTable(s.Targets, results)
	default:
		rows, err := b.Idle(ctx, log, s.Relay, s.Points, s.Candidates)
		if err != nil {
			return "", err
		}
		tables.WriteString(IdleTable("Idle connections", rows))
		targets = "### Targets\n\n" + IdleTargetTable(s.IdleTargets, rows)
	}
	return fmt.Sprintf("## %s\n\n%s\n\n%s%s%s%s", s.Title, s.Intro, b.Conditions(ctx, time.Now(), told),
		b.Versions(ctx, s.Candidates), targets, tables.String()), nil
}

// base is the base, or the first candidate where the base is not chosen.
func (s Set) base() string {
	for _, c := range s.Candidates {
		if c.Name == s.Base {
			return s.Base
		}
	}
	return s.Candidates[0].Name
}
