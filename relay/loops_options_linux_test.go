//go:build !anysock_portable

package relay_test

// The socket options of outbound legs on event loops, which come in their time.

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/relay"
)

// socketsTo finds the sockets of this process that are connected to an IPv4
// address, by their own address.
func socketsTo(t *testing.T, to string) map[string]int {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	fds := make(map[string]int)
	text := func(sa syscall.Sockaddr, err error) string {
		in, ok := sa.(*syscall.SockaddrInet4)
		if err != nil || !ok {
			return ""
		}
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)).String()
	}
	for _, e := range ents {
		if fd, err := strconv.Atoi(e.Name()); err == nil && text(syscall.Getpeername(fd)) == to {
			fds[text(syscall.Getsockname(fd))] = fd
		}
	}
	return fds
}

// only is the one that there is.
func only(t *testing.T, fds map[string]int) int {
	t.Helper()
	if len(fds) != 1 {
		t.Fatalf("%d sockets, want one: %v", len(fds), fds)
	}
	for _, fd := range fds {
		return fd
	}
	return -1
}

// option reads a socket option.
func option(t *testing.T, fd, level, name int) int {
	t.Helper()
	v, err := syscall.GetsockoptInt(fd, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLoopsOptionsInTime: a short connection costs no system call for options
// that mean nothing to it. One with a second message has TCP_NODELAY, and one
// that lives on has keep-alive.
func TestLoopsOptionsInTime(t *testing.T) {
	target := plainEcho(t, "tcp")
	s := newStation(t, "tcp", target+"?keepidle=7s&keepinterval=3s&keepcount=2", &relay.Relay{})
	round := func(c net.Conn) {
		t.Helper()
		if _, err := c.Write(text(100)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	plainRound(t, s, "tcp", text(10)) // the loops are there
	s.record()
	var calls atomic.Int64
	restore := sys.Inject(func(c sys.Call, _ int) error {
		if c == sys.CallSetsockopt {
			calls.Add(1)
		}
		return nil
	})
	plainRound(t, s, "tcp", text(10))
	s.record()
	restore()
	if n := calls.Load(); n > 0 {
		t.Errorf("a connection with one message costs %d calls of setsockopt", n)
	}

	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	round(c)
	round(c)
	fd := only(t, socketsTo(t, target[len("tcp://"):]))
	if option(t, fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY) == 0 {
		t.Error("the second message may have been delayed")
	}
	until(t, "keep-alive", func() bool { return option(t, fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) != 0 })
	until(t, "all of it", func() bool { return option(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT) == 2 })
	if idle, interval := option(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE), option(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL); idle != 7 || interval != 3 {
		t.Errorf("keep-alive after %d s, every %d s", idle, interval)
	}
	round(c)
}
