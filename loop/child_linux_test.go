package loop_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/internal/testproc"
	"github.com/anysock/anysock/loop"
)

// These tests run a server in a process of its own: with few descriptors, and
// in a network that breaks.

func init() {
	testproc.Role("few-descriptors", playFewDescriptors)
	testproc.Role("lost-server", playLostServer)
	testproc.Role("lost-client", playLostClient)
}

// playServer runs srv on addr, says where, and does what the lines of standard
// input say until their end.
func playServer(srv *loop.Server, lc anysock.ListenConfig, addr string, do func(line string)) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := lc.Listen(ctx, addr)
	if err != nil {
		testproc.Say("failed %v", err)
		return 1
	}
	testproc.Say("listening tcp://%s", ln.Addr())
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			do(s.Text())
		}
		cancel()
	}()
	if err := srv.Serve(ctx, ln); err != nil && ctx.Err() == nil {
		testproc.Say("failed %v", err)
	}
	d, err := srv.Shutdown(ctx)
	testproc.Say("drained %+v %v", d, err)
	return 0
}

// fewDescriptors is what the server of TestFewDescriptors may have open.
const fewDescriptors = 40

func playFewDescriptors() int {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}); err != nil {
		testproc.Say("failed %v", err)
		return 1
	}
	var accepts atomic.Int64
	sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallAccept {
			accepts.Add(1)
		}
		return nil
	})
	h := echo[os.Getenv("KIND")]
	srv := &loop.Server{Loops: 1, Handler: h, Trouble: func(err error) { testproc.Say("trouble %v", errors.Is(err, syscall.EMFILE)) }}
	return playServer(srv, anysock.ListenConfig{}, "tcp://127.0.0.1:0", func(string) {
		testproc.Say("accepts %d", accepts.Load())
	})
}

// More clients than descriptors: those who are served go on, the loop does not
// spin, and the others get their turn when some have gone. One who waits for too
// long is reset, and never sees an end.
func TestFewDescriptors(t *testing.T) {
	const clients = 60
	for kind := range echo {
		t.Run(kind, func(t *testing.T) {
			p := testproc.Start(t, "few-descriptors", "KIND="+kind)
			addr := p.Hear("listening")[len("tcp://"):]
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
			if p.Hear("trouble") != "true" {
				t.Error("the trouble is not EMFILE")
			}
			first := <-served
			for n := 1; n < clients; n++ {
				c := <-served
				roundTrip(t, first, []byte("the first is served all the time"))
				c.Close()
			}
			waits.Wait()
			p.Tell("how many?")
			n, err := strconv.Atoi(p.Hear("accepts"))
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
		testproc.Say("open %d", len(conns))
	}
	h.Ended = func(_ *loop.Conn, end anysock.End) {
		var e *anysock.Error
		testproc.Say("ended %v %v %v %v", end.How, end.By, end.Unacked, errors.As(end.Err, &e) && e.Kind == anysock.KindLost)
	}
	lc := anysock.ListenConfig{Options: anysock.Options{LostAfter: lostAfter, DrainTimeout: 20 * time.Second, CloseTimeout: 20 * time.Second}}
	return playServer(&loop.Server{Loops: 1, Handler: h}, lc, "tcp://"+testproc.AddrB+":0", func(line string) {
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
				testproc.Say("failed %v", err)
			}
		}
	})
}

func playLostClient() int {
	for range 4 {
		c, err := net.Dial("tcp", os.Getenv("SERVER"))
		if err != nil {
			testproc.Say("failed %v", err)
			return 1
		}
		defer c.Close()
	}
	testproc.Say("connected 4")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends it
	return 0
}

// When the path goes silent with something unacknowledged, the connection is
// lost: whether it is served or on its way out. One that owes nothing lives on.
func TestLostPeer(t *testing.T) {
	if !acksKnown(t) {
		t.Skip("this back end does not know what is acknowledged")
	}
	n := testproc.NewNetwork(t)
	server := n.Start(n.B, "lost-server")
	client := n.Start(n.A, "lost-client", "SERVER="+server.Hear("listening")[len("tcp://"):])
	client.Hear("connected")
	for range 4 {
		server.Hear("open")
	}
	n.Cut(n.A)
	server.Tell("into the void")
	for range 3 {
		if got := server.Hear("ended"); got != "lost nobody 13 true" && got != "lost us 13 true" {
			t.Errorf("the ending: %s", got)
		}
	}
	// The fourth is still there: it ends when the server does.
	server.CloseInput()
	if got := server.Hear("ended"); !strings.HasPrefix(got, anysock.AbortedByUs.String()) {
		t.Errorf("the one that owes nothing: %s", got)
	}
	server.Hear("drained")
}
