// This file runs the conformance suite on lc over what the root carries.

package lifecycle

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/socktest"
)

const (
	lcCaps     = own | anysock.CapDeadline
	lcCapsBind = lcCaps | anysock.CapBindSource
)

// numbered makes addresses that no other listener of this process has.
func numbered(prefix string) func() string {
	var n atomic.Int64
	return func() string { return prefix + strconv.FormatInt(n.Add(1), 10) }
}

// at is a Transport of addresses: listen makes a new one at each call, and
// dial makes one from the listener's.
func at(name string, caps anysock.Caps, listen func() string, dial func(bound string) string) socktest.Transport {
	return socktest.Transport{
		Name: name, Caps: caps, AckedBy: anysock.AckedPeer,
		Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
			return lc.Listen(ctx, listen())
		},
		Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
			return d.Dial(ctx, dial(ln.Addr().String()))
		},
	}
}

func TestOverTCP(t *testing.T) {
	t.Parallel() // most of it is waiting
	tr := at("lc+tcp", lcCapsBind, func() string { return "lc+tcp://127.0.0.1:0" }, func(b string) string { return "lc+tcp://" + b })
	tr.CutPair = cutPair("tcp", "127.0.0.1:0")
	socktest.TestTransport(t, tr)
}

func TestOverUnix(t *testing.T) {
	t.Parallel() // most of it is waiting
	tr := at("lc+unix", lcCaps, numbered("lc+unix:"+filepath.Join(t.TempDir(), "s")), func(b string) string { return "lc+unix:" + b })
	tr.CutPair = cutPair("unix", filepath.Join(t.TempDir(), "cut"))
	socktest.TestTransport(t, tr)
}

func TestOverMem(t *testing.T) {
	t.Parallel() // most of it is waiting
	tr := at("lc+mem", lcCapsBind, numbered("lc+mem:lifecycle-"), func(b string) string { return "lc+mem:" + b })
	tr.MaxBuffered = 2*anysock.DefaultMemBuffer + 2*MaxData + readAhead
	socktest.TestTransport(t, tr)
}

// over makes a pair of lc streams over two ends that are connected.
func over(ctx context.Context, a, b net.Conn, opts anysock.Options) (x, y *anysock.Conn, err error) {
	belowX, belowY := anysock.Wrap(a, opts), anysock.Wrap(b, opts)
	served := make(chan error, 1)
	var sy net.Conn
	go func() {
		var err error
		sy, err = server(ctx, belowY, anysock.Target{})
		served <- err
	}()
	sx, err := client(ctx, belowX, anysock.Target{})
	if err = errors.Join(err, <-served); err != nil {
		_ = belowX.Abort()
		_ = belowY.Abort()
		return nil, nil, err
	}
	return anysock.Wrap(sx, opts), anysock.Wrap(sy, opts), nil
}

// netPair makes a connection of package net.
func netPair(ctx context.Context, network, addr string) (a, b net.Conn, err error) {
	ln, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if a, err = new(net.Dialer).DialContext(ctx, network, ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = ln.Accept(); err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// cutPair makes a pair whose carriers end in order, as that of a killed
// program does, when cut is called.
func cutPair(network, addr string) func(context.Context, anysock.Options) (*anysock.Conn, *anysock.Conn, func() error, error) {
	return func(ctx context.Context, opts anysock.Options) (x, y *anysock.Conn, cut func() error, err error) {
		a, b, err := netPair(ctx, network, addr)
		if err != nil {
			return nil, nil, nil, err
		}
		halves := []interface{ CloseWrite() error }{a.(interface{ CloseWrite() error }), b.(interface{ CloseWrite() error })}
		cx, cy := &cuttable{Conn: a, half: halves[0]}, &cuttable{Conn: b, half: halves[1]}
		x, y, err = over(ctx, cx, cy, opts)
		return x, y, func() error { return errors.Join(cx.half.CloseWrite(), cy.half.CloseWrite()) }, err
	}
}

// A cuttable is a carrier whose end the test keeps for itself.
type cuttable struct {
	net.Conn
	half interface{ CloseWrite() error }
}

func (c *cuttable) CloseWrite() error { return c.half.CloseWrite() }
