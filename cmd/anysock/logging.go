package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
)

// This file holds the diagnostics on standard error: log/slog, with a handler
// for people, and the JSON handler with --json.

// The levels beside slog's own.
const (
	levelTrace  = slog.LevelDebug - 4 // one socket step; shown with --trace
	levelNotice = slog.LevelInfo + 2  // what is always shown: the bound address
)

// A statement is what a diagnostic says: one line and what belongs to it for
// people, fields for programs.
type statement struct {
	how   anysock.How // the ending that the message names, to be coloured
	lines []string    // further lines, each safe already
	hint  string      // what to try
	attrs []slog.Attr // for programs
}

// LogValue is what programs get.
func (s statement) LogValue() slog.Value { return slog.GroupValue(s.attrs...) }

// say makes a statement an attribute; the JSON handler puts its fields beside
// the message.
func say(s statement) slog.Attr { return slog.Any("", s) }

// newLogger makes the logger for standard error. shown says which levels are.
func newLogger(w io.Writer, asJSON bool, p pen, start time.Time, shown func(slog.Level) bool) *slog.Logger {
	if asJSON {
		h := slog.NewJSONHandler(jsonLines{w}, &slog.HandlerOptions{Level: levelTrace, ReplaceAttr: nameLevel})
		return slog.New(selective{h, shown})
	}
	return slog.New(selective{&peopleHandler{w: w, mu: new(sync.Mutex), pen: p, start: start}, shown})
}

// nameLevel gives our levels their names.
func nameLevel(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 || a.Key != slog.LevelKey {
		return a
	}
	switch a.Value.Any() {
	case levelTrace:
		a.Value = slog.StringValue("TRACE")
	case levelNotice:
		a.Value = slog.StringValue("NOTICE")
	}
	return a
}

// A selective handler lets some levels through; traces have their own switch
// and are not a matter of more or less.
type selective struct {
	slog.Handler
	shown func(slog.Level) bool
}

func (s selective) Enabled(_ context.Context, l slog.Level) bool { return s.shown(l) }

func (s selective) WithAttrs(as []slog.Attr) slog.Handler {
	return selective{s.Handler.WithAttrs(as), s.shown}
}

func (s selective) WithGroup(name string) slog.Handler {
	return selective{s.Handler.WithGroup(name), s.shown}
}

// A peopleHandler writes records as people read them: the message, then
// attributes as key=value, then the lines that explain.
//
//	anysock: connect tcp:127.0.0.1:1: connection refused
//	  try: nothing listens there: is the server started?
//
// Each record is one Write. Whatever is not printable is escaped.
type peopleHandler struct {
	w     io.Writer
	mu    *sync.Mutex // one record at a time
	pen   pen
	start time.Time

	attrs  string // of WithAttrs, formatted
	prefix string // of WithGroup: "group."
}

func (h *peopleHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *peopleHandler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	for _, a := range as {
		n.attrs += formatAttr(h.prefix, a)
	}
	return &n
}

func (h *peopleHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.prefix += name + "."
	return &n
}

func (h *peopleHandler) Handle(_ context.Context, r slog.Record) error {
	text, attrs := printable.Text(r.Message), h.attrs
	var said statement
	r.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Any().(type) {
		case statement:
			said = v
		case anysock.Event:
			text = h.step(v)
		default:
			attrs += formatAttr(h.prefix, a)
		}
		return true
	})
	if said.how != anysock.NotEnded {
		word := ": " + said.how.String()
		text = strings.Replace(text, word, ": "+h.pen.ending(said.how, said.how.String()), 1)
	}

	var b strings.Builder
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString(h.pen.alarm("anysock:") + " " + text)
	case r.Level >= slog.LevelWarn:
		b.WriteString(h.pen.caution("anysock:") + " " + text)
	case r.Level <= slog.LevelDebug:
		b.WriteString(h.pen.faint(text))
	default:
		b.WriteString(text)
	}
	b.WriteString(h.pen.faint(attrs) + "\n")
	for _, line := range said.lines {
		b.WriteString("  " + line + "\n")
	}
	if said.hint != "" {
		b.WriteString("  " + h.pen.advice("try:") + " " + printable.Text(said.hint) + "\n")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

// step is one socket step, with the time since the command began.
func (h *peopleHandler) step(ev anysock.Event) string {
	return fmt.Sprintf("%9.6f %s", ev.Time.Sub(h.start).Seconds(), printable.Text(ev.String()))
}

// formatAttr is " key=value"; groups are spelled out.
func formatAttr(prefix string, a slog.Attr) string {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		var b strings.Builder
		for _, m := range v.Group() {
			b.WriteString(formatAttr(prefix, m))
		}
		return b.String()
	}
	if a.Equal(slog.Attr{}) {
		return ""
	}
	s := printable.Text(v.String())
	if s == "" || strings.ContainsAny(s, " =\"") {
		s = fmt.Sprintf("%q", v.String())
	}
	return " " + printable.Text(prefix+a.Key) + "=" + s
}

// trace is the anysock.Trace of this run, nil if nobody wants one: every step
// with --trace, the steps that move no data with -vv.
func (a *app) trace() anysock.Trace {
	switch {
	case a.traceOn:
		return func(ev anysock.Event) { a.logEvent(levelTrace, ev) }
	case a.verbose >= 2:
		return func(ev anysock.Event) {
			switch ev.Op {
			case anysock.OpRead, anysock.OpWrite, anysock.OpPeek:
				return
			case anysock.OpWait:
				if ev.State != anysock.StateWaiting { // which is between two tries to connect
					return
				}
			}
			a.logEvent(slog.LevelDebug, ev)
		}
	}
	return nil
}

func (a *app) logEvent(level slog.Level, ev anysock.Event) {
	r := slog.NewRecord(ev.Time, level, ev.Op, 0)
	r.AddAttrs(slog.Any("", ev))
	_ = a.log.Handler().Handle(context.Background(), r) // a broken standard error has nobody to tell
}
