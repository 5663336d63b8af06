// This file holds what goes into a diagram.

// Package sequence draws the trace of a session as a sequence diagram: a
// lifeline for each role, a row for each step, an arrow for everything that
// goes from one socket to another, and below it the ending that each
// connection recorded.
//
// It is for sessions of at most a few hundred steps, which is what a person
// can look at.
package sequence

import "github.com/anysock/anysock"

// A Step is one event of the role whose socket it concerns.
type Step struct {
	Role  int // index into Diagram.Roles
	Event anysock.Event
}

// A Diagram is a session to draw.
type Diagram struct {
	// Roles are the names of the lifelines, from left to right. There is room
	// for four; the steps of others are left out.
	Roles []string
	// Steps are in the order in which they were reported. They are drawn in
	// an order that depends on nothing but what the roles did: each role's
	// steps one after the other, what is received after it was sent, and what
	// could as well have happened the other way round in a fixed order.
	Steps []Step
}

// A Style says what the output can show. The zero Style is ASCII without
// colour.
type Style struct {
	Unicode bool // box-drawing characters
	Color   bool // ANSI colours
}

// Width is how many columns a diagram has at most.
const Width = 80

// maxRoles bounds the lifelines.
const maxRoles = 4

// roles are those that there is room for.
func (d *Diagram) roles() []string { return d.Roles[:min(len(d.Roles), maxRoles)] }
