package main

import (
	"sync"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/cmd/anysock/internal/sequence"
)

// This file collects the steps of the demo's sessions, and hands them to the
// drawing.

// A journal keeps the steps of a session, each with whose it was.
type journal struct {
	also  anysock.Trace             // is told too; nil is nobody
	watch func(role, anysock.Event) // looks at each step as it comes

	mu      sync.Mutex
	entries []entry
}

// An entry is one step.
type entry struct {
	role  role
	event anysock.Event
}

// trace is what the sockets of a role report to.
func (j *journal) trace(r role) anysock.Trace {
	return func(ev anysock.Event) {
		j.mu.Lock()
		j.entries = append(j.entries, entry{r, ev})
		j.mu.Unlock()
		if j.also != nil {
			j.also(ev)
		}
		j.watch(r, ev)
	}
}

// steps are the entries so far.
func (j *journal) steps() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]entry(nil), j.entries...)
}

// diagram is the session to draw.
func (s *demoSession) diagram() *sequence.Diagram {
	d := &sequence.Diagram{}
	column := map[role]int{}
	for i, r := range s.roles {
		d.Roles, column[r] = append(d.Roles, string(r)), i
	}
	for _, e := range s.journal.steps() {
		d.Steps = append(d.Steps, sequence.Step{Role: column[e.role], Event: e.event})
	}
	return d
}
