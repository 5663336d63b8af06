// Crowds that mean no good: resets without end, readers that stop, and more
// clients than there are descriptors, against our servers as they are started by
// a user. Whatever engine serves them.

package integration_test

import (
	"bytes"
	"errors"
	"fmt"
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
)

// crowdLifetime bounds a server that a crowd comes to.
const crowdLifetime = 5 * time.Minute

// crowdAtOnce is how many of a crowd a server takes at a time, so that what it
// may need is known.
const crowdAtOnce = "1100"

// crowded are the servers, each with what brings back what a client sends. It
// returns the server's process and its address, host:port. The options are those
// of its addresses, prefix is before its command line.
var crowded = map[string]func(t *testing.T, options string, prefix ...string) (*process, string){
	"echo": func(t *testing.T, options string, prefix ...string) (*process, string) {
		p := start(t, command{argv: append(prefix, binary, "echo", "--max-conns="+crowdAtOnce, anyPort+options), lifetime: crowdLifetime})
		return p, strings.TrimPrefix(p.bound(), "tcp://")
	},
	"relay": func(t *testing.T, options string, prefix ...string) (*process, string) {
		target := start(t, command{argv: []string{binary, "echo", "--max-conns=0", anyPort + options}, lifetime: crowdLifetime})
		p := start(t, command{argv: append(prefix, binary, "relay", "--max-conns="+crowdAtOnce, anyPort+options, target.bound()+options), lifetime: crowdLifetime})
		return p, strings.TrimPrefix(p.bound(), "tcp://")
	},
}

// A footprint is what a process holds.
type footprint struct {
	descriptors int
	resident    int64 // bytes
}

func footprintOf(t *testing.T, p *process) footprint {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nVmRSS:")
	kB, err := strconv.ParseInt(strings.Fields(rest + " ?")[0], 10, 64)
	if err != nil {
		t.Fatalf("%v in %s", err, status)
	}
	return footprint{len(fds), kB << 10}
}

// processorTime is what a process has used (proc(5)): user and system time in
// ticks of 10 ms.
func processorTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// isServed wants a server to bring back what a client sends, and its end.
func isServed(t *testing.T, address string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "still there?"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "still there?" {
		t.Fatalf("served %q, %v", got, err)
	}
}

// TestResetFlood: 100,000 clients that connect and reset at once leave nothing
// behind: descriptors and memory stay what they were after the first ones.
func TestResetFlood(t *testing.T) {
	const (
		first, all = 40_000, 100_000
		atOnce     = 16
		more       = 16 << 20 // bytes that a garbage collector may differ by
	)
	for name, serve := range crowded {
		t.Run(name, func(t *testing.T) {
			p, address := serve(t, "")
			base := footprintOf(t, p)
			flood := func(n int64) {
				var left atomic.Int64
				left.Store(n)
				var wg sync.WaitGroup
				for range atOnce {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							c, err := net.DialTimeout("tcp", address, patience)
							if err != nil {
								t.Error(err)
								return
							}
							if err := c.(*net.TCPConn).SetLinger(0); err != nil {
								t.Error(err)
							}
							c.Close()
						}
					})
				}
				wg.Wait()
				isServed(t, address)
				until(t, "the descriptors are released", func() bool {
					// The runtime's and a few that are kept for use.
					return footprintOf(t, p).descriptors <= base.descriptors+16
				})
			}
			flood(first)
			before := footprintOf(t, p)
			flood(all - first)
			after := footprintOf(t, p)
			if after.resident > before.resident+more {
				t.Errorf("resident memory has grown from %d to %d kB", before.resident>>10, after.resident>>10)
			}
			t.Logf("at the start %+v, after %d %+v, after %d %+v", base, first, before, all, after)
			p.signal(syscall.SIGTERM)
			p.ok()
		})
	}
}

// TestReadersThatStop: 1,000 clients that are offered 100 MB each and read
// nothing cost a bounded buffer each; who reads is served meanwhile, and who reads
// on gets everything.
func TestReadersThatStop(t *testing.T) {
	const (
		clients   = 1000
		offered   = 100 << 20
		most      = 2 << 20   // that the kernel's buffers and the server's take of each
		perClient = 160 << 10 // a buffer for each direction, goroutines' stacks, what a connection is
	)
	for name, serve := range crowded {
		t.Run(name, func(t *testing.T) {
			// With the kernel's own sizes each client may fill megabytes of the kernel's.
			p, address := serve(t, "?rcvbuf=65536&sndbuf=65536")
			isServed(t, address)
			base := footprintOf(t, p)
			block := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
			var taken atomic.Int64
			var wg sync.WaitGroup
			conns := make([]*net.TCPConn, clients)
			for i := range conns {
				c, err := net.DialTimeout("tcp", address, patience)
				if err != nil {
					t.Fatal(err)
				}
				conns[i] = c.(*net.TCPConn)
				_ = conns[i].SetReadBuffer(64 << 10)
				_ = conns[i].SetWriteBuffer(64 << 10)
				wg.Go(func() {
					for sent := 0; sent < offered; {
						n, err := conns[i].Write(block)
						sent += n
						taken.Add(int64(n))
						if err != nil {
							return
						}
					}
				})
			}
			// Writers are stopped when nothing was taken for a while.
			for last, quiet := int64(-1), 0; quiet < 5; {
				<-time.After(100 * time.Millisecond)
				if n := taken.Load(); n != last {
					last, quiet = n, 0
				} else {
					quiet++
				}
			}
			if n := taken.Load(); n > clients*most {
				t.Errorf("%d MB were taken of clients that read nothing", n>>20)
			}
			full := footprintOf(t, p)
			if grown := full.resident - base.resident; grown > clients*perClient {
				t.Errorf("resident memory has grown by %d kB, more than %d for each client", grown>>10, perClient>>10)
			}
			isServed(t, address)
			t.Logf("%d kB taken and %d kB resident for each client", taken.Load()/clients>>10, (full.resident-base.resident)/clients>>10)
			// One reads on: it gets what it was offered, in order.
			_ = conns[0].SetReadDeadline(time.Now().Add(patience))
			got := make([]byte, 4<<20)
			if n, err := io.ReadFull(conns[0], got); err != nil || !bytes.Equal(got[:len(block)], block) || !bytes.Equal(got[len(got)-len(block):], block) {
				t.Errorf("reading on: %d bytes, %v", n, err)
			}
			for _, c := range conns {
				_ = c.SetLinger(0)
				c.Close()
			}
			wg.Wait()
			until(t, "the descriptors are released", func() bool { return footprintOf(t, p).descriptors <= base.descriptors+64 })
			isServed(t, address)
		})
	}
}

// TestOutOfDescriptors: with 20 descriptors and 60 clients the server serves as
// many as it can and waits without spinning; those that it cannot take learn of
// it by a reset, never by an end of file; and it recovers.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	const limit, clients = 20, 60
	for name, serve := range crowded {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, address := serve(t, "", need(t, "sh"), "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit))
			var conns []*net.TCPConn
			for range clients {
				c, err := net.DialTimeout("tcp", address, patience)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = io.WriteString(c, "me!") // one that was turned away already says so when it reads
				conns = append(conns, c.(*net.TCPConn))
			}
			p.complains(`(?m)out of descriptors or memory: clients wait`)
			began, used := time.Now(), processorTime(t, p)
			type fate int
			const (
				waits fate = iota
				served
				shed
			)
			fates := make([]fate, clients)
			// Those that wait are shed after five seconds, one at a time.
			shedding := time.Now().Add(patience)
			for sheds := 0; sheds == 0 && time.Now().Before(shedding); {
				for i, c := range conns {
					if fates[i] == shed {
						continue
					}
					_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
					got := make([]byte, 3)
					_, err := io.ReadFull(c, got)
					switch {
					case err == nil && string(got) == "me!":
						fates[i] = served
					case errors.Is(err, os.ErrDeadlineExceeded):
					case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
						t.Fatalf("client %d was told an end of file", i)
					default:
						fates[i] = shed
						sheds++
					}
				}
			}
			count := [3]int{}
			for _, f := range fates {
				count[f]++
			}
			elapsed, spent := time.Since(began), processorTime(t, p)-used
			t.Logf("%d served, %d shed, %d wait; %s of processor time in %s", count[served], count[shed], count[waits], spent, elapsed.Round(time.Millisecond))
			if count[served] == 0 || count[shed] == 0 {
				t.Error("want some served and some shed")
			}
			if spent > elapsed/4 {
				t.Errorf("%s of processor time in %s: it spins", spent, elapsed)
			}
			for _, c := range conns {
				c.Close()
			}
			isServed(t, address) // once it is through with those who have left
			p.signal(syscall.SIGTERM)
			p.ok()
		})
	}
}
