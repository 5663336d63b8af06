package relay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// An order is who ends a connection first, and how.
type order byte

const (
	clientHalfCloses order = iota // request, end; reply, end
	serverHalfCloses              // message, end; answer, end
	clientCloses                  // request, reply of known length; the client disconnects
	clientAborts                  // the client resets in the middle of the request
	serverAborts                  // the server resets in the middle of the reply
	orders
)

// A job is one connection of TestManyConnections. The client sends it first,
// so that the server knows its part.
type job struct {
	Order    order
	Slow     order // whose reader is slow: 0 nobody, 1 the server, 2 the client
	Up, Down uint32
	Cut      uint32 // bytes before the abort
	Seed     uint32
}

const jobSize = 2 + 4*4

func (j job) bytes() []byte {
	b, err := binary.Append(nil, binary.BigEndian, j)
	if err != nil || len(b) != jobSize {
		panic(fmt.Sprint(len(b), err))
	}
	return b
}

// material is what messages are made of: a message is any stretch of it,
// which the seed chooses, so that a byte lost or doubled anywhere shows.
var material = sync.OnceValue(func() []byte { return text(1 << 20) })

const maxMessage = 256 << 10

func (j job) up() []byte   { return material()[j.Seed%7919:][:j.Up] }
func (j job) down() []byte { return material()[j.Seed%7907+8000:][:j.Down] }

// newJob is job number i of the test; sizes from nothing to maxMessage, small
// ones more often.
func newJob(i int) job {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	size := func() uint32 { return uint32(r.IntN(maxMessage+1)) >> r.IntN(8) }
	j := job{Order: order(i % int(orders)), Up: size(), Down: size(), Seed: r.Uint32()}
	if r.IntN(8) == 0 {
		j.Slow = order(1 + r.IntN(2))
	}
	switch j.Order {
	case clientAborts:
		j.Up += 2
		j.Cut = 1 + r.Uint32N(j.Up-1)
	case serverAborts:
		j.Down += 2
		j.Cut = 1 + r.Uint32N(j.Down-1)
	}
	return j
}

// slowReader reads little at a time, and pauses.
type slowReader struct{ c *anysock.Conn }

func (r slowReader) Read(p []byte) (int, error) {
	<-time.After(time.Millisecond)
	return r.c.Read(p[:min(len(p), 8<<10)])
}

func reader(c *anysock.Conn, slow bool) io.Reader {
	if slow {
		return slowReader{c}
	}
	return c
}

// expect reads exactly want, and then, if there is to be an end, that.
func expect(r io.Reader, want []byte, end bool) error {
	got := make([]byte, len(want)+1)
	size := len(want)
	if end {
		size++
	}
	n, err := io.ReadFull(r, got[:size])
	switch {
	case !bytes.Equal(got[:min(n, len(want))], want[:min(n, len(want))]):
		return fmt.Errorf("wrong bytes among %d", n)
	case n != len(want):
		return fmt.Errorf("%d of %d bytes: %w", n, len(want), err)
	case end && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("no end after %d bytes: %w", n, err)
	}
	return nil
}

// expectAbort reads what must be a part of want, and then a reset.
func expectAbort(r io.Reader, want []byte) error {
	got, err := io.ReadAll(r)
	switch {
	case kindOf(err) != anysock.KindReset:
		return fmt.Errorf("want a reset after %d bytes, got %w", len(got), errOr(err, io.EOF))
	case !bytes.HasPrefix(want, got):
		return fmt.Errorf("wrong bytes among %d", len(got))
	}
	return nil
}

func errOr(err, def error) error {
	if err == nil {
		return def
	}
	return err
}

// deadline bounds one connection; under load they take turns.
const jobDeadline = 100 * time.Second

// client plays the client's part of j.
func (j job) client(c *anysock.Conn) error {
	c.SetDeadline(time.Now().Add(jobDeadline))
	in := reader(c, j.Slow == 2)
	if _, err := c.Write(j.bytes()); err != nil {
		return err
	}
	switch j.Order {
	case clientHalfCloses:
		if _, err := c.Write(j.up()); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if err := expect(in, j.down(), true); err != nil {
			return err
		}
	case serverHalfCloses:
		if err := expect(in, j.down(), true); err != nil {
			return err
		}
		if _, err := c.Write(j.up()); err != nil {
			return err
		}
	case clientCloses:
		if _, err := c.Write(j.up()); err != nil {
			return err
		}
		if err := expect(in, j.down(), false); err != nil {
			return err
		}
	case clientAborts:
		if _, err := c.Write(j.up()[:j.Cut]); err != nil {
			return err
		}
		return c.Abort()
	case serverAborts:
		return expectAbort(in, j.down()[:j.Cut])
	}
	return ended(c)
}

// server plays the server's.
func serveJob(c *anysock.Conn) error {
	c.SetDeadline(time.Now().Add(jobDeadline))
	var j job
	head := make([]byte, jobSize)
	if _, err := io.ReadFull(c, head); err != nil {
		// A client that aborts may take even this away, but not cleanly.
		if kindOf(err) == anysock.KindReset {
			return nil
		}
		return fmt.Errorf("head: %w", err)
	}
	if _, err := binary.Decode(head, binary.BigEndian, &j); err != nil {
		return err
	}
	in := reader(c, j.Slow == 1)
	switch j.Order {
	case clientHalfCloses:
		if err := expect(in, j.up(), true); err != nil {
			return err
		}
		if _, err := c.Write(j.down()); err != nil {
			return err
		}
	case serverHalfCloses:
		if _, err := c.Write(j.down()); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if err := expect(in, j.up(), true); err != nil {
			return err
		}
	case clientCloses:
		if err := expect(in, j.up(), false); err != nil {
			return err
		}
		if _, err := c.Write(j.down()); err != nil {
			return err
		}
		if err := expect(in, nil, true); err != nil {
			return err
		}
	case clientAborts:
		return expectAbort(in, j.up()[:j.Cut])
	case serverAborts:
		if _, err := c.Write(j.down()[:j.Cut]); err != nil {
			return err
		}
		return c.Abort()
	}
	return ended(c)
}

// ended disconnects, and requires that all went well.
func ended(c *anysock.Conn) error {
	end, err := c.Disconnect(context.Background())
	if err == nil && end.How != anysock.Graceful {
		err = fmt.Errorf("ended %v", end)
	}
	return err
}

// want is how the relay must have seen j end.
func (j job) want() (anysock.How, relay.Leg) {
	switch j.Order {
	case clientHalfCloses, clientCloses:
		return anysock.Graceful, relay.Inbound
	case serverHalfCloses:
		return anysock.Graceful, relay.Outbound
	case clientAborts:
		return anysock.AbortedByPeer, relay.Inbound
	default:
		return anysock.AbortedByPeer, relay.Outbound
	}
}

// TestManyConnections: random sizes, slow readers, all orders of closing; no
// byte is lost and no end is false. With -relay.full it is 10,000, 1,000 at a
// time.
func TestManyConnections(t *testing.T) {
	total, atOnce := 1000, 200
	if *full {
		total, atOnce = 10_000, 1000
	}
	ln := listen(t, anysock.ListenConfig{}, address(t, "tcp"))
	serve(t, ln, func(c *anysock.Conn) {
		defer c.Abort()
		if err := serveJob(c); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	s := newStation(t, "tcp", dialable(ln), &relay.Relay{})
	jobs := make(map[string][]job) // by the client's address: a port may serve several, one after the other
	var mu sync.Mutex
	var next, moved atomic.Int64
	var clients sync.WaitGroup
	start := time.Now()
	for range atOnce {
		clients.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= total || t.Failed() {
					return
				}
				j := newJob(i)
				c, err := anysock.Dial(context.Background(), s.address)
				if err != nil {
					t.Errorf("job %d: %v", i, err)
					return
				}
				mu.Lock()
				jobs[c.LocalAddr().String()] = append(jobs[c.LocalAddr().String()], j)
				mu.Unlock()
				if err := j.client(c); err != nil {
					t.Errorf("job %d %+v: client %v: %v", i, j, c.LocalAddr(), err)
				}
				moved.Add(c.Sent() + c.Received())
				c.Abort()
			}
		})
	}
	clients.Wait()
	drained, err := s.Shutdown(context.Background())
	if err != nil || drained.Cut != 0 {
		t.Errorf("drained: %+v, %v", drained, err)
	}
	took := time.Since(start)
	if t.Failed() {
		return
	}
	st := s.Stats()
	if st.Accepted != int64(total) || st.Active != 0 || st.Refused != 0 {
		t.Errorf("stats: %+v", st)
	}
	if n := len(s.records); n != total {
		t.Fatalf("%d records of %d connections", n, total)
	}
	for range total {
		rec := s.record()
		port := rec.Inbound.Peer
		i := slices.IndexFunc(jobs[port], func(j job) bool {
			how, by := j.want()
			return how == rec.How && by == rec.By
		})
		if i < 0 {
			t.Errorf("the jobs %+v, but %v", jobs[port], rec)
			continue
		}
		jobs[port] = slices.Delete(jobs[port], i, i+1)
		if rec.How == anysock.Graceful && (rec.ToOutbound.Bytes != rec.Inbound.Received || rec.ToInbound.Bytes != rec.Outbound.Received) {
			t.Errorf("bytes were lost: %v", rec)
		}
	}
	t.Logf("%d connections, %d at a time, %d MB in %v: %.0f a second", total, atOnce, moved.Load()>>20, took.Round(time.Millisecond), float64(total)/took.Seconds())
}
