package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// This file runs the scripts under testdata/script: the command as its users
// run it. Beside testscript's own commands they know these:
//
//	status N PROGRAM ARGS...      run, and require the exit status N
//	start NAME [-stdin FILE | -open] ARGS...
//	                              run anysock in the background; $NAME is the address it is bound to, if it
//	                              listens; -open is an input that says nothing and does not end
//	until NAME PATTERN            wait until its output matches
//	signal NAME SIGNAL            send it TERM, INT, KILL, ...
//	await NAME N                  wait for its end, require the status; output is in NAME.out and NAME.err
//	peer NAME MODE [FILE]         a TCP server whose address is $NAME: see scriptPeers

func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		// Otherwise each of the many short programs sleeps for a second at its
		// end, should it have the race detector.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(m, map[string]func(){"anysock": main})
}

func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Values[backgroundKey{}] = map[string]*background{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": scriptStatus,
			"start":  scriptStart,
			"until":  scriptUntil,
			"signal": scriptSignal,
			"await":  scriptAwait,
			"peer":   scriptPeer,
		},
	})
}

// patience bounds every wait of these tests.
const patience = 20 * time.Second

type backgroundKey struct{}

// A background is a command that runs beside the script, or beside a test.
type background struct {
	cmd         *exec.Cmd
	out, errOut watchedBuffer
	done        chan struct{} // Wait has returned
}

// A watchedBuffer is output that can be waited for.
type watchedBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
	return w.b.Write(p)
}

func (w *watchedBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// next is the text and a channel that is closed when there is more.
func (w *watchedBuffer) next() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.b.String(), w.changed
}

// startBackground starts cmd with its output watched.
func startBackground(cmd *exec.Cmd) (*background, error) {
	b := &background{cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = &b.errOut
	if cmd.Stdout == nil {
		cmd.Stdout = &b.out
	}
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go b.wait()
	return b, nil
}

// wait is owned by whoever started b, who waits for done.
func (b *background) wait() {
	defer close(b.done)
	_ = b.cmd.Wait() // ProcessState says it
}

// stop ends b if it still runs.
func (b *background) stop() {
	_ = b.cmd.Process.Kill() // it may have ended
	<-b.done
}

// match waits until one of the outputs matches re and returns the first
// group, or "" if b ends before.
func (b *background) match(re *regexp.Regexp) (string, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		out, moreOut := b.out.next()
		errOut, moreErr := b.errOut.next()
		for _, text := range []string{errOut, out} {
			if m := re.FindStringSubmatch(text); m != nil {
				return m[len(m)-1], nil
			}
		}
		ended := b.done
		select {
		case <-moreOut:
		case <-moreErr:
		case <-ended:
			if out != b.out.String() || errOut != b.errOut.String() {
				continue
			}
			return "", fmt.Errorf("it ended without a match for %s:\n%s%s", re, errOut, out)
		case <-deadline.C:
			return "", fmt.Errorf("no match for %s within %s:\n%s%s", re, patience, errOut, out)
		}
	}
}

// status waits for the end and returns the exit status; -1 after a signal.
func (b *background) status() (int, error) {
	select {
	case <-b.done:
		return b.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		return 0, fmt.Errorf("still running after %s:\n%s%s", patience, b.errOut.String(), b.out.String())
	}
}

// listening finds the bound address, in the words for people or in JSON.
var listening = regexp.MustCompile(`(?m)^(?:listening on |.*"event":"listening","address":")([^"\s]+)`)

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME [-stdin FILE] args...")
	}
	name, args := args[0], args[1:]
	var stdin io.Reader
	switch args[0] {
	case "-stdin":
		stdin, args = strings.NewReader(ts.ReadFile(args[1])), args[2:]
	case "-open":
		r, w, err := os.Pipe()
		ts.Check(err)
		ts.Defer(func() { r.Close(); w.Close() })
		stdin, args = r, args[1:]
	}
	path, err := exec.LookPath("anysock")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdin = ts.Getenv("PWD"), stdin
	if cmd.Dir == "" {
		cmd.Dir = ts.MkAbs(".")
	}
	cmd.Env = append(os.Environ(), "NO_COLOR="+ts.Getenv("NO_COLOR"), "TERM="+ts.Getenv("TERM"))
	b, err := startBackground(cmd)
	ts.Check(err)
	ts.Value(backgroundKey{}).(map[string]*background)[name] = b
	ts.Defer(b.stop)
	if args[0] != "connect" {
		addr, err := b.match(listening)
		ts.Check(err)
		ts.Setenv(name, addr)
	}
}

// backgroundOf finds what start has started.
func backgroundOf(ts *testscript.TestScript, name string) *background {
	b := ts.Value(backgroundKey{}).(map[string]*background)[name]
	if b == nil {
		ts.Fatalf("nothing called %s was started", name)
	}
	return b
}

func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: until NAME PATTERN")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	_, err = backgroundOf(ts, args[0]).match(re)
	ts.Check(err)
}

var scriptSignals = map[string]os.Signal{
	"TERM": syscall.SIGTERM, "INT": os.Interrupt, "KILL": os.Kill, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT,
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || scriptSignals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME SIGNAL")
	}
	ts.Check(backgroundOf(ts, args[0]).cmd.Process.Signal(scriptSignals[args[1]]))
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await NAME STATUS")
	}
	b := backgroundOf(ts, args[0])
	got, err := b.status()
	ts.Check(err)
	for suffix, text := range map[string]string{".out": b.out.String(), ".err": b.errOut.String()} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+suffix), []byte(text), 0o600))
	}
	if strconv.Itoa(got) != args[1] {
		ts.Fatalf("exit status %d, want %s\n%s%s", got, args[1], b.errOut.String(), b.out.String())
	}
}

// scriptPeers are the servers that a script can have as a peer. Each serves one
// connection.
var scriptPeers = map[string]func(c *net.TCPConn, data []byte, _ <-chan struct{}) error{
	// resets at once
	"reset": func(c *net.TCPConn, _ []byte, _ <-chan struct{}) error { return c.SetLinger(0) },
	// sends the file, then resets once the client has sent something
	"reset-after": func(c *net.TCPConn, data []byte, _ <-chan struct{}) error {
		_, err := c.Write(data)
		_, rerr := c.Read(make([]byte, 1))
		return errors.Join(err, rerr, c.SetLinger(0))
	},
	// takes everything, says nothing, and does not end as long as the script runs
	"silent": func(c *net.TCPConn, _ []byte, stop <-chan struct{}) error {
		_, _ = io.Copy(io.Discard, c) // how the client ends is the script's affair
		<-stop
		return nil
	},
	// ends first, then takes everything and compares it
	"ends-first": func(c *net.TCPConn, data []byte, _ <-chan struct{}) error {
		if err := c.CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(c)
		if err == nil && !bytes.Equal(got, data) {
			err = fmt.Errorf("received %d bytes, want %d", len(got), len(data))
		}
		return err
	},
	// answers only after the client's end, as many relays cannot
	"answers-at-end": func(c *net.TCPConn, data []byte, _ <-chan struct{}) error {
		if _, err := io.Copy(io.Discard, c); err != nil {
			return err
		}
		_, err := c.Write(data)
		return err
	},
	// answers at once and ends, and then waits for the client's end
	"answers": func(c *net.TCPConn, data []byte, _ <-chan struct{}) error {
		_, werr := c.Write(data)
		cerr := c.CloseWrite()
		_, rerr := io.Copy(io.Discard, c)
		return errors.Join(werr, cerr, rerr)
	},
}

func scriptPeer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || scriptPeers[args[1]] == nil {
		ts.Fatalf("usage: peer NAME MODE [FILE]")
	}
	var data []byte
	if len(args) > 2 {
		data = []byte(ts.ReadFile(args[2]))
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	stop, done := make(chan struct{}), make(chan error, 1)
	go servePeer(ln, scriptPeers[args[1]], data, stop, done)
	ts.Setenv(args[0], ln.Addr().String())
	ts.Defer(func() {
		ln.Close()
		close(stop)
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			ts.Logf("peer %s: %v", args[0], err)
			ts.Fatalf("peer %s: %v", args[0], err)
		}
	})
}

// servePeer is owned by the script, which waits for done.
func servePeer(ln net.Listener, serve func(*net.TCPConn, []byte, <-chan struct{}) error, data []byte, stop <-chan struct{}, done chan<- error) {
	c, err := ln.Accept()
	if err != nil {
		done <- err
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	done <- serve(c.(*net.TCPConn), data, stop)
}

// TestScriptsAreRun: a script that the pattern misses would test nothing.
func TestScriptsAreRun(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("testdata/script/*")
	if err != nil || len(all) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range all {
		if filepath.Ext(name) != ".txtar" {
			t.Errorf("%s is not run: its name must end in .txtar", name)
		}
	}
}
