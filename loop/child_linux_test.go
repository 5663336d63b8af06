package loop_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/loop"
)

// These tests run a server in a process of its own: with few descriptors, and
// in a network that breaks.

// A child is a role of this test binary. A test says lines to its standard input
// and hears lines from its standard output.
type child struct {
	t     *testing.T
	stdin io.WriteCloser
	lines chan string
}

// startChild runs a role, in a network namespace unless that is "".
func startChild(t *testing.T, namespace, role string, args ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	if namespace != "" {
		cmd = exec.Command("ip", "netns", "exec", namespace, exe)
	}
	// The race detector would hold a process up for a second at its exit.
	cmd.Env = append(os.Environ(), "ANYSOCK_ROLE="+role, "ANYSOCK_ARGS="+strings.Join(args, " "), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, stdin: in, lines: make(chan string, 1000)}
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

// hear waits for the line that begins with prefix, and returns the rest of it.
func (c *child) hear(prefix string) string {
	c.t.Helper()
	late := time.After(40 * time.Second)
	for {
		select {
		case s, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("the program has ended without saying %q", prefix)
			}
			if rest, ok := strings.CutPrefix(s, prefix+" "); ok {
				return rest
			}
		case <-late:
			c.t.Fatalf("the program does not say %q", prefix)
		}
	}
}

func (c *child) tell(s string) { fmt.Fprintln(c.stdin, s) }

func init() {
	roles["few-descriptors"] = playFewDescriptors
	roles["lost-server"] = playLostServer
	roles["lost-client"] = playLostClient
}

// say prints a line for the test; several goroutines may.
var sayMu sync.Mutex

func say(format string, args ...any) {
	sayMu.Lock()
	defer sayMu.Unlock()
	fmt.Printf(format+"\n", args...)
}

// playServer runs srv on addr, says where, and does what the lines of standard
// input say until their end.
func playServer(srv *loop.Server, lc anysock.ListenConfig, addr string, do func(line string)) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := lc.Listen(ctx, addr)
	if err != nil {
		say("failed %v", err)
		return 1
	}
	say("listening tcp://%s", ln.Addr())
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			do(s.Text())
		}
		cancel()
	}()
	if err := srv.Serve(ctx, ln); err != nil && ctx.Err() == nil {
		say("failed %v", err)
	}
	d, err := srv.Shutdown(ctx)
	say("drained %+v %v", d, err)
	return 0
}

// fewDescriptors is what the server of TestFewDescriptors may have open.
const fewDescriptors = 40

func playFewDescriptors() int {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}); err != nil {
		say("failed %v", err)
		return 1
	}
	var accepts atomic.Int64
	sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallAccept {
			accepts.Add(1)
		}
		return nil
	})
	h := echo[os.Getenv("ANYSOCK_ARGS")]
	srv := &loop.Server{Loops: 1, Handler: h, Trouble: func(err error) { say("trouble %v", errors.Is(err, syscall.EMFILE)) }}
	return playServer(srv, anysock.ListenConfig{}, "tcp://127.0.0.1:0", func(string) {
		say("accepts %d", accepts.Load())
	})
}

// More clients than descriptors: those who are served go on, the loop does not
// spin, and the others get their turn when some have gone. One who waits for too
// long is reset, and never sees an end.
func TestFewDescriptors(t *testing.T) {
	const clients = 60
	for kind := range echo {
		t.Run(kind, func(t *testing.T) {
			p := startChild(t, "", "few-descriptors", kind)
			addr := p.hear("listening")[len("tcp://"):]
			served := make(chan net.Conn, clients)
			var waits sync.WaitGroup
			for range clients {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				waits.Go(func() {
					_, err := c.Write([]byte("x"))
					if err == nil {
						_, err = io.ReadFull(c, make([]byte, 1))
					}
					if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
						t.Errorf("a client that waits sees %v", err)
						return
					}
					served <- c
				})
			}
			if p.hear("trouble") != "true" {
				t.Error("the trouble is not EMFILE")
			}
			first := <-served
			for n := 1; n < clients; n++ {
				c := <-served
				roundTrip(t, first, []byte("the first is served all the time"))
				c.Close()
			}
			waits.Wait()
			p.tell("how many?")
			n, err := strconv.Atoi(p.hear("accepts"))
			if err != nil || n > 20*clients {
				t.Errorf("%d calls of accept for %d clients, %v", n, clients, err)
			}
		})
	}
}

// lostAfter is the bound of the server of TestLostPeer.
const lostAfter = time.Second

func playLostServer() int {
	var mu sync.Mutex
	var conns []*loop.Conn
	h := echo["callbacks"]
	h.Open = func(c *loop.Conn) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
		say("open %d", len(conns))
	}
	h.Ended = func(_ *loop.Conn, end anysock.End) {
		var e *anysock.Error
		say("ended %v %v %v %v", end.How, end.By, end.Unacked, errors.As(end.Err, &e) && e.Kind == anysock.KindLost)
	}
	lc := anysock.ListenConfig{Options: anysock.Options{LostAfter: lostAfter, DrainTimeout: 20 * time.Second, CloseTimeout: 20 * time.Second}}
	return playServer(&loop.Server{Loops: 1, Handler: h}, lc, "tcp://10.98.0.2:0", func(line string) {
		mu.Lock()
		defer mu.Unlock()
		for i, c := range conns {
			if err := c.Post(func() {
				// The third is closed as well, and lost on its way out. The fourth
				// owes nothing.
				if i < 3 {
					_, _ = c.Write([]byte(line))
				}
				if i == 2 {
					c.Close()
				}
			}); err != nil {
				say("failed %v", err)
			}
		}
	})
}

func playLostClient() int {
	for range 4 {
		c, err := net.Dial("tcp", os.Getenv("ANYSOCK_ARGS"))
		if err != nil {
			say("failed %v", err)
			return 1
		}
		defer c.Close()
	}
	say("connected 4")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends it
	return 0
}

// When the path goes silent with something unacknowledged, the connection is
// lost: whether it is served or on its way out. One that owes nothing lives on.
func TestLostPeer(t *testing.T) {
	if !acksKnown(t) {
		t.Skip("this back end does not know what is acknowledged")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8) from iproute2")
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	id := fmt.Sprintf("loop%d", os.Getpid())
	here, there := id+"a", id+"b"
	for _, ns := range []string{here, there} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("cannot make a network namespace: %s", bytes.TrimSpace(out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	ip("link", "add", "v0", "netns", here, "type", "veth", "peer", "name", "v0", "netns", there)
	for ns, addr := range map[string]string{here: "10.98.0.1/24", there: "10.98.0.2/24"} {
		ip("-n", ns, "addr", "add", addr, "dev", "v0")
		ip("-n", ns, "link", "set", "lo", "up")
		ip("-n", ns, "link", "set", "v0", "up")
	}
	server := startChild(t, there, "lost-server")
	client := startChild(t, here, "lost-client", server.hear("listening")[len("tcp://"):])
	client.hear("connected")
	for range 4 {
		server.hear("open")
	}
	ip("-n", here, "link", "set", "v0", "down")
	server.tell("into the void")
	for range 3 {
		if got := server.hear("ended"); got != "lost nobody 13 true" && got != "lost us 13 true" {
			t.Errorf("the ending: %s", got)
		}
	}
	// The fourth is still there: it ends when the server does.
	server.stdin.Close()
	if got := server.hear("ended"); !strings.HasPrefix(got, anysock.AbortedByUs.String()) {
		t.Errorf("the one that owes nothing: %s", got)
	}
	server.hear("drained")
}
