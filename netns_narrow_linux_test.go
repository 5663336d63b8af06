package anysock_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

// These tests cross a path that is bad and not dead: it loses packets, is slow,
// takes small ones only, or has few local ports. Nothing may be lost, and
// nobody may be taken for lost.

// parcelSize is what goes each way.
const parcelSize = 2 << 20

// parcel is the n-th one: its bytes say where they belong.
func parcel(n int) []byte {
	p := make([]byte, parcelSize)
	for i := range p {
		p[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i) ^ byte(n)
	}
	return p
}

func init() {
	// hasher answers each connection's parcel by its hash and a parcel.
	testproc.Role("hasher", func() int {
		ctx := context.Background()
		ln, err := anysock.Listen(ctx, "tcp://:7000")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready")
		for c, err := range ln.Conns(ctx) {
			if err != nil {
				return 1
			}
			go func() {
				h := sha256.New()
				_, err := io.Copy(h, c)
				if err == nil {
					_, err = c.Write(append(h.Sum(nil), parcel(0)...))
				}
				if err != nil {
					_ = c.Abort()
					return
				}
				_, _ = c.Disconnect(ctx)
			}()
		}
		return 0
	})
	// courier sends a parcel, ends, and checks what comes back.
	testproc.Role("courier", func() int {
		ctx := context.Background()
		c, err := anysock.Dial(ctx, "tcp://"+testproc.AddrB+":7000?retry=20&retryinterval=50ms")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		start := time.Now()
		err = deliver(ctx, c)
		if err == nil {
			_, err = c.Disconnect(ctx)
		}
		reportEnd(c, err, start)
		return 0
	})
	// crowd opens connections until there is no local port left.
	testproc.Role("crowd", func() int {
		var open []*anysock.Conn
		for {
			c, err := anysock.Dial(context.Background(), "tcp://"+testproc.AddrB+":7000")
			if err == nil {
				open = append(open, c)
				continue
			}
			var e *anysock.Error
			if !errors.As(err, &e) {
				return 1
			}
			say(report{How: e.Kind.String(), Err: e.Hint, Sent: int64(len(open)), Timeout: errors.Is(err, syscall.EADDRNOTAVAIL)})
			break
		}
		for _, c := range open {
			if err := deliver(context.Background(), c); err != nil {
				say(report{Err: err.Error()})
				return 0
			}
		}
		say(report{How: "delivered", Sent: int64(len(open))})
		return 0
	})
}

func deliver(ctx context.Context, c *anysock.Conn) error {
	out := parcel(1)
	if _, err := c.WriteContext(ctx, out); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	back, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(out)
	if string(back) != string(hash[:])+string(parcel(0)) {
		return fmt.Errorf("%d bytes came back, and not the right ones", len(back))
	}
	return nil
}

// TestContract02BadPaths: 2 MiB each way arrive whole, and both ends are told so.
func TestContract02BadPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []struct {
		name  string
		spoil func(t *testing.T, n *testproc.Network)
	}{
		{"one packet of ten is dropped", func(t *testing.T, n *testproc.Network) {
			for _, ns := range []string{n.A, n.B} {
				n.In(ns, "nft(8) with numgen", "nft", "add table inet loss; add chain inet loss in { type filter hook input priority 0; }; add rule inet loss in numgen random mod 10 0 counter drop")
				n.IP("-n", ns, "link", "set", "v0", "gso_max_segs", "1") // real packets, so that there are many
			}
			t.Cleanup(func() {
				out, err := exec.Command("ip", "netns", "exec", n.B, "nft", "list", "chain", "inet", "loss", "in").CombinedOutput()
				if err != nil || strings.Contains(string(out), "packets 0 ") {
					t.Errorf("nothing was dropped: %v, %s", err, out)
				}
			})
		}},
		{"10 Mbit/s", func(_ *testing.T, n *testproc.Network) {
			for _, ns := range []string{n.A, n.B} {
				n.In(ns, "tc(8) with tbf", "tc", "qdisc", "add", "dev", "v0", "root", "tbf", "rate", "10mbit", "burst", "16kb", "latency", "50ms")
			}
		}},
		{"packets of 600 bytes", func(_ *testing.T, n *testproc.Network) {
			for _, ns := range []string{n.A, n.B} {
				n.IP("-n", ns, "link", "set", "v0", "mtu", "600")
			}
		}},
	} {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			n := testproc.NewNetwork(t)
			path.spoil(t, n)
			peer := n.Start(n.B, "hasher")
			peer.Line()
			r := reportOf(t, n.Start(n.A, "courier"))
			t.Logf("%s: %d bytes each way in %s, %.1f Mbit/s", path.name, parcelSize, r.Took.Round(time.Millisecond), float64(r.Sent+r.Received)*8/1e6/r.Took.Seconds())
			if r.How != "graceful" || r.Err != "" || r.Sent != parcelSize || r.Received != parcelSize+sha256.Size {
				t.Errorf("the courier reports %+v", r)
			}
		})
	}
}

// TestFewLocalPorts: with 20 local ports there are 20 connections to one
// server, the next is an error that says why, and those there are work.
func TestFewLocalPorts(t *testing.T) {
	t.Parallel()
	n := testproc.NewNetwork(t)
	n.In(n.A, "sysctl", "sh", "-c", "echo 40000 40019 > /proc/sys/net/ipv4/ip_local_port_range")
	peer := n.Start(n.B, "hasher")
	peer.Line()
	crowd := n.Start(n.A, "crowd")
	full := reportOf(t, crowd)
	if full.Sent != 20 || full.How != "limit" || !full.Timeout || full.Err == "" {
		t.Errorf("the local ports gave out with %+v, want 20 connections, then a limit with a hint", full)
	}
	if r := reportOf(t, crowd); r.How != "delivered" || r.Sent != 20 {
		t.Errorf("the connections: %+v", r)
	}
}
