// This file runs the suite on the transports of the root, and on connections
// of package net.

package socktest

import (
	"context"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/lifecycle" // the transport whose AckedBy is AckedPeer
	"golang.org/x/net/nettest"
)

// unixCaps is what unix declares.
const unixCaps = anysock.CapHalfClose | anysock.CapCutDetect | anysock.CapDeadline

// tcpCaps is what tcp declares; the acknowledgement where the platform can
// tell.
func tcpCaps() anysock.Caps {
	caps := unixCaps | anysock.CapAbort | anysock.CapBindSource
	a, err := anysock.ParseAddress("tcp://localhost:1")
	if err != nil {
		panic(err)
	}
	if here, err := anysock.AddressCaps(a); err == nil {
		caps |= here & anysock.CapCloseAck
	}
	return caps
}

// at is a Transport whose addresses are URLs: listen may make a new one at
// each call, and dial makes one from the listener's.
func at(name string, caps anysock.Caps, listen func() string, dial func(ln *anysock.Listener) string) Transport {
	return Transport{
		Name: name,
		Caps: caps,
		Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
			return lc.Listen(ctx, listen())
		},
		Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
			return d.Dial(ctx, dial(ln))
		},
	}
}

func tcp(name, host string) Transport {
	return at(name, tcpCaps(),
		func() string { return "tcp://" + host + ":0" },
		func(ln *anysock.Listener) string { return "tcp://" + ln.Addr().String() })
}

// numbered makes names that no other listener of this process has.
func numbered(prefix string) func() string {
	var n atomic.Int64
	return func() string { return prefix + strconv.FormatInt(n.Add(1), 10) }
}

// lcOverTCP is the transport whose peer's program acknowledges; package
// lifecycle runs the whole suite on it.
func lcOverTCP() Transport {
	tr := at("lc+tcp", tcpCaps()|anysock.CapCloseAck,
		func() string { return "lc+tcp://127.0.0.1:0" },
		func(ln *anysock.Listener) string { return "lc+tcp://" + ln.Addr().String() })
	tr.AckedBy = anysock.AckedPeer
	return tr
}

func unix(name, prefix string) Transport {
	return at(name, unixCaps, numbered("unix:"+prefix),
		func(ln *anysock.Listener) string { return "unix:" + ln.Addr().String() })
}

func TestTCP4(t *testing.T) { TestTransport(t, tcp("tcp4", "127.0.0.1")) }

func TestTCP6(t *testing.T) {
	if !nettest.SupportsIPv6() {
		t.Skip("no IPv6 on this machine")
	}
	TestTransport(t, tcp("tcp6", "[::1]"))
}

func TestUnixPath(t *testing.T) {
	TestTransport(t, unix("unix", filepath.Join(t.TempDir(), "s")))
}

func TestUnixAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract names are Linux's")
	}
	TestTransport(t, unix("abstract", "@socktest-"+strconv.Itoa(int(time.Now().UnixNano()))+"-"))
}

func TestMem(t *testing.T) {
	caps := tcpCaps() | anysock.CapCloseAck
	tr := at("mem", caps, numbered("mem:socktest-"), func(ln *anysock.Listener) string { return "mem:" + ln.Addr().String() })
	tr.MaxBuffered = 2 * anysock.DefaultMemBuffer
	TestTransport(t, tr)
}

// The connections of package net that Wrap knows, and those that it does not.

func TestWrapTCP(t *testing.T) {
	TestTransport(t, wrapped("tcp", tcpCaps(), func(ctx context.Context) (net.Conn, net.Conn, error) {
		return dialNet[net.Conn](ctx, "tcp", "127.0.0.1:0")
	}))
}

func TestWrapUnix(t *testing.T) {
	path := numbered(filepath.Join(t.TempDir(), "s"))
	TestTransport(t, wrapped("unix", unixCaps, func(ctx context.Context) (net.Conn, net.Conn, error) {
		return dialNet[net.Conn](ctx, "unix", path())
	}))
}

func TestWrapPipe(t *testing.T) {
	TestTransport(t, wrapped("pipe", anysock.CapDeadline, func(context.Context) (net.Conn, net.Conn, error) {
		a, b := net.Pipe()
		return a, b, nil
	}))
}

func TestWrapFramed(t *testing.T) { TestTransport(t, framedTransport(healthy)) }

// Layered addresses: the framing over each base.

func TestLayerTCP(t *testing.T) {
	TestTransport(t, at("ws+tcp", framedOver(tcpCaps()),
		func() string { return "ws+tcp://127.0.0.1:0" },
		func(ln *anysock.Listener) string { return "ws+tcp://" + ln.Addr().String() }))
}

func TestLayerUnix(t *testing.T) {
	TestTransport(t, at("ws+unix", framedOver(unixCaps), numbered("ws+unix:"+filepath.Join(t.TempDir(), "s")),
		func(ln *anysock.Listener) string { return "ws+unix:" + ln.Addr().String() }))
}

func TestLayerMem(t *testing.T) {
	TestTransport(t, at("ws+mem", framedOver(tcpCaps()), numbered("ws+mem:layered-"),
		func(ln *anysock.Listener) string { return "ws+mem:" + ln.Addr().String() }))
}
