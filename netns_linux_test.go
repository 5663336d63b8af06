package anysock_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// These tests cross a network: two namespaces joined by a veth pair, one
// process of ours in each, and a link that goes down.

// A network is two hosts, a (10.99.0.1) and b (10.99.0.2).
type network struct {
	t    *testing.T
	a, b string
}

const hostB = "10.99.0.2"

func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8) from iproute2")
	}
	id := fmt.Sprintf("as%d%d", os.Getpid(), time.Now().UnixNano()%100000)
	n := &network{t: t, a: id + "a", b: id + "b"}
	for _, ns := range []string{n.a, n.b} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("cannot make a network namespace: %s", bytes.TrimSpace(out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	n.ip("link", "add", "v0", "netns", n.a, "type", "veth", "peer", "name", "v0", "netns", n.b)
	n.ip("-n", n.a, "addr", "add", "10.99.0.1/24", "dev", "v0")
	n.ip("-n", n.b, "addr", "add", hostB+"/24", "dev", "v0")
	for _, ns := range []string{n.a, n.b} {
		n.ip("-n", ns, "link", "set", "lo", "up")
		n.ip("-n", ns, "link", "set", "v0", "up")
	}
	return n
}

func (n *network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// A program is one of the roles, running in a namespace; its standard output
// is read line by line.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func (n *network) start(ns, role string, env ...string) *program {
	n.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", ns, exe)
	// The race detector would hold a process up for a second at its exit.
	cmd.Env = append(append(os.Environ(), "ANYSOCK_ROLE="+role, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	p := &program{t: n.t, cmd: cmd, stdin: in, lines: bufio.NewScanner(out)}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	return p
}

// line waits for the program's next line.
func (p *program) line() string {
	p.t.Helper()
	got := make(chan bool, 1)
	go func() { got <- p.lines.Scan() }()
	select {
	case ok := <-got:
		if !ok {
			p.t.Fatalf("the program ended without its line: %v", p.lines.Err())
		}
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		<-got
		p.t.Fatal("no line from the program within 40 s")
	}
	return p.lines.Text()
}

func (p *program) say(s string) { fmt.Fprintln(p.stdin, s) }

// report is what a role says about its connection.
type report struct {
	How      string
	Err      string
	Timeout  bool
	Sent     int64
	Received int64
	Took     time.Duration
}

func (p *program) report() report {
	p.t.Helper()
	var r report
	s := p.line()
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		p.t.Fatalf("%v in %q", err, s)
	}
	return r
}

func say(v any) {
	b, _ := json.Marshal(v)
	fmt.Println(string(b))
}

// ask waits for a line on standard input: the test says when to go on.
func ask() { _, _ = bufio.NewReader(os.Stdin).ReadString('\n') }

func reportEnd(c *anysock.Conn, err error, since time.Time) {
	r := report{How: c.End().How.String(), Sent: c.Sent(), Received: c.Received(), Took: time.Since(since)}
	if err != nil {
		r.Err = err.Error()
		ne, ok := err.(interface{ Timeout() bool })
		r.Timeout = ok && ne.Timeout()
	}
	say(r)
}

func init() {
	// sleeper accepts one connection, reads nothing until told, then reads
	// everything and reports how much it was.
	roles["sleeper"] = func() int {
		ln, err := anysock.Listen(context.Background(), "tcp://:7000?rcvbuf=65536")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready")
		c, err := ln.AcceptContext(context.Background())
		if err != nil {
			return 1
		}
		fmt.Println("accepted")
		ask()
		n, err := io.Copy(io.Discard, c)
		r := report{Received: n}
		if err != nil {
			r.Err = err.Error()
		}
		say(r)
		return 0
	}
	// reader connects, says so, and reads until something ends it.
	roles["reader"] = func() int {
		c, err := dialForTest()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("connected")
		start := time.Now()
		_, err = c.Read(make([]byte, 1))
		<-c.Done()
		reportEnd(c, err, start)
		return 0
	}
	// asker does the same, and owes a request that it sends when told to.
	roles["asker"] = func() int {
		c, err := dialForTest()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("connected")
		ask()
		start := time.Now()
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, err = c.Read(make([]byte, 1))
		<-c.Done()
		reportEnd(c, err, start)
		return 0
	}
	// leaver owes a request and disconnects.
	roles["leaver"] = func() int {
		c, err := dialForTest()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("connected")
		ask()
		start := time.Now()
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, err = c.Disconnect(context.Background())
		reportEnd(c, err, start)
		return 0
	}
	// sender writes 8 MiB to whoever reads it or not, and disconnects.
	roles["sender"] = func() int {
		c, err := dialForTest()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("connected")
		start := time.Now()
		_, err = c.Write(make([]byte, 8<<20))
		if err == nil {
			_, err = c.Disconnect(context.Background())
		}
		reportEnd(c, err, start)
		return 0
	}
	// closer accepts, writes a megabyte, closes, waits if asked to, and exits.
	roles["closer"] = func() int {
		ln, err := anysock.Listen(context.Background(), "tcp://:7000")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready")
		c, err := ln.AcceptContext(context.Background())
		if err != nil {
			return 1
		}
		if _, err := c.Write(make([]byte, 1<<20)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := c.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if os.Getenv("WAIT") != "" {
			ends, err := anysock.Wait(context.Background())
			if err != nil || len(ends) > 0 {
				fmt.Fprintln(os.Stderr, ends, err)
				return 1
			}
		}
		fmt.Println("bye")
		return 0
	}
	// collector reads to the end and reports.
	roles["collector"] = func() int {
		c, err := dialForTest()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		start := time.Now()
		if d, err := time.ParseDuration(os.Getenv("PATIENCE")); err == nil {
			_ = c.SetReadDeadline(start.Add(d))
		}
		_, err = io.Copy(io.Discard, c)
		if err == nil {
			_, err = c.Disconnect(context.Background())
		}
		reportEnd(c, err, start)
		return 0
	}
}

// dialForTest connects to the other host with bounds that a test can wait for.
func dialForTest() (*anysock.Conn, error) {
	return anysock.Dial(context.Background(), "tcp://"+hostB+":7000?lost=2s&keepidle=1s&keepinterval=1s&keepcount=2&retry=20&retryinterval=50ms")
}

// TestContract09LostPeer: a peer that vanishes ends as lost within the
// configured time, also while data is owed.
func TestContract09LostPeer(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"reader", "asker", "sender", "leaver"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			peer := n.start(n.b, "sleeper")
			peer.line()
			us := n.start(n.a, role)
			us.line()
			peer.line() // accepted: nothing is under way
			n.ip("-n", n.b, "link", "set", "v0", "down")
			us.say("go on")
			r := us.report()
			t.Logf("%+v", r)
			if r.How != "lost" || !r.Timeout || r.Err == "EOF" {
				t.Errorf("a vanished peer must end as lost with a time-out: %+v", r)
			}
		})
	}
}

// TestContract09PausedReader: a reader that pauses for longer than the bound
// is not cut, and gets everything.
func TestContract09PausedReader(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	peer := n.start(n.b, "sleeper")
	peer.line()
	us := n.start(n.a, "sender")
	us.line()
	peer.line()
	<-time.After(7 * time.Second) // the bound is 2 s
	peer.say("read on")
	if r := peer.report(); r.Received != 8<<20 || r.Err != "" {
		t.Errorf("the paused reader got %+v, want 8 MiB and an end", r)
	}
	if r := us.report(); r.How != "graceful" && r.How != "delivered" || r.Sent != 8<<20 {
		t.Errorf("the sender reports %+v", r)
	}
}

// TestContract05TeardownAfterWait: the network is taken away as soon as the
// process is gone, as a container's is. After Wait nothing is lost; without,
// the tail is, which shows that the test can fail.
func TestContract05TeardownAfterWait(t *testing.T) {
	t.Parallel()
	for _, wait := range []bool{true, false} {
		t.Run(fmt.Sprintf("wait=%v", wait), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			if out, err := exec.Command("tc", "-n", n.b, "qdisc", "add", "dev", "v0", "root", "tbf", "rate", "10mbit", "burst", "16kb", "latency", "300ms").CombinedOutput(); err != nil {
				t.Skipf("needs tc(8) with tbf: %v: %s", err, out)
			}
			env := ""
			if wait {
				env = "1"
			}
			closer := n.start(n.b, "closer", "WAIT="+env)
			closer.line()
			patience := "20s"
			if !wait {
				patience = "3s" // nothing more will come
			}
			us := n.start(n.a, "collector", "PATIENCE="+patience)
			if s := closer.line(); s != "bye" {
				t.Fatalf("the closer says %q", s)
			}
			_ = closer.cmd.Wait()
			n.ip("-n", n.b, "link", "del", "v0")
			r := us.report()
			t.Logf("%+v", r)
			if !wait {
				if r.Received == 1<<20 {
					t.Error("nothing was lost without Wait: the test shows nothing")
				}
				return
			}
			if r.Received != 1<<20 || r.Err != "" || r.How != "graceful" && r.How != "delivered" {
				t.Errorf("got %+v, want all of 1 MiB and an end", r)
			}
		})
	}
}
