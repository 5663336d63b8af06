// This file tests addresses, options, errors and capabilities: all that needs
// no other machine and no loopback.

package vsock

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

func TestAddresses(t *testing.T) {
	const most = 4294967295
	for _, tt := range []struct {
		host, port string
		dial       sys.Addr // zero: refused
		listen     sys.Addr
	}{
		{"3", "1024", sys.VsockAddr(3, 1024), sys.VsockAddr(3, 1024)},
		{"2", "4294967294", sys.VsockAddr(2, most-1), sys.VsockAddr(2, most-1)},
		{"0", "1", sys.VsockAddr(0, 1), sys.VsockAddr(0, 1)},
		{"", "1024", sys.VsockAddr(1, 1024), sys.VsockAddr(most, 1024)},
		{"4294967295", "7", sys.VsockAddr(1, 7), sys.VsockAddr(most, 7)},
		{"", "0", sys.Addr{}, sys.VsockAddr(most, most)},
		{"5", "4294967295", sys.Addr{}, sys.VsockAddr(5, most)},
	} {
		text := "vsock://" + tt.host + ":" + tt.port
		hop := anysock.MustParseAddress(text).Hops()[0]
		got, err := dialAddr(hop.Host, hop.Port)
		if got != tt.dial {
			t.Errorf("dial %s: %+v", text, got)
		}
		if tt.dial == (sys.Addr{}) {
			_ = as(t, err, anysock.KindAddress)
		} else if err != nil {
			t.Errorf("dial %s: %v", text, err)
		}
		if got, err := listenAddr(hop.Host, hop.Port); got != tt.listen || err != nil {
			t.Errorf("listen %s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range [][2]string{{"x", "1"}, {"1", "y"}, {"4294967296", "1"}, {"1", "-1"}, {"1", ""}} {
		_, err := dialAddr(bad[0], bad[1])
		_ = as(t, err, anysock.KindAddress)
		_, err = listenAddr(bad[0], bad[1])
		_ = as(t, err, anysock.KindAddress)
	}
}

func TestAddrPrintsAsInAnAddress(t *testing.T) {
	for _, tt := range []struct {
		a    sys.Addr
		want string
	}{
		{sys.VsockAddr(3, 1024), "3:1024"},
		{sys.VsockAddr(sys.VsockAny, 7), ":7"},
		{sys.VsockAddr(0, 4294967294), "0:4294967294"},
	} {
		a := tt.a.Net()
		if a.Network() != "vsock" || a.String() != tt.want {
			t.Errorf("%s %s, want vsock %s", a.Network(), a, tt.want)
		}
		if _, err := anysock.ParseAddress("vsock://" + a.String()); err != nil {
			t.Error(err)
		}
	}
}

func TestOptions(t *testing.T) {
	for text, wrong := range map[string]string{
		"vsock://3:1?timeout=2s":           "",
		"vsock://3:1?backlog=7":            "",
		"vsock://:1?maxconns=7":            "",
		"vsock://3:1?drainbytes=7":         "",
		"tls+vsock://3:1?timeout=1s":       "tls", // no such transport here
		"vsock://3:1?rcvbuf=7":             "unknown option rcvbuf",
		"vsock://3:1?nodelay=1":            "unknown option nodelay",
		"vsock://3:1?timeout=soon":         "must be a duration",
		"vsock://3:1?backlog=many":         "must be a whole number",
		"vsock://3:1?timeout=1s,tcp://h:1": "vsock",
	} {
		a, err := anysock.ParseAddress(text)
		if err == nil {
			err = a.Check()
		}
		if wrong == "" && err != nil || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)) {
			t.Errorf("%s: %v, want %q", text, err, wrong)
		}
	}
	if _, err := anysock.Listen(bounded(t), "vsock://:0?timeout=1s"); err == nil || !strings.Contains(err.Error(), "means nothing for listening") {
		t.Errorf("timeout for listening: %v", err)
	}
	if _, err := anysock.Dial(bounded(t), "vsock://3:1?backlog=1"); err == nil || !strings.Contains(err.Error(), "means nothing for dialing") {
		t.Errorf("backlog for dialing: %v", err)
	}
}

func TestCaps(t *testing.T) {
	got, err := anysock.AddressCaps(anysock.MustParseAddress("vsock://3:1024"))
	if err != nil || got != anysock.CapHalfClose|anysock.CapDeadline {
		t.Errorf("caps %v, %v", got, err)
	}
}

// TestErrors makes each system call fail. Nothing leaves this machine.
func TestErrors(t *testing.T) {
	needsVsock(t)
	for _, tt := range []struct {
		name   string
		call   sys.Call
		err    error
		listen bool
		kind   anysock.Kind
		hint   string
	}{
		{"no vsock", sys.CallSocket, syscall.EAFNOSUPPORT, false, anysock.KindUnsupported, "module vsock"},
		{"no vsock to listen", sys.CallSocket, syscall.EAFNOSUPPORT, true, anysock.KindUnsupported, "module vsock"},
		{"no descriptor", sys.CallSocket, syscall.EMFILE, false, anysock.KindLimit, "ulimit"},
		{"nobody listens", sys.CallConnect, syscall.ECONNRESET, false, anysock.KindRefused, "nothing listens"},
		{"no transport", sys.CallConnect, syscall.ENODEV, false, anysock.KindUnreachable, "vhost_vsock"},
		{"no answer", sys.CallConnect, syscall.ETIMEDOUT, false, anysock.KindTimeout, "nobody answers"},
		{"forbidden", sys.CallConnect, syscall.EPERM, false, anysock.KindPermission, ""},
		{"port taken", sys.CallBind, syscall.EADDRINUSE, true, anysock.KindInUse, "ss -l --vsock"},
		{"not our identifier", sys.CallBind, syscall.EADDRNOTAVAIL, true, anysock.KindUnreachable, "not a context identifier of this machine"},
		{"reserved port", sys.CallBind, syscall.EACCES, true, anysock.KindPermission, "1024"},
		{"listen fails", sys.CallListen, syscall.EADDRINUSE, true, anysock.KindInUse, ""},
		{"something else", sys.CallConnect, syscall.EIO, false, anysock.KindOther, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer sys.Inject(func(c sys.Call, _ int) error {
				if c == tt.call {
					return tt.err
				}
				return nil
			})()
			var err error
			if tt.listen {
				_, err = anysock.Listen(bounded(t), "vsock://:0")
			} else {
				_, err = anysock.Dial(bounded(t), "vsock://3:1024?timeout=1s")
			}
			e := as(t, err, tt.kind)
			if !errors.Is(err, tt.err) {
				t.Errorf("%v does not match the errno", err)
			}
			if !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("hint %q, want %q", e.Hint, tt.hint)
			}
			if !strings.HasPrefix(e.Addr, "vsock:") {
				t.Errorf("address %q", e.Addr)
			}
			if !tt.listen && (len(e.Attempts) != 1 || !errors.Is(e.Attempts[0].Err, tt.err)) {
				t.Errorf("attempts %v", e.Attempts)
			}
		})
	}
}

// TestDialToThisMachineWithoutLoopback: the error comes at once, and the
// hypervisor is not asked.
func TestDialToThisMachineWithoutLoopback(t *testing.T) {
	needsVsock(t)
	connects := 0
	defer sys.Inject(func(c sys.Call, _ int) error {
		switch c {
		case sys.CallBind:
			return syscall.EADDRNOTAVAIL
		case sys.CallConnect:
			connects++
			return syscall.ECONNRESET
		}
		return nil
	})()
	for _, text := range []string{"vsock://1:1024", "vsock://:1024"} {
		_, err := anysock.Dial(bounded(t), text)
		if e := as(t, err, anysock.KindUnreachable); !strings.Contains(e.Hint, "vsock_loopback") {
			t.Errorf("%s: hint %q", text, e.Hint)
		}
	}
	if connects != 0 {
		t.Errorf("%d connects", connects)
	}
}

func TestCanceledBeforeDialing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := anysock.Dial(ctx, "vsock://3:1024")
	_ = as(t, err, anysock.KindCanceled)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err = anysock.Dial(ctx, "vsock://3:1024")
	_ = as(t, err, anysock.KindTimeout)
}

func TestLocalEndCannotBeChosen(t *testing.T) {
	for _, d := range []anysock.Dialer{{Local: "3:1"}, {Interface: "lo"}} {
		_, err := d.Dial(bounded(t), "vsock://3:1024")
		_ = as(t, err, anysock.KindUnsupported)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
}

func TestListener(t *testing.T) {
	needsVsock(t)
	ln, err := anysock.Listen(bounded(t), "vsock://:0?backlog=3")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := ln.Addr(); got.Network() != "vsock" || !strings.HasPrefix(got.String(), ":") || got.String() == ":0" {
		t.Errorf("address %s %s", got.Network(), got)
	}
	if ln.Caps() != caps {
		t.Errorf("caps %v", ln.Caps())
	}
	if _, err := ln.SyscallConn(); err != nil {
		t.Errorf("no descriptor: %v", err)
	}
	// The port is taken.
	_, err = anysock.Listen(bounded(t), "vsock://"+ln.Addr().String())
	_ = as(t, err, anysock.KindInUse)

	if err := ln.SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past its deadline: %v", err)
	}
	if err := ln.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		accepted <- err
	}()
	if conns, err := ln.Drain(); len(conns) != 0 || err != nil {
		t.Errorf("drained %d, %v", len(conns), err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
}

func TestForeignIdentifier(t *testing.T) {
	needsVsock(t)
	_, err := anysock.Listen(bounded(t), "vsock://4294967290:0") // reserved: nobody's
	_ = as(t, err, anysock.KindUnreachable)
}
