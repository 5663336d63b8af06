package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/cmd/anysock/internal/sequence"
	"github.com/anysock/anysock/internal/printable"
)

// This file holds 'anysock demo': the verb, and what it writes.

// newDemoCommand is the verb.
func newDemoCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo [OPTIONS]",
		GroupID: groupLearn,
		Short:   "See what a connection goes through: three real sessions as diagrams",
		Long: `Make three real connections on this machine, draw each as a sequence diagram of
socket calls, and check that each went as promised: a client and a server, the
same through a relay, and one that the server aborts in the middle. Ports are
chosen by the system. It takes a fraction of a second.

The exit status is 1 if anything is not as promised; the step that failed is
marked in the diagram.`,
		Example: `  anysock demo
  anysock demo --json | jq -r 'select(.event == "step") | [.role, .op] | @tsv'`,
		Args:              arguments(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := demo{app: a, style: demoStyle(a)}
			return d.run(cmd.Context())
		},
	}
	a.outputOptions(cmd)
	return cmd
}

// demoStyle is what standard output can show.
func demoStyle(a *app) sequence.Style {
	return sequence.Style{Unicode: speaksUTF8(a.env), Color: newPen(a.stdout.w, a.env).on}
}

// speaksUTF8 reports whether the locale's character set is UTF-8 (POSIX.1-2024
// XBD 8.2: the first of the three variables that is set counts). macOS, which
// knows no other, often sets none.
func speaksUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(env(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return runtime.GOOS == "darwin"
}

// A demo is one run of all scenarios.
type demo struct {
	app    *app
	style  sequence.Style
	kept   int
	broken []brokenPromise
}

// A brokenPromise is one that was not kept, and in which session.
type brokenPromise struct {
	session string
	promise
}

// run goes through the scenarios and shows each as soon as it is over. The
// error says which promises were not kept.
func (d *demo) run(ctx context.Context) error {
	d.say("Each line is one call on a real socket, from top to bottom; an arrow is what went to the other side.\n")
	for i, sc := range scenarios {
		s := &demoSession{scenario: sc, spawn: d.app.spawn}
		s.journal.also = d.app.trace()
		s.run(ctx)
		ps := s.promises()
		if err := d.show(i+1, s, ps); err != nil {
			return err
		}
		for _, p := range ps {
			if p.broken == nil {
				d.kept++
			} else {
				d.broken = append(d.broken, brokenPromise{s.name, p})
			}
		}
	}
	if len(d.broken) > 0 {
		return d.failure()
	}
	d.say(fmt.Sprintf("\nAll %d promises were kept.\n", d.kept))
	return d.app.stdout.broken()
}

// say prints for people.
func (d *demo) say(text string) {
	if !d.app.json {
		_, _ = io.WriteString(d.app.stdout, strings.Join(fold(text, sequence.Width), "\n")) // it remembers its failure
	}
}

// failure names the first promise that was not kept; all are in the output.
func (d *demo) failure() error {
	b := d.broken[0]
	err := fmt.Errorf("demo: not as promised: %s (session %q): %w", b.text, b.session, b.broken)
	if n := len(d.broken) - 1; n > 0 {
		err = fmt.Errorf("%w; and %d more", err, n)
	}
	f := &failure{err: err, status: exitSetup}
	var e *anysock.Error
	if !errors.As(err, &e) || e.Hint == "" {
		f.hint = "'anysock demo --trace' shows every step with its times"
	}
	return f
}

// show writes a session that is over.
func (d *demo) show(number int, s *demoSession, ps []promise) error {
	var b bytes.Buffer
	var err error
	if d.app.json {
		err = writeRecords(&b, s, ps)
	} else {
		err = d.draw(&b, number, s, ps)
	}
	if err == nil {
		_, err = d.app.stdout.Write(b.Bytes())
	}
	if broken := d.app.stdout.broken(); broken != nil {
		return &outputError{broken}
	}
	return err
}

// draw is a session for people: the title, the diagram, what was promised.
func (d *demo) draw(b *bytes.Buffer, number int, s *demoSession, ps []promise) error {
	p := pen{on: d.style.Color}
	b.WriteByte('\n')
	title := fold(fmt.Sprintf("%d. %s", number, s.title), sequence.Width)
	for _, line := range append(title, s.notes...) {
		b.WriteString(p.paint("1", line) + "\n")
	}
	b.WriteByte('\n')
	if err := s.diagram().Draw(b, d.style); err != nil {
		return err
	}
	b.WriteByte('\n')
	right, wrong := d.style.Marks()
	for _, pr := range ps {
		if pr.broken == nil {
			fmt.Fprintf(b, "  %s %s\n", p.paint("32", right), pr.text)
			continue
		}
		fmt.Fprintf(b, "  %s %s\n", p.alarm(wrong), p.alarm("not so: "+pr.text))
		for _, line := range fold(printable.Text(strings.ReplaceAll(pr.broken.Error(), "\n", "; ")), sequence.Width-6) {
			fmt.Fprintf(b, "      %s\n", line)
		}
	}
	return nil
}

// fold breaks text between words into lines of at most width columns; a longer
// word has a line of its own. A final newline is kept.
func fold(text string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			switch {
			case line == "":
				line = word
			case len([]rune(line))+1+len([]rune(word)) <= width:
				line += " " + word
			default:
				lines, line = append(lines, line), word
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// A stepRecord is a step for programs.
type stepRecord struct {
	Session string  `json:"session"`
	Role    role    `json:"role"`
	Op      string  `json:"op"`
	Socket  uint64  `json:"socket"`
	Network string  `json:"network"`
	Local   string  `json:"local,omitempty"`
	Peer    string  `json:"peer,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	Bytes   int64   `json:"bytes"`
	State   string  `json:"state"`
	Took    float64 `json:"took_seconds"`
	Error   string  `json:"error,omitempty"`
}

// A sessionEnd is an ending for programs.
type sessionEnd struct {
	Session string `json:"session"`
	Role    role   `json:"role"`
	Socket  uint64 `json:"socket"`
	endRecord
}

// A noteRecord is a remark for programs.
type noteRecord struct {
	Session string `json:"session"`
	Note    string `json:"note"`
}

// A promiseRecord is a promise for programs.
type promiseRecord struct {
	Session string `json:"session"`
	Promise string `json:"promise"`
	Kept    bool   `json:"kept"`
	Error   string `json:"error,omitempty"`
}

// writeRecords is a session for programs: steps and endings as they were
// reported, then the promises.
func writeRecords(b *bytes.Buffer, s *demoSession, ps []promise) error {
	w := jsonLines{b}
	write := func(at time.Time, event string, fields any) error {
		line, err := recordLine(at, event, fields)
		if err != nil {
			return err
		}
		_, err = w.Write(line)
		return err
	}
	for _, note := range s.notes {
		if err := write(time.Now(), "note", noteRecord{s.name, note}); err != nil {
			return err
		}
	}
	for _, e := range s.journal.steps() {
		ev := e.event
		var err error
		if ev.Op == anysock.OpEnd && ev.End != nil {
			err = write(ev.Time, "end", sessionEnd{s.name, e.role, ev.Socket, newEndRecord(*ev.End)})
		} else {
			err = write(ev.Time, "step", stepRecord{
				s.name, e.role, ev.Op, ev.Socket, ev.Network, ev.Local, ev.Peer, ev.Detail,
				ev.Bytes, ev.State.String(), ev.Duration.Seconds(), errorOf(ev.Err),
			})
		}
		if err != nil {
			return err
		}
	}
	for _, p := range ps {
		if err := write(time.Now(), "promise", promiseRecord{s.name, p.text, p.broken == nil, errorOf(p.broken)}); err != nil {
			return err
		}
	}
	return nil
}

// errorOf is an error's text, empty for none.
func errorOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
