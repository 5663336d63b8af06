package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
)

// This file says what went wrong and how connections ended: in lines for
// people, in one JSON object with --json.

// An endError is a connection whose ending is not what was asked for.
type endError struct {
	end    anysock.End
	status int
	what   string // for people, in place of the ending's error
	hint   string
}

func (e *endError) Error() string {
	switch {
	case e.what != "":
		return e.what
	case e.end.Err != nil:
		return errorText(e.end.Err)
	}
	return e.end.How.String()
}

func (e *endError) Unwrap() error   { return e.end.Err }
func (e *endError) exitStatus() int { return e.status }

// A failure is an error with a status of its own.
type failure struct {
	err    error
	status int
	hint   string
}

func (f *failure) Error() string   { return f.err.Error() }
func (f *failure) Unwrap() error   { return f.err }
func (f *failure) exitStatus() int { return f.status }

// report logs err as an error: what failed, at which step, to which address,
// and what to try. Of several that were joined, each.
func (a *app) report(err error) {
	if parts := joinedErrors(err); len(parts) > 0 {
		for _, part := range parts {
			a.report(part)
		}
		return
	}
	text, s := describe(err, a.pen)
	s.attrs = append(s.attrs, slog.Int("status", exitOf(err)))
	if s.hint != "" {
		s.attrs = append(s.attrs, slog.String("hint", s.hint))
	}
	a.log.Error(text, say(s))
}

// joinedErrors takes apart what errors.Join has made, which is to be told in
// several lines; nil for any other error.
func joinedErrors(err error) []error {
	many, ok := err.(interface{ Unwrap() []error }) // err itself: one that is wrapped has a sentence around it
	if !ok {
		return nil
	}
	var texts []string
	parts := many.Unwrap()
	for _, part := range parts {
		texts = append(texts, part.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return nil // made by fmt.Errorf
	}
	return parts
}

// describe finds the words for err.
func describe(err error, p pen) (string, statement) {
	var (
		s     statement
		e     *anysock.Error
		addr  *anysock.AddressError
		end   *endError
		usage *usageError
		fail  *failure
		wait  *anysock.WaitError
	)
	text := errorText(err)
	if errors.As(err, &e) {
		s.hint = e.Hint
		s.attrs = append(s.attrs, slog.String("op", e.Op), slog.String("address", e.Addr), slog.String("kind", e.Kind.String()))
		if len(e.Attempts) > 1 {
			s.lines = attemptLines(e.Attempts)
		}
		if len(e.Attempts) > 0 {
			s.attrs = append(s.attrs, slog.Any("attempts", attemptRecords(e.Attempts)))
		}
	}
	if errors.As(err, &addr) {
		text = "address: " + addr.Msg
		s.hint = addr.Hint
		caret := strings.Split(addr.Caret(), "\n")
		s.lines = caret
		if len(caret) == 2 { // a caret stands alone on its line
			s.lines = []string{caret[0], p.alarm(caret[1])}
		}
		s.attrs = []slog.Attr{
			slog.String("op", "parse"), slog.String("kind", anysock.KindAddress.String()),
			slog.String("address", addr.Input), slog.Int("offset", addr.Offset),
		}
	}
	switch {
	case errors.As(err, &end):
		s.lines = append(s.lines, "ended: "+printable.Text(end.end.String()))
		s.attrs = append(s.attrs, slog.Any("end", newEndRecord(end.end)))
		if end.hint != "" {
			s.hint = end.hint
		}
	case errors.As(err, &usage):
		s.hint = usage.hint
	case errors.As(err, &fail):
		if fail.hint != "" {
			s.hint = fail.hint
		}
	case errors.As(err, &wait):
		text = waitText(wait)
		for _, end := range wait.Ends {
			if end.How.Complete() {
				continue
			}
			s.lines = append(s.lines, printable.Text(fmt.Sprintf("%v: %s", end.Peer, endText(end))))
		}
	}
	return text, s
}

// waitText counts what Wait cannot vouch for; the lines below it say more.
func waitText(w *anysock.WaitError) string {
	var parts []string
	if w.Pending > 0 {
		parts = append(parts, count(w.Pending, "connection")+" still closing")
	}
	if w.Incomplete > 0 {
		parts = append(parts, count(w.Incomplete, "connection")+" ended without delivering everything")
	}
	if w.More > 0 {
		parts = append(parts, fmt.Sprintf("%d more not graceful", w.More))
	}
	return "at exit: " + strings.Join(parts, ", ")
}

// errorText is err as one line, without what is said elsewhere: the attempts,
// the name of the file behind standard input or output.
func errorText(err error) string {
	var e *anysock.Error
	if errors.As(err, &e) && err.Error() == e.Error() && len(e.Attempts) > 1 {
		return fmt.Sprintf("%s %s: all %d attempts failed", e.Op, e.Addr, len(e.Attempts))
	}
	return err.Error()
}

// cause is what is behind the error of a file, whose name says nothing here.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// attemptLines lists attempts, one a line.
func attemptLines(as []anysock.Attempt) []string {
	var lines []string
	retried := as[len(as)-1].Round > 1
	for _, at := range as {
		line := fmt.Sprintf("%s: %v after %s", at.Addr, at.Err, at.Duration.Round(100*time.Microsecond))
		if retried {
			line = fmt.Sprintf("try %d, at %s: ", at.Round, at.Started.Round(time.Millisecond)) + line
		}
		lines = append(lines, printable.Text(line))
	}
	return lines
}

// An attemptRecord is an attempt for programs.
type attemptRecord struct {
	Round   int     `json:"round"`
	Address string  `json:"address"`
	Started float64 `json:"started_seconds"`
	Took    float64 `json:"took_seconds"`
	Error   string  `json:"error"`
}

func attemptRecords(as []anysock.Attempt) []attemptRecord {
	var rs []attemptRecord
	for _, at := range as {
		rs = append(rs, attemptRecord{at.Round, at.Addr, at.Started.Seconds(), at.Duration.Seconds(), fmt.Sprint(at.Err)})
	}
	return rs
}

// An endRecord is an ending for programs.
type endRecord struct {
	Network string `json:"network,omitempty"`
	Local   string `json:"local,omitempty"`
	Peer    string `json:"peer,omitempty"`
	anysock.End
	Seconds float64 `json:"seconds"`
	Kind    string  `json:"kind,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func newEndRecord(e anysock.End) endRecord {
	r := endRecord{End: e}
	if e.Local != nil {
		r.Network, r.Local = e.Local.Network(), e.Local.String()
	}
	if e.Peer != nil {
		r.Peer = e.Peer.String()
	}
	if !e.Ended.IsZero() {
		r.Seconds = e.Ended.Sub(e.Opened).Seconds()
	}
	if e.Err != nil {
		r.Error = e.Err.Error()
		var ae *anysock.Error
		if errors.As(e.Err, &ae) {
			r.Kind = ae.Kind.String()
		}
	}
	return r
}

// endText is an ending for people; one that has not come is told as far as it
// is known.
func endText(e anysock.End) string {
	if e.How == anysock.NotEnded {
		return fmt.Sprintf("still closing: %d sent, %d of them unacknowledged, %d received", e.Sent, e.Unacked, e.Received)
	}
	return e.String()
}

// peerName is who was at the other end: a name of its own, or for an unnamed
// Unix client the name it connected to.
func peerName(e anysock.End) string {
	if e.Peer != nil && e.Peer.String() != "" && e.Peer.String() != "@" {
		return e.Peer.Network() + ":" + e.Peer.String()
	}
	if e.Local != nil {
		return e.Local.Network() + ":" + e.Local.String()
	}
	return "?"
}

// record tells of something that happened: to programs one JSON object, whose
// first fields are the time and the event's name, on the stream of records; to
// people the text, at a level.
func (a *app) record(level slog.Level, event, text string, how anysock.How, fields any) {
	if !a.json {
		a.log.Log(a.ctx, level, text, say(statement{how: how}))
		return
	}
	line, err := recordLine(time.Now(), event, fields)
	if err != nil {
		a.log.Error("record: " + err.Error())
		return
	}
	a.recordsMu.Lock()
	defer a.recordsMu.Unlock()
	if _, err := (jsonLines{a.records}).Write(line); err != nil && a.onRecordsBroken != nil {
		a.onRecordsBroken()
	}
}

// recordLine puts time and event before the fields of a JSON object.
func recordLine(now time.Time, event string, fields any) ([]byte, error) {
	head, err := json.Marshal(struct {
		Time  time.Time `json:"time"`
		Event string    `json:"event"`
	}{now, event})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	line := head
	if len(body) > len("{}") && body[0] == '{' {
		line = append(append(head[:len(head)-1], ','), body[1:]...)
	}
	return append(line, '\n'), nil
}
