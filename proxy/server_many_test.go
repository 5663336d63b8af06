// This file sends many connections through the server, in all orders of
// ending: no byte is lost, and no end is false.

package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// A part says how one connection of TestManyThroughServer goes; the client
// sends it first.
type part struct {
	Order          byte
	Up, Down, Seed uint32
}

// The orders of ending.
const (
	clientEndsFirst = iota
	serverEndsFirst
	clientGivesUp
	serverGivesUp
	ordersOfEnding
)

const partSize = 13

// stuff is what messages are cut from, so that a byte lost or doubled shows.
var stuff = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

func (p part) up() []byte   { return stuff()[p.Seed%7919:][:p.Up] }
func (p part) down() []byte { return stuff()[p.Seed%7907+8000:][:p.Down] }

// partNumber is what connection i does: sizes to 128 KiB, small ones more
// often.
func partNumber(i int) part {
	r := rand.New(rand.NewPCG(2, uint64(i)))
	size := func() uint32 { return 1 + uint32(r.IntN(128<<10))>>r.IntN(8) }
	return part{byte(i % ordersOfEnding), size(), size(), r.Uint32()}
}

// wantExactly reads all of want and then the end.
func wantExactly(c *anysock.Conn, want []byte) error {
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%d of %d bytes, equal %v: %w", len(got), len(want), bytes.Equal(got, want), err)
	}
	return nil
}

// wantCut reads part of want and then a reset.
func wantCut(c *anysock.Conn, want []byte) error {
	got, err := io.ReadAll(c)
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != anysock.KindReset || !bytes.HasPrefix(want, got) {
		return fmt.Errorf("%d of %d bytes, then %w; want a reset", len(got), len(want), err)
	}
	return nil
}

func sendAndEnd(c *anysock.Conn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	return c.CloseWrite()
}

// play is either side's part; server is whose.
func (p part) play(c *anysock.Conn, server bool) error {
	mine, theirs, first, givesUp := p.up(), p.down(), byte(clientEndsFirst), byte(clientGivesUp)
	if server {
		mine, theirs, first, givesUp = theirs, mine, serverEndsFirst, serverGivesUp
	}
	switch p.Order {
	case first:
		if err := sendAndEnd(c, mine); err != nil {
			return err
		}
		if err := wantExactly(c, theirs); err != nil {
			return err
		}
	case clientEndsFirst, serverEndsFirst:
		if err := wantExactly(c, theirs); err != nil {
			return err
		}
		if err := sendAndEnd(c, mine); err != nil {
			return err
		}
	case givesUp:
		if _, err := c.Write(mine); err != nil {
			return err
		}
		return c.Abort()
	default:
		return wantCut(c, theirs)
	}
	end, err := c.Disconnect(context.Background())
	if err == nil && end.How != anysock.Graceful {
		err = fmt.Errorf("ended %v", end)
	}
	return err
}

func TestManyThroughServer(t *testing.T) {
	const total, atOnce = 1200, 150
	to := newTarget(t, "127.0.0.1", func(c *anysock.Conn) {
		_ = c.SetDeadline(time.Now().Add(4 * patience))
		var head [partSize]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindReset { // a client that gives up may take even this away
				t.Errorf("head: %v", err)
			}
			return
		}
		var p part
		if _, err := binary.Decode(head[:], binary.BigEndian, &p); err != nil {
			t.Error(err)
			return
		}
		if err := p.play(c, true); err != nil {
			t.Errorf("server: %+v: %v", p, err)
		}
	})
	st := newStation(t, &Server{})
	hops := []string{"socks5", "socks4", "http"}
	var next, moved atomic.Int64
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for i := int(next.Add(1)) - 1; i < total && !t.Failed(); i = int(next.Add(1)) - 1 {
				p := partNumber(i)
				c, err := anysock.Dial(context.Background(), fmt.Sprintf("%s://%s,tcp://%s", hops[i%len(hops)], st.addr, to))
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(4 * patience))
				head, err := binary.Append(nil, binary.BigEndian, p)
				if err == nil {
					_, err = c.Write(head)
				}
				if err == nil {
					err = p.play(c, false)
				}
				if err != nil {
					t.Errorf("connection %d %+v: %v", i, p, err)
				}
				moved.Add(c.Sent() + c.Received())
				_ = c.Abort()
			}
		})
	}
	clients.Wait()
	d, err := st.Shutdown(context.Background())
	if err != nil || d.Cut != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if t.Failed() {
		return
	}
	var graceful, aborted int
	for range total {
		switch r := st.record(); r.How {
		case anysock.Graceful:
			graceful++
			if r.ToOutbound.Bytes > r.Inbound.Received || r.ToInbound.Bytes != r.Outbound.Received {
				t.Errorf("bytes were lost: %v", r)
			}
		case anysock.AbortedByPeer:
			aborted++
		default:
			t.Errorf("%v", r)
		}
	}
	if graceful != total/2 || aborted != total/2 {
		t.Errorf("%d graceful, %d aborted, of %d", graceful, aborted, total)
	}
	if s := st.Stats(); s.Accepted != total || s.Active != 0 || s.Graceful != total/2 || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
	t.Logf("%d connections, %d MB", total, moved.Load()>>20)
}
