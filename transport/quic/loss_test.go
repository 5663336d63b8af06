// This file tests endings over a path that loses and reorders packets: nothing
// is lost, no end is false, no ending is said to be worse than it was.

package quic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/anysock/anysock"
)

// A session through the bad path: a request, an end, a reply, an end, and a
// Disconnect or a Close on each side.
func TestLossAndReorderingLoseNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ln := r.listen("")
	p := newProxy(t, ln.Addr())
	const rounds, most = 40, 200_000
	var group anysock.Group
	for i := range rounds {
		p.loss.Store(0) // handshakes are not what is tested
		ctx := bound(t)
		d := anysock.Dialer{Group: &group}
		a, err := d.Dial(ctx, r.dialTo(p.addr(), ""))
		if err != nil {
			t.Fatal(err)
		}
		b, err := ln.AcceptContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		p.loss.Store(int64(100 + 100*(i%2)))
		p.reorder.Store(200)
		request, reply := make([]byte, rand.IntN(most)), make([]byte, rand.IntN(most))
		served := make(chan error, 1)
		go func() { served <- serveOnce(ctx, b, reply, len(request), i%4 == 3) }()
		if err := askOnce(ctx, a, request, reply, i%4 == 2); err != nil {
			t.Fatalf("round %d: the client: %v", i, err)
		}
		if err := <-served; err != nil {
			t.Fatalf("round %d: the server: %v", i, err)
		}
		for who, c := range map[string]*anysock.Conn{"client": a, "server": b} {
			<-c.Done()
			if e := c.End(); e.How != anysock.Graceful || e.AckedBy != anysock.AckedKernel || e.Unacked != 0 {
				t.Fatalf("round %d: the %s's ending is %v", i, who, e)
			}
		}
	}
	if _, err := group.Wait(bound(t)); err != nil {
		t.Fatal(err)
	}
}

// serveOnce reads the request to its end, replies and ends.
func serveOnce(ctx context.Context, c *anysock.Conn, reply []byte, want int, closeOnly bool) error {
	got, err := io.ReadAll(c)
	if err != nil || len(got) != want {
		return errors.Join(err, errors.New("the request is incomplete"))
	}
	if _, err := c.Write(reply); err != nil {
		return err
	}
	if closeOnly {
		return c.Close()
	}
	_, err = c.Disconnect(ctx)
	return err
}

// askOnce sends the request and its end, reads the reply to its end, and ends.
func askOnce(ctx context.Context, c *anysock.Conn, request, reply []byte, closeOnly bool) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, reply) {
		return errors.Join(err, errors.New("the reply is incomplete"))
	}
	if closeOnly {
		return c.Close()
	}
	_, err = c.Disconnect(ctx)
	return err
}

// What a Disconnect called graceful is there, though the packets were lost
// again and again and the process that sent it is gone: the reader reads only
// after that.
func TestGracefulMeansArrived(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ln := r.listen("")
	p := newProxy(t, ln.Addr())
	for range 10 {
		p.loss.Store(0)
		p.cut.Store(false)
		ctx := bound(t)
		a, b := r.pair(ctx, ln, p.addr(), "")
		p.loss.Store(150)
		data := bytes.Repeat([]byte("end"), 100_000)
		if _, err := a.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := b.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		e, err := a.Disconnect(ctx)
		if err != nil || e.How != anysock.Graceful || e.AckedBy != anysock.AckedKernel {
			t.Fatalf("Disconnect: %v, %v", e, err)
		}
		p.cut.Store(true) // as if the sender's process, and its host, were gone
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes arrived, %v", len(got), len(data), err)
		}
	}
}
