package anysock_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// A child is a role of this test binary in a process of its own. A test says
// lines to its standard input and hears lines from its standard output.
type child struct {
	t     *testing.T
	stdin io.WriteCloser
	lines chan string
}

func startChild(t *testing.T, role string, env ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	must(t, "executable", err)
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), "ANYSOCK_ROLE="+role), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, "pipe", err)
	out, err := cmd.StdoutPipe()
	must(t, "pipe", err)
	must(t, "start", cmd.Start())
	c := &child{t: t, stdin: in, lines: make(chan string, 100)}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		for range c.lines { // until the reader is done
		}
		_ = cmd.Wait()
	})
	return c
}

func (c *child) hear() string {
	c.t.Helper()
	s, ok := <-c.lines
	if !ok {
		c.t.Fatal("the program has ended")
	}
	return s
}

func (c *child) tell(s string) { fmt.Fprintln(c.stdin, s) }
