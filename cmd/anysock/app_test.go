//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// A bug is told in a line, the status is that of a failure, and there is no
// stack trace.
func TestPanicIsNoStackTrace(t *testing.T) {
	var empty []int
	for name, fail := range map[string]func(a *app) error{
		"in the verb": func(a *app) error {
			return a.guarded(func() error { empty[len(t.Name())]++; return nil })
		},
		"beside it": func(a *app) error {
			in := a.watch()
			a.spawn(func() { panic(errors.New("beside")) })
			<-in.abort.Done() // what runs is cut
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			noneLeft(t)
			var out, errOut bytes.Buffer
			a := newApp(t.Context(), nil, strings.NewReader(""), &out, &errOut, nil)
			if status := a.leave(fail(a)); status != exitSetup {
				t.Errorf("status %d, want %d", status, exitSetup)
			}
			text := errOut.String()
			if !strings.HasPrefix(text, "anysock: internal error: ") || strings.Count(text, "\n") != 2 {
				t.Errorf("not one line and what to do: %q", text)
			}
			if !strings.Contains(text, "TestPanicIsNoStackTrace") || strings.Contains(text, "goroutine") {
				t.Errorf("not the place alone: %q", text)
			}
		})
	}
}

// What is not delivered at exit is listed, and decides on the status.
func TestLeaveListsWhatWasNotDelivered(t *testing.T) {
	noneLeft(t)
	var errOut bytes.Buffer
	a := newApp(t.Context(), nil, nil, new(bytes.Buffer), &errOut, nil)
	ln := peerListener(t)
	d := anysock.Dialer{Group: &a.group, Options: anysock.Options{CloseTimeout: 50 * time.Millisecond}}
	c, err := d.Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer := acceptPeer(t, ln) // reads nothing
	p := make([]byte, 32<<20) // more than the kernel takes
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if n, err := c.WriteContext(ctx, p); n == 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if status := a.leave(nil); status != exitLost {
		t.Errorf("status %d, want %d: %s", status, exitLost, c.End())
	}
	want := regexp.MustCompile(`^anysock: at exit: 1 connection ended without delivering everything\n  127\.0\.0\.1:[0-9]+: lost: [0-9]+ sent, 0 received, [0-9]+ unacknowledged`)
	if !want.MatchString(errOut.String()) {
		t.Errorf("%q", errOut.String())
	}
	peer.Close()
}

// failingWriter takes n bytes.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) <= w.n {
		w.n -= len(p)
		return len(p), nil
	}
	n := w.n
	w.n = 0
	return n, syscall.ENOSPC
}

// What prints and does not look is found out all the same.
func TestBrokenStandardOutput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"help"}, {"help", "exit"}, {"connect", "--help"}, {"completion", "bash"}, {"connect", "chargen:"}, {"echo", "--json", "tcp://127.0.0.1:0"}} {
		var errOut bytes.Buffer
		status := run(t.Context(), args, strings.NewReader(""), &failingWriter{n: 10}, &errOut, nil)
		if status != exitOutput {
			t.Errorf("%v: status %d, want %d", args, status, exitOutput)
		}
		if !strings.Contains(errOut.String(), "write standard output: no space left on device") {
			t.Errorf("%v: %q", args, errOut.String())
		}
	}
}

// A cancelled context is like a first SIGTERM, and a run leaves no goroutine
// behind, whatever it did.
func TestRunLeavesNothing(t *testing.T) {
	for _, args := range [][]string{
		{"connect", "echo:"},
		{"connect", "--json", "-vv", "--idle", "1m", "echo:"},
		{"connect", "127.0.0.1:1"},
		{"echo", "tcp://127.0.0.1:0"},
		{"discard", "--idle", "1m", "--trace", "tcp://127.0.0.1:0"},
		{"chargen", "tcp://127.0.0.1:0"},
		{"listen", "--keep", "tcp://127.0.0.1:0"},
		{"relay", "tcp://127.0.0.1:0", "echo:"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			noneLeft(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out, errOut watchedBuffer
			done := make(chan int, 1)
			go func() { done <- run(ctx, args, strings.NewReader("hello"), &out, &errOut, nil) }()
			want := exitOK
			if args[0] == "connect" {
				if strings.HasPrefix(args[1], "127") {
					want = exitRefused
				}
			} else {
				addr := waitForText(t, &errOut, listening)
				c := dialPeer(t, addr)
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Error(err)
				}
				cancel()
			}
			select {
			case got := <-done:
				if got != want {
					t.Errorf("status %d, want %d: %s", got, want, errOut.String())
				}
			case <-time.After(patience):
				t.Fatalf("still running: %s", errOut.String())
			}
			if args[len(args)-1] == "echo:" && args[0] == "connect" && out.String() != "hello" {
				t.Errorf("standard output is %q", out.String())
			}
		})
	}
}

// waitForText waits until w matches and returns the last group.
func waitForText(t *testing.T, w *watchedBuffer, re *regexp.Regexp) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		text, more := w.next()
		if m := re.FindStringSubmatch(text); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no match for %s in %q", re, text)
		}
	}
}

func TestLookupIn(t *testing.T) {
	t.Parallel()
	env := lookupIn([]string{"A=1", "B=x=y", "A=2", "C"})
	for name, want := range map[string]string{"A": "2", "B": "x=y", "C": "", "D": ""} {
		if got := env(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestPenNeedsATerminal(t *testing.T) {
	t.Parallel()
	if newPen(new(bytes.Buffer), lookupIn([]string{"TERM=xterm"})).on {
		t.Error("a buffer is no terminal")
	}
}
