//go:build !anysock_portable

package relay_test

// A Relay between peers that go silent: the relay is on host A of a network of
// its own, and so is one peer; the other is on host B, whose link is cut.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
	"github.com/anysock/anysock/relay"
)

// silentFor is the bound of silence while something is owed.
const silentFor = 2 * time.Second

// What the tests ask of both legs: about a peer that owes an answer, and about
// one that is idle.
const (
	owing = "?lost=2s"
	idle  = "?keepidle=1s&keepinterval=1s&keepcount=2"
)

func init() {
	testproc.Role("silence-relay", playSilenceRelay)
	testproc.Role("silence-peer", playSilencePeer)
}

// playSilenceRelay is a Relay on host A that says its records, until its input
// ends.
func playSilenceRelay() int {
	loops, err := strconv.Atoi(os.Getenv("LOOPS"))
	if err != nil {
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := anysock.Listen(ctx, "tcp://"+testproc.AddrA+":0"+os.Getenv("OPTIONS"))
	if err != nil {
		testproc.Say("failed %v", err)
		return 1
	}
	r := &relay.Relay{
		Target: anysock.MustParseAddress("tcp://" + os.Getenv("TARGET") + os.Getenv("OPTIONS")), Loops: loops,
		OnEnd: func(rec relay.Record) {
			var e *anysock.Error
			judged := errors.As(rec.Err, &e) && strings.Contains(e.Hint, "nothing was heard for")
			testproc.Say("record %v by %v judged %v", rec.How, rec.By, judged)
		},
	}
	testproc.Say("ready %s", ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	_ = r.Serve(ctx, ln)
	if _, err := r.Shutdown(ctx); err != nil {
		testproc.Say("failed %v", err)
	}
	return 0
}

// playSilencePeer is a client or a server of one connection, which does what
// the lines of its input say, one after the other.
func playSilencePeer() int {
	c, err := silencePeer(os.Getenv("DIAL"), os.Getenv("LISTEN"))
	if err != nil {
		testproc.Say("failed %v", err)
		return 1
	}
	testproc.Say("ready connected")
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		verb, arg, _ := strings.Cut(s.Text(), " ")
		n, _ := strconv.Atoi(arg)
		switch verb {
		case "write":
			_, err = c.Write(make([]byte, n))
		case "end":
			err = c.CloseWrite()
		case "read":
			_, err = io.ReadFull(c, make([]byte, n))
		case "all": // to the end
			var got int64
			got, err = io.Copy(io.Discard, c)
			testproc.Say("all %d reset %v failed %v", got, errors.Is(err, syscall.ECONNRESET), err != nil)
			continue
		}
		testproc.Say("%s %v", verb, err)
	}
	return 0
}

// silencePeer connects, or waits to be connected to.
func silencePeer(dial, listen string) (*net.TCPConn, error) {
	// A small window, which a pause soon closes.
	narrow := func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) })
	}
	if dial != "" {
		d := net.Dialer{Control: narrow}
		return asTCP(d.Dial("tcp", dial))
	}
	lc := net.ListenConfig{Control: narrow}
	ln, err := lc.Listen(context.Background(), "tcp", listen)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	testproc.Say("listening %s", ln.Addr())
	return asTCP(ln.Accept())
}

func asTCP(c net.Conn, err error) (*net.TCPConn, error) {
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// A silence is a relayed connection whose far peer's link can be cut.
type silence struct {
	network   *testproc.Network
	relay     *testproc.Child
	near, far *testproc.Child // client and server, or the other way round
	farLeg    relay.Leg
}

// newSilence makes one, over which a message has gone both ways.
func newSilence(t *testing.T, loops int, farLeg relay.Leg, options string) *silence {
	t.Helper()
	s := &silence{network: testproc.NewNetwork(t), farLeg: farLeg}
	clientOn, serverOn, serverAt := s.network.B, s.network.A, testproc.AddrA
	if farLeg == relay.Outbound {
		clientOn, serverOn, serverAt = s.network.A, s.network.B, testproc.AddrB
	}
	server := s.network.Start(serverOn, "silence-peer", "LISTEN="+serverAt+":0")
	s.relay = s.network.Start(s.network.A, "silence-relay",
		"LOOPS="+strconv.Itoa(loops), "OPTIONS="+options, "TARGET="+server.Hear("listening"))
	client := s.network.Start(clientOn, "silence-peer", "DIAL="+s.relay.Hear("ready"))
	s.near, s.far = server, client
	if farLeg == relay.Outbound {
		s.near, s.far = client, server
	}
	client.Hear("ready")
	do(t, client, "write 100")
	server.Hear("ready")
	do(t, server, "read 100")
	do(t, server, "write 200")
	do(t, client, "read 200")
	return s
}

// do has a peer do something that succeeds.
func do(t *testing.T, p *testproc.Child, line string) {
	t.Helper()
	p.Tell(line)
	verb, _, _ := strings.Cut(line, " ")
	if got := p.Hear(verb); got != "<nil>" {
		t.Fatalf("%s: %s", line, got)
	}
}

// cut cuts the far peer off.
func (s *silence) cut() { s.network.Cut(s.network.B) }

// onSilence runs f on both engines, with the far peer as the server and as the
// client.
func onSilence(t *testing.T, options string, f func(t *testing.T, s *silence)) {
	needsBackend(t)
	t.Parallel()
	for engine, loops := range map[string]int{"goroutines": -1, "loops": 1} {
		for _, far := range []relay.Leg{relay.Inbound, relay.Outbound} {
			t.Run(engine+"/"+far.String(), func(t *testing.T) {
				t.Parallel()
				f(t, newSilence(t, loops, far, options))
			})
		}
	}
}

// TestSilentPeer: a peer that goes silent while it is owed something is lost,
// and the other one is told by an abort.
func TestSilentPeer(t *testing.T) {
	onSilence(t, owing, func(t *testing.T, s *silence) {
		s.cut()
		do(t, s.near, "write 1000")
		s.near.Tell("all")
		if got, want := s.relay.Hear("record"), fmt.Sprintf("%v by %v judged true", anysock.Lost, s.farLeg); got != want {
			t.Errorf("the record says %s, want %s", got, want)
		}
		if got := s.near.Hear("all"); got != "0 reset true failed true" {
			t.Errorf("the other peer got %s, want a reset", got)
		}
	})
}

// TestSilentAtTheEnd: both have ended in order, and the last bytes are not
// acknowledged.
func TestSilentAtTheEnd(t *testing.T) {
	onSilence(t, owing+"&draintimeout=30s", func(t *testing.T, s *silence) {
		do(t, s.far, "end")
		s.near.Tell("all")
		if got := s.near.Hear("all"); got != "0 reset false failed false" {
			t.Fatalf("the end was passed on as %s", got)
		}
		s.cut()
		do(t, s.near, "write 1000")
		do(t, s.near, "end")
		if got, want := s.relay.Hear("record"), fmt.Sprintf("%v by %v judged true", anysock.Lost, s.farLeg); got != want {
			t.Errorf("the record says %s, want %s", got, want)
		}
	})
}

// TestPausedPeer: one that reads nothing for longer than the bound is not lost,
// and gets everything.
func TestPausedPeer(t *testing.T) {
	const much = 8 << 20
	onSilence(t, owing, func(t *testing.T, s *silence) {
		s.near.Tell("write " + strconv.Itoa(much)) // which takes until the other reads
		s.near.Tell("end")
		linger(3 * silentFor)
		s.far.Tell("all")
		if got, want := s.far.Hear("all"), fmt.Sprintf("%d reset false failed false", much); got != want {
			t.Errorf("the one that paused got %s, want %s", got, want)
		}
		do(t, s.far, "end")
		if got, want := s.relay.Hear("record"), fmt.Sprintf("%v by ", anysock.Graceful); !strings.HasPrefix(got, want) {
			t.Errorf("the record says %s", got)
		}
	})
}

// TestSilentIdlePeer: one that owes nothing is noticed by keep-alive, which is
// set on every connection that lives long enough for it.
func TestSilentIdlePeer(t *testing.T) {
	onSilence(t, idle, func(t *testing.T, s *silence) {
		s.cut()
		s.near.Tell("all")
		if got, want := s.relay.Hear("record"), fmt.Sprintf("%v by %v judged false", anysock.Lost, s.farLeg); got != want {
			t.Errorf("the record says %s, want %s", got, want)
		}
		if got := s.near.Hear("all"); got != "0 reset true failed true" {
			t.Errorf("the other peer got %s, want a reset", got)
		}
	})
}
