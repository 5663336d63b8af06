package main

import (
	"os"

	"golang.org/x/term"

	"github.com/anysock/anysock"
)

// This file decides on colours: on a terminal only, and never with NO_COLOR
// (no-color.org) or TERM=dumb.

// A pen colours text, or leaves it as it is.
type pen struct{ on bool }

// newPen is the pen for a stream.
func newPen(stream any, env func(string) string) pen {
	return pen{on: isTerminal(stream) && env("NO_COLOR") == "" && env("TERM") != "dumb"}
}

func (p pen) paint(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p pen) alarm(s string) string   { return p.paint("1;31", s) } // an error
func (p pen) caution(s string) string { return p.paint("33", s) }   // a warning
func (p pen) advice(s string) string  { return p.paint("36", s) }   // what to try
func (p pen) faint(s string) string   { return p.paint("2", s) }    // detail

// ending colours the word for how a connection ended.
func (p pen) ending(how anysock.How, s string) string {
	switch exitOfHow(how) {
	case exitOK:
		return p.paint("32", s)
	case exitRefused:
		return p.caution(s)
	}
	return p.alarm(s)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	rc, err := f.SyscallConn() // File.Fd would make a pipe's reads uninterruptible
	if err != nil {
		return false
	}
	is := false
	return rc.Control(func(fd uintptr) { is = term.IsTerminal(int(fd)) }) == nil && is
}
