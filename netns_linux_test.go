package anysock_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

// These tests cross a network: two namespaces joined by a veth pair, one
// process of ours in each, and a link that goes down.

// report is what a role says about its connection.
type report struct {
	How      string
	Err      string
	Timeout  bool
	Sent     int64
	Received int64
	Took     time.Duration
}

// reportOf is the next line of a program.
func reportOf(t *testing.T, p *testproc.Child) report {
	t.Helper()
	var r report
	s := p.Line()
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		t.Fatalf("%v in %q", err, s)
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
	testproc.Role("sleeper", func() int {
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
	})
	// reader connects, says so, and reads until something ends it.
	testproc.Role("reader", func() int {
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
	})
	// asker does the same, and owes a request that it sends when told to.
	testproc.Role("asker", func() int {
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
	})
	// leaver owes a request and disconnects.
	testproc.Role("leaver", func() int {
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
	})
	// sender writes 8 MiB to whoever reads it or not, and disconnects.
	testproc.Role("sender", func() int {
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
	})
	// closer accepts, writes a megabyte, closes, waits if asked to, and exits.
	testproc.Role("closer", func() int {
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
	})
	// collector reads to the end and reports.
	testproc.Role("collector", func() int {
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
	})
}

// dialForTest connects to the other host with bounds that a test can wait for.
func dialForTest() (*anysock.Conn, error) {
	return anysock.Dial(context.Background(), "tcp://"+testproc.AddrB+":7000?lost=2s&keepidle=1s&keepinterval=1s&keepcount=2&retry=20&retryinterval=50ms")
}

// TestContract09LostPeer: a peer that vanishes ends as lost within the
// configured time, also while data is owed.
func TestContract09LostPeer(t *testing.T) {
	needAcks(t)
	t.Parallel()
	for _, role := range []string{"reader", "asker", "sender", "leaver"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			n := testproc.NewNetwork(t)
			peer := n.Start(n.B, "sleeper")
			peer.Line()
			us := n.Start(n.A, role)
			us.Line()
			peer.Line() // accepted: nothing is under way
			n.Cut(n.B)
			us.Tell("go on")
			r := reportOf(t, us)
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
	n := testproc.NewNetwork(t)
	peer := n.Start(n.B, "sleeper")
	peer.Line()
	us := n.Start(n.A, "sender")
	us.Line()
	peer.Line()
	<-time.After(7 * time.Second) // the bound is 2 s
	peer.Tell("read on")
	if r := reportOf(t, peer); r.Received != 8<<20 || r.Err != "" {
		t.Errorf("the paused reader got %+v, want 8 MiB and an end", r)
	}
	if r := reportOf(t, us); r.How != "graceful" && r.How != "delivered" || r.Sent != 8<<20 {
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
			n := testproc.NewNetwork(t)
			if out, err := exec.Command("tc", "-n", n.B, "qdisc", "add", "dev", "v0", "root", "tbf", "rate", "10mbit", "burst", "16kb", "latency", "300ms").CombinedOutput(); err != nil {
				t.Skipf("needs tc(8) with tbf: %v: %s", err, out)
			}
			env := ""
			if wait {
				env = "1"
			}
			closer := n.Start(n.B, "closer", "WAIT="+env)
			closer.Line()
			patience := "20s"
			if !wait {
				patience = "3s" // nothing more will come
			}
			us := n.Start(n.A, "collector", "PATIENCE="+patience)
			if s := closer.Line(); s != "bye" {
				t.Fatalf("the closer says %q", s)
			}
			closer.Wait()
			n.IP("-n", n.B, "link", "del", "v0")
			r := reportOf(t, us)
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
