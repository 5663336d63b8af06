// Package net's own conformance suite for connections, on the transports of
// the root.

package anysock_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"golang.org/x/net/nettest"
)

func TestNettest(t *testing.T) {
	for _, tt := range []struct{ name, addr string }{
		{"mem", "mem:nettest"},
		{"mem_small", "mem:nettest?buffer=7"},
		{"tcp4", "tcp://127.0.0.1:0"},
		{"tcp6", "tcp://[::1]:0"},
		{"unix", "unix:" + filepath.Join(t.TempDir(), "s")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "tcp6" && !nettest.SupportsIPv6() {
				t.Skip("no IPv6 on this machine")
			}
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) { return netPipe(tt.addr) })
		})
	}
	t.Run("pipe", func(t *testing.T) {
		nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
			a, b := anysock.Pipe(anysock.Options{})
			return a, b, func() { a.Abort(); b.Abort() }, nil
		})
	})
}

// netPipe listens, dials and accepts.
func netPipe(addr string) (c1, c2 net.Conn, stop func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l, err := anysock.Listen(ctx, addr)
	if err != nil {
		return nil, nil, nil, err
	}
	defer l.Close()
	to := addr
	if l.Network() == "tcp" {
		to = "tcp://" + l.Addr().String()
	}
	d, err := anysock.Dial(ctx, to)
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := l.AcceptContext(ctx)
	if err != nil {
		d.Abort()
		return nil, nil, nil, err
	}
	// Abort says ErrUnsupported on unix and closes all the same; it also ends
	// a disconnect that the test left in the background.
	return d, a, func() { _, _ = d.Abort(), a.Abort() }, nil
}
