package sys

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// wishes are values that neither Linux nor package net has by itself.
var wishes = []struct {
	name       string
	option     Option
	level, num int
	set, want  int
}{
	{"SO_RCVBUF", ReceiveBuffer, unix.SOL_SOCKET, unix.SO_RCVBUF, 40_000, 80_000}, // Linux doubles it
	{"SO_SNDBUF", SendBuffer, unix.SOL_SOCKET, unix.SO_SNDBUF, 50_000, 100_000},
	{"TCP_NODELAY", NoDelay, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0, 0},
	{"TCP_KEEPIDLE", KeepIdle, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77, 77},
	{"TCP_KEEPINTVL", KeepInterval, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5, 5},
	{"TCP_KEEPCNT", KeepCount, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 2, 2},
	{"SO_KEEPALIVE", KeepAlive, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, 1},
}

// wantOption asks the kernel about a connection.
func wantOption(t *testing.T, fd *FD, who, name string, level, num, want int) {
	t.Helper()
	var got int
	var err error
	if cerr := fd.SyscallConn().Control(func(n uintptr) { got, err = unix.GetsockoptInt(int(n), level, num) }); cerr != nil || err != nil {
		t.Fatal(name, cerr, err)
	}
	if got != want {
		t.Errorf("%s: %s is %d, want %d", who, name, got, want)
	}
}

// connectedPair is a connection to a new listener; set is done to both sockets.
func connectedPair(t *testing.T, set func(s *Socket)) (dialed, accepted *FD) {
	t.Helper()
	ls, err := Open(Inet4)
	if err != nil {
		t.Fatal(err)
	}
	defer ls.Close()
	set(ls)
	if err := ls.Bind(IPAddr(netip.MustParseAddrPort("127.0.0.1:0"))); err != nil {
		t.Fatal(err)
	}
	ln, err := ls.Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ds, err := Open(Inet4)
	if err != nil {
		t.Fatal(err)
	}
	defer ds.Close()
	set(ds)
	dialed, err = ds.Connect(ln.LocalAddr())
	if err == nil {
		err = dialed.FinishConnect()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	accepted, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return dialed, accepted
}

// TestOptionsOfConnections: what is set before Listen or Connect counts for the
// connection, whoever accepts it.
func TestOptionsOfConnections(t *testing.T) {
	dialed, accepted := connectedPair(t, func(s *Socket) {
		for _, w := range wishes {
			if err := s.SetInt(w.option, w.set); err != nil {
				t.Fatal(w.name, err)
			}
		}
	})
	for _, w := range wishes {
		wantOption(t, dialed, "dialed", w.name, w.level, w.num, w.want)
		wantOption(t, accepted, "accepted", w.name, w.level, w.num, w.want)
	}
}

// TestKeepAliveOff: off stays off, though its times were set before.
func TestKeepAliveOff(t *testing.T) {
	dialed, accepted := connectedPair(t, func(s *Socket) {
		for _, w := range wishes {
			_ = s.SetInt(w.option, w.set)
		}
		if err := s.SetInt(KeepAlive, 0); err != nil {
			t.Fatal(err)
		}
	})
	wantOption(t, dialed, "dialed", "SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	wantOption(t, accepted, "accepted", "SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
}

// TestOptionsAreSetAgain: where an accepted socket inherits nothing.
func TestOptionsAreSetAgain(t *testing.T) {
	_, accepted := connectedPair(t, func(*Socket) {})
	opts := map[Option]int{ReuseAddr: 1}
	for _, w := range wishes {
		opts[w.option] = w.set
	}
	applyOptions(accepted, opts)
	for _, w := range wishes {
		wantOption(t, accepted, "accepted", w.name, w.level, w.num, w.want)
	}
}
