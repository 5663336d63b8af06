// This file starts programs and waits for what they say.

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds every wait. Nothing here takes a tenth of it on a machine
	// that has nothing else to do.
	patience = 30 * time.Second
	// lifetime bounds every program. Some wait in it while other tests have
	// their turn.
	lifetime = 10 * patience
)

// A command is a program to start.
type command struct {
	argv   []string
	input  []byte   // standard input; none is /dev/null
	pipe   bool     // standard input is a pipe that the test writes
	stdout *os.File // instead of a buffer
	env    []string // more of it

	lifetime time.Duration // instead of the usual one
}

// A process is a program that a test has started. It is killed at the end of
// the test if it still runs.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    output
	errs   output
	exited chan struct{}
}

func start(t *testing.T, c command) *process {
	t.Helper()
	limit := lifetime
	if c.lifetime > 0 {
		limit = c.lifetime
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	p := &process{t: t, name: c.argv[0], cmd: exec.CommandContext(ctx, c.argv[0], c.argv[1:]...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.Stderr = &p.errs
	p.cmd.Stdout = &p.out
	if c.stdout != nil {
		p.cmd.Stdout = c.stdout
	}
	if c.input != nil {
		p.cmd.Stdin = bytes.NewReader(c.input)
	}
	if c.pipe {
		var err error
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd.WaitDelay = patience // a pipe that somebody else holds
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	go p.wait()
	t.Cleanup(func() {
		cancel() // which kills it
		if p.in != nil {
			p.in.Close()
		}
		<-p.exited
		if t.Failed() {
			t.Logf("%s\nstandard output: %.2000s\nstandard error: %.2000s", strings.Join(c.argv, " "), p.out.String(), p.errs.String())
		}
	})
	return p
}

// wait is the goroutine that waits for the program; Cleanup waits for it.
func (p *process) wait() {
	defer close(p.exited)
	_ = p.cmd.Wait() // ProcessState says it
	p.out.finish()
	p.errs.finish()
}

// status waits for the program's end. One that was killed has status -1.
func (p *process) status() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end%s", p.name, p.stacks())
	}
	return p.cmd.ProcessState.ExitCode()
}

// ok waits for status 0.
func (p *process) ok() {
	p.t.Helper()
	p.wantStatus(0)
}

func (p *process) wantStatus(want int) {
	p.t.Helper()
	if got := p.status(); got != want {
		p.t.Errorf("%s ended with status %d, want %d: %.500s", p.name, got, want, p.errs.String())
	}
}

// stacks has our program say where it hangs, which ends it; of others, nothing.
func (p *process) stacks() string {
	if p.name != binary || p.cmd.Process.Signal(syscall.SIGQUIT) != nil {
		return ""
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
	}
	return "\n" + p.errs.String()
}

// signal sends it to this process alone.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// write gives the program input.
func (p *process) write(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s); err != nil {
		p.t.Fatalf("%s takes no input: %v", p.name, err)
	}
}

// endInput closes the program's standard input.
func (p *process) endInput() {
	p.t.Helper()
	if err := p.in.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		p.t.Fatal(err)
	}
}

// says waits for a match on standard output and returns its groups.
func (p *process) says(expression string) []string { return p.match(&p.out, expression) }

// complains waits for a match on standard error.
func (p *process) complains(expression string) []string { return p.match(&p.errs, expression) }

func (p *process) match(o *output, expression string) []string {
	p.t.Helper()
	re := regexp.MustCompile(expression)
	limit := time.After(patience)
	for {
		text, more := o.next()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		if more == nil {
			p.t.Fatalf("%s ended without %q; it said %.1000s%.1000s", p.name, expression, p.out.String(), p.errs.String())
		}
		select {
		case <-more:
		case <-limit:
			p.t.Fatalf("%s does not say %q; it said %.1000s%.1000s%s", p.name, expression, p.out.String(), p.errs.String(), p.stacks())
		}
	}
}

// An output is what a program writes, and can be waited for.
type output struct {
	mu       sync.Mutex
	b        bytes.Buffer
	more     chan struct{} // closed at the next write, and at the end
	finished bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wake()
	return o.b.Write(p)
}

func (o *output) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finished = true
	o.wake()
}

// wake tells those who wait; mu is held.
func (o *output) wake() {
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
}

// next is the text, and what is closed when there is more: nil if there will
// be none.
func (o *output) next() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.finished {
		return o.b.String(), nil
	}
	if o.more == nil {
		o.more = make(chan struct{})
	}
	return o.b.String(), o.more
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// need is the path of a program, or skips the test. A distribution's own goes
// before what else is on the path, and servers need not be on the path at all.
func need(t *testing.T, program string) string {
	t.Helper()
	for _, path := range []string{"/usr/bin/" + program, "/usr/sbin/" + program, program} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skip(program + " is not installed")
	return ""
}

// shortDir is a directory whose sockets have names that fit (unix(7)).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "as") //nolint:usetesting // TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// until looks again and again for a condition that nobody tells us about.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); !met(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatal("still not: " + what)
		}
	}
}

// sprintf is for addresses in tables.
var sprintf = fmt.Sprintf
