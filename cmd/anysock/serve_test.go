//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whatever signal ends a server, it leaves no socket file and no stack trace.
func TestNoSignalLeavesASocketFile(t *testing.T) {
	t.Parallel()
	for _, sig := range catchable() {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			path := t.TempDir() + "/s"
			b := start(t, command(t, "echo", "unix:"+path))
			b.sees(t, listening.String())
			if _, err := os.Lstat(path); err != nil {
				t.Fatal(err)
			}
			b.signal(t, sig)
			b.exits(t, 0)
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket file: %v", err)
			}
		})
	}
}

// A signal that nohup has turned off stays off.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("anysock")
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, exec.Command("sh", "-c", `trap "" HUP; exec "$0" echo -v tcp://127.0.0.1:0`, path))
	addr := b.sees(t, listening.String())
	b.signal(t, syscall.SIGHUP)
	c := dialPeer(t, addr) // after the signal: it would be refused or drained
	write(t, c, "still here")
	wantRead(t, c, "still here")
	c.Close()
	b.sees(t, ": graceful:")
	b.signal(t, syscall.SIGTERM)
	b.exits(t, 0)
}

// A drain accepts who waits in the queue, and refuses who comes later.
func TestDrainAcceptsTheQueue(t *testing.T) {
	t.Parallel()
	b := start(t, command(t, "echo", "-v", "--max-conns", "1", "tcp://127.0.0.1:0"))
	addr := b.sees(t, listening.String())
	first := dialPeer(t, addr)
	b.sees(t, "^accepted ")
	queued := dialPeer(t, addr)
	b.signal(t, syscall.SIGTERM)
	b.sees(t, "finishing 2 connections")
	write(t, queued, "queued")
	wantRead(t, queued, "queued")
	if c, err := net.Dial("tcp", strings.TrimPrefix(addr, "tcp://")); err == nil {
		c.Close()
		t.Error("connected to a server that drains")
	}
	first.Close()
	queued.Close()
	b.exits(t, 0)
}

// At the drain deadline the clients see a reset, not an end.
func TestDrainDeadlineIsAReset(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"echo":  {"echo", "--drain", "50ms", "tcp://127.0.0.1:0"},
		"relay": {"relay", "--drain", "50ms", "tcp://127.0.0.1:0", "echo:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, command(t, args...))
			c := dialPeer(t, b.sees(t, listening.String()))
			write(t, c, "x")
			wantRead(t, c, "x")
			b.signal(t, syscall.SIGTERM)
			wantReset(t, c)
			b.exits(t, exitAborted)
			b.sees(t, "^anysock: drain: 1 connection aborted after 50ms$")
		})
	}
}

// A server whose records nobody takes any more drains and says why.
func TestServerWithBrokenOutput(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"echo":  {"echo", "--json", "tcp://127.0.0.1:0"},
		"relay": {"relay", "--json", "tcp://127.0.0.1:0", "echo:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd := command(t, args...)
			cmd.Stdout = w
			b := start(t, cmd)
			w.Close()
			var first struct{ Address string }
			if err := json.NewDecoder(r).Decode(&first); err != nil {
				t.Fatal(err)
			}
			r.Close()
			c := dialPeer(t, first.Address)
			c.Close() // its record cannot be written
			b.exits(t, exitOutput)
			b.sees(t, `"msg":"write standard output: broken pipe","status":10`)
		})
	}
}

// Out of descriptors a server says so, at most once a second, serves those
// that it has, and recovers.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("anysock")
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, exec.Command("sh", "-c", `ulimit -n 24; GOMAXPROCS=2 exec "$0" echo tcp://127.0.0.1:0`, path)) // each loop needs some
	addr := b.sees(t, listening.String())
	var conns []*net.TCPConn
	for range 30 {
		conns = append(conns, dialPeer(t, addr))
	}
	b.sees(t, `^anysock: accept: out of descriptors or memory: clients wait failures=[0-9]+ reset=0$`)
	b.sees(t, `^  try: raise the limit of open files`)
	// Each loop has a queue of its own: which clients it has is not known.
	served := make(chan struct{}, len(conns))
	for _, c := range conns[:25] {
		write(t, c, "first")
		go func() {
			if _, err := c.Read(make([]byte, 5)); err == nil {
				served <- struct{}{}
			}
		}()
	}
	<-served
	for _, c := range conns[:25] {
		c.Close()
	}
	write(t, conns[29], "last")
	wantRead(t, conns[29], "last")
	if warned := strings.Count(b.errOut.String(), "out of descriptors"); warned > 20 {
		t.Errorf("%d warnings", warned)
	}
	for _, c := range conns[25:] {
		c.Close()
	}
	b.signal(t, syscall.SIGTERM)
	b.exits(t, 0)
}

// Every line of every stream is one JSON object with --json, also when things
// go wrong.
func TestJSONLinesAreObjects(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	for _, args := range [][]string{
		{"connect", "--json", "--trace", "-vv", ln.Addr().String()},
		{"connect", "--json", "--trace", "127.0.0.1:1"},
		{"connect", "--json", "--nosuch"},
		{"connect", "--json", "tcp:x"},
		{"nosuch", "--json"},
		{"version", "--json"},
		{"listen", "--json", "--trace", "--timeout", "10ms", "tcp://127.0.0.1:0"},
		{"echo", "--json", ln.Addr().String()},
	} {
		b := start(t, command(t, args...))
		if args[len(args)-1] == ln.Addr().String() && args[0] == "connect" {
			c := acceptPeer(t, ln)
			cut(t, c)
		}
		if _, err := b.status(); err != nil {
			t.Fatal(err)
		}
		text := b.out.String() + b.errOut.String()
		if text == "" {
			t.Errorf("%v says nothing", args)
		}
		for line := range strings.Lines(text) {
			var object map[string]any
			if err := json.Unmarshal([]byte(line), &object); err != nil {
				t.Errorf("%v: %v: %q", args, err, line)
			}
		}
	}
}

// A client chooses its name, and must not forge lines with it.
func TestHostilePeerNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"echo", "-v"}, {"echo", "--json"}, {"echo", "--trace"}} {
		path := dir + "/" + args[1]
		b := start(t, command(t, append(args, "unix:"+path)...))
		b.sees(t, listening.String())
		evil := dir + "/\x1b[31m\nforged: \u009b"
		c, err := net.DialUnix("unix", &net.UnixAddr{Name: evil}, &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(evil)
		c.CloseWrite()
		wantEnd(t, c)
		c.Close()
		b.sees(t, "graceful")
		b.signal(t, syscall.SIGTERM)
		b.exits(t, 0)
		for line := range strings.Lines(b.errOut.String() + b.out.String()) {
			if !isSafe(strings.TrimSuffix(line, "\n")) || strings.HasPrefix(line, "forged") {
				t.Errorf("%v: %q", args, line)
			}
		}
	}
}

// Idle connections are cut, busy ones are not.
func TestIdle(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	b := start(t, command(t, "echo", "-v", "--idle", limit.String(), "tcp://127.0.0.1:0"))
	addr := b.sees(t, listening.String())
	busy, idle := dialPeer(t, addr), dialPeer(t, addr)
	began := time.Now()
	idled := make(chan error, 1)
	go func() {
		_, err := idle.Read(make([]byte, 1))
		if took := time.Since(began); took < limit || !errors.Is(err, syscall.ECONNRESET) {
			idled <- fmt.Errorf("%w after %s", err, took)
			return
		}
		idled <- nil
	}()
	tick := time.NewTicker(limit / 10)
	defer tick.Stop()
	for time.Since(began) < 3*limit {
		write(t, busy, ".")
		wantRead(t, busy, ".")
		<-tick.C
	}
	if err := <-idled; err != nil {
		t.Error(err)
	}
	busy.CloseWrite()
	wantEnd(t, busy)
	b.sees(t, ": idle: 0 sent, 0 received, ")
	b.sees(t, ": graceful: ")
}
