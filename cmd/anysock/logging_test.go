package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// logInto makes a logger for people that shows everything.
func logInto(b *bytes.Buffer, colour bool) *slog.Logger {
	return newLogger(b, false, pen{on: colour}, time.Unix(100, 0), func(slog.Level) bool { return true })
}

func TestPeopleHandler(t *testing.T) {
	t.Parallel()
	hint := say(statement{lines: []string{"one", "two"}, hint: "this"})
	for want, write := range map[string]func(*slog.Logger){
		"anysock: broken\n  one\n  two\n  try: this\n": func(l *slog.Logger) { l.Error("broken", hint) },
		"anysock: careful n=1\n":                       func(l *slog.Logger) { l.Warn("careful", "n", 1) },
		"just so\n":                                    func(l *slog.Logger) { l.Info("just so") },
		"debug a=\"b c\" g.x=1\n":                      func(l *slog.Logger) { l.Debug("debug", "a", "b c", slog.Group("g", "x", 1)) },
		"with k=v p.q=\"\"\n":                          func(l *slog.Logger) { l.With("k", "v").WithGroup("p").Info("with", "q", "") },
		"escaped\\n\\x1b[31m k=\\x1b\\n\n":             func(l *slog.Logger) { l.Info("escaped\n\x1b[31m", "k", "\x1b\n") },
		"peer: graceful: 1 sent\n":                     func(l *slog.Logger) { l.Info("peer: graceful: 1 sent", say(statement{how: anysock.Graceful})) },
		" 1.500000 #7 tcp connect a -> b (2ms)\n": func(l *slog.Logger) {
			ev := anysock.Event{Time: time.Unix(101, 5e8), Op: "connect", Socket: 7, Network: "tcp", Local: "a", Peer: "b", Duration: 2 * time.Millisecond}
			l.Log(context.Background(), levelTrace, "connect", slog.Any("", ev))
		},
	} {
		var b bytes.Buffer
		write(logInto(&b, false))
		if b.String() != want {
			t.Errorf("got  %q\nwant %q", b.String(), want)
		}
	}
}

func TestPeopleHandlerColours(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := logInto(&b, true)
	l.Error("broken", say(statement{hint: "this"}))
	l.Info("peer: lost: 1 sent", say(statement{how: anysock.Lost}))
	want := "\x1b[1;31manysock:\x1b[0m broken\n  \x1b[36mtry:\x1b[0m this\npeer: \x1b[1;31mlost\x1b[0m: 1 sent\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
	b.Reset()
	// What comes from outside does not choose colours.
	l.Error("name \x1b[32mgreen\x1b[0m")
	if want := "\x1b[1;31manysock:\x1b[0m name \\x1b[32mgreen\\x1b[0m\n"; b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	all := []slog.Level{levelTrace, slog.LevelDebug, slog.LevelInfo, levelNotice, slog.LevelWarn, slog.LevelError}
	for _, test := range []struct {
		verbose int
		trace   bool
		want    string
	}{
		{0, false, "INFO+2 WARN ERROR"},
		{1, false, "INFO INFO+2 WARN ERROR"},
		{2, false, "DEBUG INFO INFO+2 WARN ERROR"},
		{0, true, "DEBUG-4 INFO+2 WARN ERROR"},
	} {
		a := newApp(t.Context(), nil, nil, nil, nil, nil)
		a.verbose, a.traceOn = test.verbose, test.trace
		var shown []string
		for _, l := range all {
			if a.log.Enabled(t.Context(), l) {
				shown = append(shown, l.String())
			}
		}
		if got := strings.Join(shown, " "); got != test.want {
			t.Errorf("-v %d, --trace %v: %s, want %s", test.verbose, test.trace, got, test.want)
		}
	}
}

// reported is what people and programs are told of err.
func reported(t *testing.T, err error) (text string, object map[string]any) {
	t.Helper()
	var people, programs bytes.Buffer
	newApp(t.Context(), nil, nil, nil, &people, nil).report(err)
	newApp(t.Context(), []string{"--json"}, nil, nil, &programs, nil).report(err)
	dec := json.NewDecoder(&programs)
	if err := dec.Decode(&object); err != nil {
		t.Fatalf("%v in %q", err, programs.String())
	}
	if dec.More() && joinedErrors(err) == nil {
		t.Errorf("more than one object: %q", programs.String())
	}
	return people.String(), object
}

func TestReport(t *testing.T) {
	t.Parallel()
	refused := &anysock.Error{
		Op: anysock.OpConnect, Addr: "tcp:h:1", Kind: anysock.KindRefused, Err: syscall.ECONNREFUSED, Hint: "start it",
		Attempts: []anysock.Attempt{
			{Round: 1, Addr: "[::1]:1", Duration: 250 * time.Microsecond, Err: syscall.ECONNREFUSED},
			{Round: 1, Addr: "127.0.0.1:1", Started: time.Millisecond, Duration: time.Millisecond, Err: errors.New("no\x1b[31m")},
		},
	}
	end := anysock.End{
		How: anysock.AbortedByPeer, By: anysock.Peer, Sent: 1, Received: 2,
		Opened: time.Unix(1, 0), Ended: time.Unix(2, 0), Peer: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5},
		Err: &anysock.Error{Op: anysock.OpRead, Addr: "tcp:127.0.0.1:5", Kind: anysock.KindReset, Err: syscall.ECONNRESET},
	}
	_, badAddress := anysock.ParseAddress("tcp:h\x1b:1")
	for _, test := range []struct {
		name string
		err  error
		text string
		want map[string]any
	}{
		{
			"attempts", refused,
			"anysock: connect tcp:h:1: all 2 attempts failed\n" +
				"  [::1]:1: connection refused after 300µs\n" +
				"  127.0.0.1:1: no\\x1b[31m after 1ms\n" +
				"  try: start it\n",
			map[string]any{"op": "connect", "address": "tcp:h:1", "kind": "refused", "status": 4., "hint": "start it"},
		}, {
			"an ending", &endError{end: end, status: exitAborted, hint: "ask the peer"},
			"anysock: read tcp:127.0.0.1:5: connection reset by peer\n" +
				"  ended: aborted by peer: 1 sent, 2 received, ended by peer, 1s\n" +
				"  try: ask the peer\n",
			map[string]any{"op": "read", "kind": "reset", "status": 7., "hint": "ask the peer"},
		}, {
			"an address", badAddress,
			"anysock: address: a control character\n  tcp:h\\x1b:1\n       ^\n  try: remove it\n",
			map[string]any{"op": "parse", "kind": "address", "status": 2., "offset": 5.},
		}, {
			"usage", &usageError{msg: "no", hint: "yes"},
			"anysock: no\n  try: yes\n",
			map[string]any{"msg": "no", "status": 2., "hint": "yes"},
		}, {
			"connections that were not graceful at exit",
			&anysock.WaitError{Pending: 1, Incomplete: 1, Ends: []anysock.End{end, {Sent: 5, Unacked: 3, Peer: end.Peer}, {How: anysock.Graceful}}},
			"anysock: at exit: 1 connection still closing, 1 connection ended without delivering everything\n" +
				"  127.0.0.1:5: aborted by peer: 1 sent, 2 received, ended by peer, 1s\n" +
				"  127.0.0.1:5: still closing: 5 sent, 3 of them unacknowledged, 0 received\n",
			map[string]any{"status": 8.},
		}, {
			"two at once", errors.Join(&usageError{msg: "one"}, &usageError{msg: "two"}),
			"anysock: one\nanysock: two\n",
			map[string]any{"msg": "one", "status": 2.},
		},
	} {
		text, object := reported(t, test.err)
		if text != test.text {
			t.Errorf("%s:\ngot  %q\nwant %q", test.name, text, test.text)
		}
		if object["level"] != "ERROR" {
			t.Errorf("%s: no error in %v", test.name, object)
		}
		for k, v := range test.want {
			if object[k] != v {
				t.Errorf("%s: %s is %v, want %v", test.name, k, object[k], v)
			}
		}
	}
	_, object := reported(t, refused)
	attempts, _ := object["attempts"].([]any)
	if len(attempts) != 2 {
		t.Fatalf("attempts: %v", object["attempts"])
	}
	if first := attempts[0].(map[string]any); first["address"] != "[::1]:1" || first["error"] != "connection refused" || first["round"] != 1. {
		t.Errorf("the first attempt is %v", first)
	}
	_, object = reported(t, &endError{end: end, status: exitAborted})
	if rec, _ := object["end"].(map[string]any); rec["how"] != "aborted by peer" || rec["peer"] != "127.0.0.1:5" || rec["seconds"] != 1. || rec["kind"] != "reset" {
		t.Errorf("the ending is %v", object["end"])
	}
}

func TestRecordLine(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0).UTC()
	for want, fields := range map[string]any{
		`{"time":"1970-01-01T00:00:00Z","event":"x","a":1}` + "\n": map[string]int{"a": 1},
		`{"time":"1970-01-01T00:00:00Z","event":"x"}` + "\n":       struct{}{},
	} {
		line, err := recordLine(now, "x", fields)
		if err != nil || string(line) != want {
			t.Errorf("%s, %v; want %s", line, err, want)
		}
	}
	if _, err := recordLine(now, "x", func() {}); err == nil {
		t.Error("a function is no record")
	}
}
