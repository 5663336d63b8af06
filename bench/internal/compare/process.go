//go:build linux

package compare

// This file starts processes on chosen cores and ends them.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anysock/anysock/bench/internal/serve"
)

// startTimeout bounds the wait for a process to listen, and for the answer to a
// signal.
const startTimeout = 10 * time.Second

// maxCPUs is how many a unix.CPUSet names.
const maxCPUs = 1024

// collected is what a server answers once it has.
var collected = regexp.MustCompile("^" + serve.Collected + "$")

// CPUs are the processors that this process may use.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var cpus []int
	for i := range maxCPUs {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// A process runs in a process group of its own, so that those it starts end
// with it.
type process struct {
	cmd   *exec.Cmd
	lines chan string // what it prints; nil where nobody reads it
	ended chan struct{}
	tail  *tail
}

// start runs a command on the given processors. Its standard error, and its
// output if it is not read line by line, are kept for the message if it ends.
func start(cmd *exec.Cmd, cpus []int, readLines bool) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{}), tail: &tail{}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = p.tail
	cmd.WaitDelay = time.Second // descendants may hold the pipes
	var out *os.File
	if readLines {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		cmd.Stdout, out = w, r
	} else {
		cmd.Stdout = p.tail
	}
	if err := startPinned(cmd, cpus); err != nil {
		if out != nil {
			_ = out.Close()
		}
		return nil, err
	}
	if readLines {
		p.lines = make(chan string, 16)
		go p.read(out) // ends with the output
	}
	go p.wait() // ends with the process
	return p, nil
}

// startPinned starts the command on a thread that may use those processors
// only, which a child inherits.
func startPinned(cmd *exec.Cmd, cpus []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, want unix.CPUSet
	for _, cpu := range cpus {
		want.Set(cpu)
	}
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, &want); err != nil {
		return fmt.Errorf("sched_setaffinity to %v: %w", cpus, err)
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

func (p *process) read(out *os.File) {
	defer close(p.lines)
	defer out.Close()
	for s := bufio.NewScanner(out); s.Scan(); {
		p.lines <- s.Text()
	}
}

func (p *process) wait() {
	_ = p.cmd.Wait() // how it ended is in its ProcessState
	close(p.ended)
}

// line waits for the next line that matches.
func (p *process) line(ctx context.Context, timeout time.Duration, want *regexp.Regexp) (string, error) {
	expired := time.NewTimer(timeout)
	defer expired.Stop()
	for {
		select {
		case text, ok := <-p.lines:
			if !ok {
				<-p.ended
				return "", p.failure()
			}
			if want.MatchString(text) {
				return text, nil
			}
		case <-expired.C:
			return "", fmt.Errorf("%s: no answer within %v", p.cmd.Path, timeout)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// listens waits until somebody listens on that port.
func (p *process) listens(ctx context.Context, port int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		if yes, err := listening(port); err != nil || yes {
			return err
		}
		select {
		case <-p.ended:
			return p.failure()
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return fmt.Errorf("%s: does not listen after %v", p.cmd.Path, startTimeout)
}

func (p *process) failure() error {
	return fmt.Errorf("%s ended: %v: %s", p.cmd.Path, p.cmd.ProcessState, p.tail)
}

// collect has a server that package serve runs collect its garbage.
func (p *process) collect(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	_, err := p.line(ctx, startTimeout, collected)
	return err
}

// stop kills it and whatever it started, and waits for all of them.
func (p *process) stop() {
	group := p.cmd.Process.Pid
	_ = syscall.Kill(-group, syscall.SIGKILL)
	for open := p.lines != nil; open; {
		_, open = <-p.lines
	}
	<-p.ended
	for { // its children are ours now (Adopt)
		_, err := syscall.Wait4(-group, nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// Adopt makes this process the parent of those whose parent has ended, so that
// it can wait for them (PR_SET_CHILD_SUBREAPER).
func Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}

// A tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLimit = 1000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailLimit):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.text)), " ")
}
