package bench

// This file runs what is measured in a process of its own: a worker is the
// test program started again with the name of a role in its environment.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// roleVariable names what the process is to do; unset is the test program.
const roleVariable = "ANYSOCK_BENCH_ROLE"

// A role serves connections until the process ends. It announces the address
// that it listens on, once.
type role func(announce func(net.Addr)) error

// roles are all there are; the arguments of a role come from the environment.
var roles = map[string]role{
	"echo-net":      echoNet,
	"echo-conn":     echoConn,
	"relay-io.Copy": relayCopy,
	"relay-join":    relayJoin,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		if err := work(roles[name]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// usage is what a worker answers to each line that it is sent.
type usage struct {
	CPU    time.Duration // of the process since it began
	Allocs uint64        // objects since it began
	Calls  calls         // since they were first counted
}

// since is what was used for work since before.
func (u usage) since(before usage, work float64) sample {
	return sample{cpu: u.CPU - before.CPU, work: work, allocs: u.Allocs - before.Allocs}
}

// work is a worker's main: it says its address, then answers each line of
// standard input with its usage so far, and ends with its input.
func work(run role) error {
	if run == nil {
		return errors.New("no such role")
	}
	out := json.NewEncoder(os.Stdout)
	failed := make(chan error, 1)
	ready := make(chan string, 1)
	go func() { failed <- run(func(a net.Addr) { ready <- a.String() }) }() // ends with the process
	select {
	case err := <-failed:
		return err
	case addr := <-ready:
		if err := out.Encode(addr); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	var memory runtime.MemStats
	for lines.Scan() {
		select {
		case err := <-failed:
			return err
		default:
		}
		cpu, err := processTime()
		if err != nil {
			return err
		}
		runtime.ReadMemStats(&memory) // exact, unlike runtime/metrics
		if err := out.Encode(usage{CPU: cpu, Allocs: memory.Mallocs, Calls: counted()}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// A worker is such a process, seen from the one that started it.
type worker struct {
	addr string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

// answerTimeout bounds the wait for a worker's answer; then it is killed.
const answerTimeout = 20 * time.Second

// startWorker starts one with env added to the environment; stop ends it, at
// the latest when the test is over.
func startWorker(tb testing.TB, role string, env ...string) *worker {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	w := &worker{cmd: cmd, in: in, out: json.NewDecoder(out)}
	tb.Cleanup(func() { w.stop() })
	w.receive(tb, &w.addr)
	return w
}

// usage asks for it.
func (w *worker) usage(tb testing.TB) usage {
	tb.Helper()
	if _, err := io.WriteString(w.in, "\n"); err != nil {
		tb.Fatal(err)
	}
	var u usage
	w.receive(tb, &u)
	return u
}

func (w *worker) receive(tb testing.TB, v any) {
	tb.Helper()
	guard := time.AfterFunc(answerTimeout, func() { _ = w.cmd.Process.Kill() })
	defer guard.Stop()
	if err := w.out.Decode(v); err != nil {
		tb.Fatalf("worker %s: %v", w.cmd.Env[len(w.cmd.Env)-1], err)
	}
}

// stop ends the worker and waits for it; a second call does nothing.
func (w *worker) stop() {
	_ = w.in.Close()
	guard := time.AfterFunc(answerTimeout, func() { _ = w.cmd.Process.Kill() })
	defer guard.Stop()
	_ = w.cmd.Wait()
}
