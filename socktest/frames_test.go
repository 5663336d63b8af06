// This file holds a small framing, which stands for the transports that are no
// kernel sockets: it has ends and data in frames of its own, so a carrier that
// is cut shows, and it has no acknowledgement. It runs over TCP connections of
// package net, and as a layer in addresses.

package socktest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/anysock/anysock"
)

const framedCaps = anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline

// framedOver is what it can do over a carrier that can do so much.
func framedOver(below anysock.Caps) anysock.Caps {
	return below&framedCaps | anysock.CapHalfClose | anysock.CapCutDetect
}

// A carrier is what frames run over: a *net.TCPConn or a *anysock.Conn.
type carrier interface {
	net.Conn
	CloseWrite() error
}

// A frame is its length in two bytes and so much data. Length 0 is the end.
const maxFrame = 4096

// A framed is one end. Like the streams of all transports it is used by one
// reader and one writer at a time.
type framed struct {
	carrier
	caps anysock.Caps

	// reading
	head []byte // of the frame that comes in, as far as it is there
	left int    // data to come in it
	over bool   // the end was read

	// writing; mu because Close may come beside a write
	mu    sync.Mutex
	out   []byte // the frame that goes out, as far as it is not sent
	ended bool
}

func frames(c carrier, caps anysock.Caps) *framed { return &framed{carrier: c, caps: caps} }

func (f *framed) Caps() anysock.Caps { return f.caps }

func (f *framed) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.over {
			return 0, io.EOF
		}
		buf := make([]byte, 2-len(f.head))
		n, err := f.carrier.Read(buf)
		f.head = append(f.head, buf[:n]...)
		if len(f.head) == 2 {
			f.left = int(binary.BigEndian.Uint16(f.head))
			f.head = f.head[:0]
			f.over = f.left == 0
			continue
		}
		if err != nil {
			return 0, cutShort(err)
		}
	}
	n, err := f.carrier.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, cutShort(err)
}

// cutShort makes the carrier's end an error: ours is a frame.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write counts what is in frames: a frame that a deadline cut is finished by
// the next call.
func (f *framed) Write(p []byte) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if err := f.flush(); err != nil {
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
		m := min(len(p)-n, maxFrame)
		f.out = append(binary.BigEndian.AppendUint16(f.out[:0], uint16(m)), p[n:n+m]...)
		n += m
	}
}

func (f *framed) flush() error {
	n, err := f.carrier.Write(f.out)
	f.out = f.out[n:]
	return err
}

func (f *framed) CloseWrite() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.ended = true
		f.out = append(f.out, 0, 0)
	}
	return f.flush()
}

func (f *framed) Abort() error {
	switch c := f.carrier.(type) {
	case *anysock.Conn:
		return c.Abort()
	case *net.TCPConn:
		return errors.Join(c.SetLinger(0), c.Close())
	}
	return errors.Join(f.Close(), errors.ErrUnsupported)
}

// cut ends the carrier without the frame that ends the stream.
func (f *framed) cut() error { return f.carrier.CloseWrite() }

// dialTCP makes a TCP connection of package net.
func dialTCP(ctx context.Context) (a, b *net.TCPConn, err error) {
	return dialNet[*net.TCPConn](ctx, "tcp", "127.0.0.1:0")
}

// dialNet makes a connection of package net.
func dialNet[C net.Conn](ctx context.Context, network, addr string) (a, b C, err error) {
	ln, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if err != nil {
		return a, b, err
	}
	defer ln.Close()
	x, err := new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
	if err != nil {
		return a, b, err
	}
	y, err := ln.Accept()
	if err != nil {
		x.Close()
		return a, b, err
	}
	return x.(C), y.(C), nil
}

// wrapped is a Transport of connections that somebody else makes.
func wrapped(name string, caps anysock.Caps, pair func(ctx context.Context) (a, b net.Conn, err error)) Transport {
	return Transport{
		Name: name,
		Caps: caps,
		Pair: func(ctx context.Context, opts anysock.Options) (*anysock.Conn, *anysock.Conn, error) {
			a, b, err := pair(ctx)
			if err != nil {
				return nil, nil, err
			}
			return anysock.Wrap(a, opts), anysock.Wrap(b, opts), nil
		},
	}
}

// framedTransport is the framing as a Transport. change may put a defect into
// an end.
func framedTransport(change func(f *framed) net.Conn) Transport {
	tr := wrapped("framed", framedCaps, func(ctx context.Context) (net.Conn, net.Conn, error) {
		a, b, err := dialTCP(ctx)
		if err != nil {
			return nil, nil, err
		}
		return change(frames(a, framedCaps)), change(frames(b, framedCaps)), nil
	})
	tr.CutPair = func(ctx context.Context, opts anysock.Options) (*anysock.Conn, *anysock.Conn, func() error, error) {
		a, b, err := dialTCP(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		x, y := frames(a, framedCaps), frames(b, framedCaps)
		cut := func() error { return errors.Join(x.cut(), y.cut()) }
		return anysock.Wrap(change(x), opts), anysock.Wrap(change(y), opts), cut, nil
	}
	return tr
}

func healthy(f *framed) net.Conn { return f }

// init registers the framing as a layer, under a word that the grammar has and
// that nothing else in these tests stands for.
func init() {
	layer := func(_ context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
		return frames(below, t.Caps), nil
	}
	anysock.Register(anysock.Transport{Scheme: "ws", Caps: func(below anysock.Caps, _ anysock.Target) anysock.Caps { return framedOver(below) }, Client: layer, Server: layer})
}
