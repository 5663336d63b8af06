package testproc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file runs a role of the test binary in a process of its own.

// roleVariable names the role that the test binary is to play.
const roleVariable = "ANYSOCK_ROLE"

var roles = map[string]func() int{}

// Role registers a program that tests run with Start: what it does, and the
// status it exits with. Call it from an init function.
func Role(name string, does func() int) { roles[name] = does }

func play(role string) int {
	does, ok := roles[role]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such role:", role)
		return 2
	}
	go endWith(os.Getppid())
	return does()
}

// endWith ends this program when the one that has started it is gone: its tests
// may have been killed.
func endWith(parent int) {
	for range time.Tick(orphanCheck) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// orphanCheck is how often a program looks for who has started it.
const orphanCheck = 200 * time.Millisecond

var saying sync.Mutex

// Say prints a line for the test that runs this program; several goroutines
// may.
func Say(format string, args ...any) {
	saying.Lock()
	defer saying.Unlock()
	fmt.Printf(format+"\n", args...)
}

// lineTimeout bounds the wait for a line of a Child, on a busy machine.
const lineTimeout = 40 * time.Second

// A Child is a role of this test binary in a process of its own. The test says
// lines to its standard input and hears lines from its standard output; its
// standard error is the test's. It is killed at the end of the test.
type Child struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	ended chan struct{} // the process is gone
}

// maxLines bounds the lines that a Child is ahead of its test.
const maxLines = 1000

// Start runs a role with more of an environment (NAME=VALUE).
func Start(t testing.TB, role string, env ...string) *Child {
	t.Helper()
	return start(t, nil, role, env)
}

// start runs a role behind a prefix of the command line.
func start(t testing.TB, prefix []string, role string, env []string) *Child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := slices.Concat(prefix, []string{exe})
	c := &Child{t: t, cmd: exec.Command(argv[0], argv[1:]...), lines: make(chan string, maxLines), ended: make(chan struct{})}
	// The race detector would hold a process up for a second at its exit.
	c.cmd.Env = append(append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0"), env...)
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
		close(c.lines)
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() {
		c.CloseInput()
		_ = c.cmd.Process.Kill()
		for range c.lines { // until the reader is done
		}
		<-c.ended
	})
	return c
}

// Line waits for the program's next line.
func (c *Child) Line() string {
	c.t.Helper()
	select {
	case s, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the program has ended without its line")
		}
		return s
	case <-time.After(lineTimeout):
		c.t.Fatalf("no line from the program within %v", lineTimeout)
	}
	return ""
}

// Hear waits for the line that begins with a word, and returns the rest of it.
func (c *Child) Hear(word string) string {
	c.t.Helper()
	for late := time.Now().Add(lineTimeout); time.Now().Before(late); {
		if rest, ok := strings.CutPrefix(c.Line(), word+" "); ok {
			return rest
		}
	}
	c.t.Fatalf("the program does not say %q", word)
	return ""
}

// Tell writes a line to the program.
func (c *Child) Tell(line string) { fmt.Fprintln(c.stdin, line) }

// CloseInput ends the program's standard input.
func (c *Child) CloseInput() { _ = c.stdin.Close() }

// Wait waits until the process is gone; its last lines can still be heard.
func (c *Child) Wait() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(lineTimeout):
		c.t.Fatalf("the program does not end within %v", lineTimeout)
	}
}
