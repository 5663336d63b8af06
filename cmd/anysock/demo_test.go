package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/cmd/anysock/internal/sequence"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/relay"
)

var updateDemo = flag.Bool("update-demo", false, "write the demo's golden files")

var utf8Locale = []string{"LC_ALL=", "LANG=C.UTF-8"}

// runDemo is the command as a user runs it.
func runDemo(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	noneLeft(t)
	var out, errs bytes.Buffer
	began := time.Now()
	status = run(t.Context(), append([]string{"demo"}, args...), strings.NewReader(""), &out, &errs, env)
	if took := time.Since(began); took > demoBound {
		t.Errorf("it took %s", took)
	}
	for _, s := range []string{out.String(), errs.String()} {
		if strings.Contains(s, "goroutine ") || strings.Contains(s, ".go:") {
			t.Errorf("a stack trace:\n%s", s)
		}
	}
	return status, out.String(), errs.String()
}

// noneLeft checks that the test leaves no goroutine behind.
func noneLeft(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := goleak.Find(before); err != nil {
			t.Errorf("goroutines left behind: %v", err)
		}
	})
}

func TestDemoKeepsItsPromises(t *testing.T) {
	status, out, errs := runDemo(t, utf8Locale)
	if status != exitOK || errs != "" {
		t.Errorf("status %d, on standard error:\n%s", status, errs)
	}
	if strings.Contains(out, "✗") || !strings.Contains(out, "promises were kept.\n") {
		t.Errorf("not all promises were kept:\n%s", out)
	}
	for i, sc := range scenarios {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), fmt.Sprintf("%d. %s", i+1, sc.title)) {
			t.Errorf("session %d has no title", i+1)
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if w := utf8.RuneCountInString(line); w > 80 {
			t.Errorf("%d columns: %s", w, line)
		}
	}
}

func TestDemoWithoutUTF8IsASCII(t *testing.T) {
	status, out, _ := runDemo(t, []string{"LC_ALL=C", "LANG=en_US.UTF-8"})
	if status != exitOK {
		t.Errorf("status %d", status)
	}
	for _, r := range out {
		if r > 126 || r < 32 && r != '\n' {
			t.Fatalf("%q is not ASCII:\n%s", r, out)
		}
	}
}

func TestSpeaksUTF8(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want bool
	}{
		{[]string{"LANG=C.UTF-8"}, true},
		{[]string{"LANG=en_US.utf8"}, true},
		{[]string{"LANG=en_US.UTF-8", "LC_ALL=C"}, false},
		{[]string{"LANG=C", "LC_CTYPE=de_DE.UTF-8"}, true},
		{[]string{"LANG=de_DE.ISO-8859-1"}, false},
	} {
		if got := speaksUTF8(lookupIn(c.env)); got != c.want {
			t.Errorf("%q: %v", c.env, got)
		}
	}
}

func TestDemoTrace(t *testing.T) {
	status, _, errs := runDemo(t, utf8Locale, "--trace")
	if status != exitOK {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{"setsockopt SO_REUSEADDR=1", "listen backlog=10", "wait readable, at most ", "abort"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in the trace:\n%s", want, errs)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	status, out, errs := runDemo(t, nil, "--json")
	if status != exitOK || errs != "" {
		t.Errorf("status %d: %s", status, errs)
	}
	count := map[string]int{}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for _, line := range lines {
		var rec struct {
			Time    time.Time
			Event   string
			Session string
			Role    role
			Op      string
			How     string
			Promise string
			Kept    bool
		}
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case rec.Time.IsZero() || rec.Session == "":
			t.Errorf("incomplete: %s", line)
		case rec.Event == "step" && (rec.Op == "" || rec.Role == ""):
			t.Errorf("incomplete step: %s", line)
		case rec.Event == "end" && (rec.How == "" || rec.Role == ""):
			t.Errorf("incomplete end: %s", line)
		case rec.Event == "promise" && (rec.Promise == "" || !rec.Kept):
			t.Errorf("a promise was not kept: %s", line)
		}
		count[rec.Event]++
	}
	if count["step"] < 50 || count["end"] != 10 || count["promise"] != 17 {
		t.Errorf("records: %v", count)
	}
}

func TestDemoBrokenOutput(t *testing.T) {
	noneLeft(t)
	var errs bytes.Buffer
	if status := run(t.Context(), []string{"demo"}, nil, brokenWriter{}, &errs, utf8Locale); status != exitOutput {
		t.Errorf("status %d: %s", status, errs.String())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestDemoCalledOff(t *testing.T) {
	noneLeft(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if status := run(ctx, []string{"demo"}, nil, &out, &errs, utf8Locale); status != exitSetup {
		t.Errorf("status %d: %s", status, errs.String())
	}
}

// TestDemoFailures makes one system call fail and wants to see where.
func TestDemoFailures(t *testing.T) {
	for _, c := range []struct {
		name  string
		call  sys.Call
		first int // the occurrence from which on it fails, counted from 1
		err   syscall.Errno
		step  string // marked in the diagram
		says  error  // the reason beside it
	}{
		{"socket", sys.CallSocket, 1, syscall.EMFILE, "socket tcp:", syscall.EMFILE},
		{"option", sys.CallSetsockopt, 2, syscall.EPERM, "setsockopt SO_REUSEADDR=1:", syscall.EPERM},
		{"bind", sys.CallBind, 1, syscall.EADDRINUSE, "bind [::]:0:", syscall.EADDRINUSE},
		{"listen", sys.CallListen, 1, syscall.EADDRINUSE, "listen backlog 10:", syscall.EADDRINUSE},
		{"accept", sys.CallAccept, 1, syscall.EMFILE, "accept:", syscall.EMFILE},
		{"accept-broken", sys.CallAccept, 1, syscall.EINVAL, "accept:", syscall.EINVAL},
		{"connect", sys.CallConnect, 1, syscall.ECONNREFUSED, "connect", syscall.ECONNREFUSED},
		{"connect-late", sys.CallConnectError, 1, syscall.ETIMEDOUT, "connect", syscall.ETIMEDOUT},
		{"send", sys.CallSend, 1, syscall.ENOBUFS, "write:", syscall.ENOBUFS},
		{"send-back", sys.CallSend, 2, syscall.ECONNRESET, "write:", syscall.ECONNRESET},
		{"recv", sys.CallRecv, 1, syscall.ECONNRESET, "read:", syscall.ECONNRESET},
		{"recv-end", sys.CallRecv, 4, syscall.EIO, "", syscall.EIO},
		{"shutdown", sys.CallShutdown, 1, syscall.ENOTCONN, "shutdown:", syscall.ECONNRESET},
		{"poll", sys.CallPoll, 1, syscall.EMFILE, "wait readable, at most 30s:", syscall.EMFILE},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			n := 0
			restore := sys.Inject(func(call sys.Call, _ int) error {
				mu.Lock()
				defer mu.Unlock()
				if call != c.call {
					return nil
				}
				if n++; n < c.first {
					return nil
				}
				return c.err
			})
			defer restore()
			status, out, errs := runDemo(t, utf8Locale)
			if n < c.first {
				t.Skipf("%s is called %d times only here", c.call, n)
			}
			if status != exitSetup {
				t.Errorf("status %d", status)
			}
			if !strings.Contains(errs, "demo: not as promised: every call succeeded") {
				t.Errorf("standard error does not name the promise: %s", errs)
			}
			if !strings.Contains(out, "✗ not so: every call succeeded") {
				t.Error("the promise is not marked")
			}
			first, _, _ := strings.Cut(out, "\n2. ")
			text := strings.Join(strings.Fields(strings.ReplaceAll(first, "│", "")), " ")
			if !strings.Contains(text, "✗ "+c.step) || !strings.Contains(text, c.says.Error()) {
				t.Errorf("the step is not marked with %q and %q", "✗ "+c.step, c.says.Error())
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// TestDemoFailureInRelay: only the relay's call fails.
func TestDemoFailureInRelay(t *testing.T) {
	noneLeft(t)
	s := newDemoSession("relay")
	restore := failAfter(s, []sys.Call{sys.CallSend}, syscall.ENOBUFS, func(r role, ev anysock.Event) bool {
		return r == relayRole && ev.Op == anysock.OpRead
	})
	defer restore()
	s.run(t.Context())
	p := brokenPromises(s)
	if _, ok := p["every call succeeded"]; !ok {
		t.Errorf("broken: %v", p)
	}
	picture := pictureOf(t, s)
	if !regexp.MustCompile(`✗ write:.*│`).MatchString(picture) {
		t.Errorf("the relay's write is not marked:\n%s", picture)
	}
}

// TestDemoUnheardAbort: the server's abort reaches nobody, because the socket
// cannot be told to reset. The client sees an end of file, and the demo must
// not let that pass.
func TestDemoUnheardAbort(t *testing.T) {
	noneLeft(t)
	s := newDemoSession("abort")
	restore := failAfter(s, []sys.Call{sys.CallSetsockopt, sys.CallReset}, syscall.EPERM, func(r role, ev anysock.Event) bool {
		return r == clientRole && ev.Op == anysock.OpRead && ev.Bytes == demoHalf
	})
	defer restore()
	s.run(t.Context())
	p := brokenPromises(s)
	if err := p["its next read said that the connection was reset: no end of file"]; err == nil || !strings.Contains(err.Error(), "end of file") {
		t.Errorf("broken: %v\n%s", p, pictureOf(t, s))
	}
}

// failAfter makes calls fail from the step on that match finds.
func failAfter(s *demoSession, calls []sys.Call, errno syscall.Errno, match func(role, anysock.Event) bool) (restore func()) {
	var mu sync.Mutex
	failing := false
	s.journal.also = func(anysock.Event) {
		// The entry is in the journal already, with its role.
		entries := s.journal.steps()
		e := entries[len(entries)-1]
		mu.Lock()
		defer mu.Unlock()
		failing = failing || match(e.role, e.event)
	}
	return sys.Inject(func(c sys.Call, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		if failing && slices.Contains(calls, c) {
			return errno
		}
		return nil
	})
}

func newDemoSession(name string) *demoSession {
	for _, sc := range scenarios {
		if sc.name == name {
			return &demoSession{scenario: sc, spawn: func(f func()) { go f() }}
		}
	}
	panic("no scenario " + name)
}

func brokenPromises(s *demoSession) map[string]error {
	broken := map[string]error{}
	for _, p := range s.promises() {
		if p.broken != nil {
			broken[p.text] = p.broken
		}
	}
	return broken
}

func pictureOf(t *testing.T, s *demoSession) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.diagram().Draw(&b, sequence.Style{Unicode: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestDemoWithoutIPv6: the servers say that they listen on IPv4 alone.
func TestDemoWithoutIPv6(t *testing.T) {
	// Each listener binds to [::] first.
	var binds atomic.Int64
	restore := sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallBind && binds.Add(1)%2 == 1 {
			return syscall.EADDRNOTAVAIL
		}
		return nil
	})
	defer restore()
	status, out, errs := runDemo(t, utf8Locale)
	if status != exitOK {
		t.Errorf("status %d: %s", status, errs)
	}
	if n := strings.Count(out, "There is no IPv6 here: the server listens on IPv4 alone.\n"); n != len(scenarios) {
		t.Errorf("it is said %d times:\n%s", n, out)
	}
	if !strings.Contains(out, "✗ bind [::]:0:") || !strings.Contains(out, "bind 0.0.0.0:") {
		t.Errorf("the two attempts are not shown:\n%s", out)
	}
}

// TestDemoPicture: the drawing of a session is the same each time, but for
// ports and times.
func TestDemoPicture(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("no IPv6: %v", err)
	} else {
		ln.Close()
	}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			noneLeft(t)
			for range 30 {
				s := newDemoSession(sc.name)
				s.run(t.Context())
				if p := brokenPromises(s); len(p) > 0 {
					t.Fatalf("broken: %v\n%s", p, pictureOf(t, s))
				}
				normalise(s)
				got := pictureOf(t, s)
				file := filepath.Join("testdata", "demo-"+sc.name+".golden")
				if *updateDemo {
					if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Fatalf("%s: got\n%s\nwant\n%s", file, got, want)
				}
			}
		})
	}
}

// normalise replaces what changes from run to run, and from machine to
// machine: ports, the loopback address that localhost is, how long it took.
func normalise(s *demoSession) {
	ports := map[string]string{}
	fix := func(addr string) string {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port == "0" {
			return addr
		}
		if ports[port] == "" {
			ports[port] = fmt.Sprint(40001 + len(ports))
		}
		if host == "::1" {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, ports[port])
	}
	// The order in which the ports are met must not depend on the run.
	for _, r := range []role{serverRole, relayRole, clientRole} {
		for i := range s.journal.entries {
			e := &s.journal.entries[i]
			if e.role != r {
				continue
			}
			ev := &e.event
			ev.Local, ev.Peer = fix(ev.Local), fix(ev.Peer)
			if ev.Op == anysock.OpResolve {
				ev.Detail = "127.0.0.1"
			}
			if ev.End != nil {
				end := *ev.End
				end.Ended = end.Opened.Add(time.Millisecond)
				ev.End = &end
			}
		}
	}
}

// TestDemoNoticesBrokenPromises: each promise is broken in turn, and no other
// one than that is reported.
func TestDemoNoticesBrokenPromises(t *testing.T) {
	noneLeft(t)
	good := map[string]*demoSession{}
	for _, sc := range scenarios {
		good[sc.name] = newDemoSession(sc.name)
		good[sc.name].run(t.Context())
	}
	lastOf := func(s *demoSession, op string) *entry {
		for i := len(s.journal.entries) - 1; i >= 0; i-- {
			if s.journal.entries[i].event.Op == op {
				return &s.journal.entries[i]
			}
		}
		t.Fatalf("no %s", op)
		return nil
	}
	const (
		same    = "waiting consumed nothing: all 250 bytes came back, in order and unchanged"
		endings = "client and server ended gracefully, and all that they sent was acknowledged"
		left    = "nothing was left to do before exit, and nothing was lost"
		passed  = "the relay passed both ends on as ends, and recorded who ended first"
		trace   = "each connection has one ending, which agrees with its steps and comes last"
		before  = "the client has the 125 bytes that were sent before the abort"
		noEOF   = "its next read said that the connection was reset: no end of file"
		aborts  = "each side recorded the abort, and whose it was"
		abortOn = "the relay passed the abort on, and recorded that the server had aborted"
	)
	for _, c := range []struct {
		name, session, promise string
		harm                   func(s *demoSession)
	}{
		{"a call fails", "direct", "every call succeeded", func(s *demoSession) { s.failure = errors.New("client: oh") }},
		{"a byte changes", "direct", same, func(s *demoSession) { s.client.got[7] ^= 1 }},
		{"a byte is missing", "direct", same, func(s *demoSession) { s.client.got = s.client.got[:249] }},
		{"a byte too many", "relay", same, func(s *demoSession) { s.client.got = append(s.client.got, 0) }},
		{"the server got less", "relay", same, func(s *demoSession) { s.server.got = s.server.got[1:] }},
		{"the other side's ending", "direct", endings, func(s *demoSession) { s.client.conn, s.server.conn = s.server.conn, s.client.conn }},
		{"a connection is left", "direct", left, func(s *demoSession) { s.left = []anysock.End{{How: anysock.Delivered}} }},
		{"a wait fails", "relay", left, func(s *demoSession) { s.leftErr = &anysock.WaitError{Pending: 1} }},
		{"no record", "relay", passed, func(s *demoSession) { s.relayed = nil }},
		{"a wrong record", "relay", passed, func(s *demoSession) { s.relayed[0].How = anysock.Delivered }},
		{"the wrong leg", "relay", passed, func(s *demoSession) { s.relayed[0].By = relay.Outbound }},
		{"a leg's ending", "relay", passed, func(s *demoSession) { s.relayed[0].Outbound.How = anysock.Delivered }},
		{"bytes not passed on", "relay", passed, func(s *demoSession) { s.relayed[0].ToInbound.Bytes-- }},
		{"a downgrade", "relay", passed, func(s *demoSession) { s.relayed[0].Downgrades = make([]relay.Downgrade, 1) }},
		{"no ending", "direct", trace, func(s *demoSession) { lastOf(s, anysock.OpEnd).event.Op = anysock.OpClose }},
		{"a step after the ending", "direct", trace, func(s *demoSession) {
			e := *lastOf(s, anysock.OpEnd)
			e.event.Op = anysock.OpRead
			s.journal.entries = append(s.journal.entries, e)
		}},
		{"two endings", "direct", trace, func(s *demoSession) {
			s.journal.entries = append(s.journal.entries, *lastOf(s, anysock.OpEnd))
		}},
		{"a count differs", "relay", trace, func(s *demoSession) { lastOf(s, anysock.OpWrite).event.Bytes++ }},
		{"less before the abort", "abort", before, func(s *demoSession) { s.client.got = s.client.got[:124] }},
		{"end of file", "abort", noEOF, func(s *demoSession) { s.client.last = io.EOF }},
		{"no error", "abort", noEOF, func(s *demoSession) { s.client.last = nil }},
		{"another error", "abort", noEOF, func(s *demoSession) { s.client.last = context.Canceled }},
		{"whose abort", "abort", aborts, func(s *demoSession) { s.client.conn, s.server.conn = s.server.conn, s.client.conn }},
		{"not passed on", "abort", abortOn, func(s *demoSession) { s.relayed[0].How = anysock.Graceful }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := good[c.session]
			s := &demoSession{
				scenario: g.scenario, client: g.client, server: g.server,
				relayed: append([]relay.Record(nil), g.relayed...), left: g.left, leftErr: g.leftErr,
			}
			s.journal.entries = append([]entry(nil), g.journal.entries...)
			s.client.got, s.server.got = bytes.Clone(g.client.got), bytes.Clone(g.server.got)
			if p := brokenPromises(s); len(p) > 0 {
				t.Fatalf("broken before: %v", p)
			}
			c.harm(s)
			if p := brokenPromises(s); len(p) != 1 || p[c.promise] == nil {
				t.Errorf("broken: %v", p)
			}
		})
	}
}
