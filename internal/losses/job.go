// This file holds one connection of the run: what is sent, and in which order its
// two ends end it.

package losses

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
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
	serverCloses                  // request of known length, reply; the server disconnects
	clientAborts                  // the client resets in the middle of the request
	serverAborts                  // the server resets in the middle of the reply
	orderCount
)

// possible are the orders whose endings all reach the other side, given what
// the two legs can do.
func possible(in, out anysock.Caps) []order {
	var os []order
	both := in & out
	if both.Has(anysock.CapHalfClose) {
		os = append(os, clientHalfCloses, serverHalfCloses)
	}
	// A leg without half-close holds an end back until the other direction has
	// ended, unless the leg that it comes from has none either.
	if out.Has(anysock.CapHalfClose) || !in.Has(anysock.CapHalfClose) {
		os = append(os, clientCloses)
	}
	if in.Has(anysock.CapHalfClose) || !out.Has(anysock.CapHalfClose) {
		os = append(os, serverCloses)
	}
	if both.Has(anysock.CapAbort) {
		os = append(os, clientAborts, serverAborts)
	}
	return os
}

// A job is one connection. The client sends it first, so that the server knows
// its part.
type job struct {
	Order    order
	Slow     byte // whose reader is slow: 0 nobody, 1 the server, 2 the client
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
var material = sync.OnceValue(func() []byte {
	p := make([]byte, 1<<20)
	x := uint32(2654435761)
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
	return p
})

const maxMessage = 256 << 10

func (j job) up() []byte   { return material()[j.Seed%7919:][:j.Up] }
func (j job) down() []byte { return material()[j.Seed%7907+8000:][:j.Down] }

// newJob is job number i; sizes from nothing to maxMessage, small ones more
// often.
func newJob(i int, orders []order) job {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	size := func() uint32 { return uint32(r.IntN(maxMessage+1)) >> r.IntN(8) }
	j := job{Order: orders[i%len(orders)], Up: size(), Down: size(), Seed: r.Uint32()}
	if r.IntN(8) == 0 {
		j.Slow = byte(1 + r.IntN(2))
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
	case n < len(want):
		return fmt.Errorf("%d of %d bytes: %w", n, len(want), err)
	case n > len(want):
		return fmt.Errorf("a byte too many after %d", len(want))
	case end && !errors.Is(err, io.EOF) && !cleanShort(err):
		return fmt.Errorf("no end after %d bytes: %w", n, err)
	}
	return nil
}

// cleanShort: io.ReadFull's own word for an end after some bytes, and not a
// truncation, which an *anysock.Error says.
func cleanShort(err error) bool {
	var e *anysock.Error
	return errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &e)
}

// expectAbort reads what must be a part of want, and then a reset.
func expectAbort(r io.Reader, want []byte) error {
	got, err := io.ReadAll(r)
	switch {
	case kindOf(err) != anysock.KindReset:
		if err == nil {
			err = io.EOF
		}
		return fmt.Errorf("want a reset after %d bytes, got %w", len(got), err)
	case !bytes.HasPrefix(want, got):
		return fmt.Errorf("wrong bytes among %d", len(got))
	}
	return nil
}

func kindOf(err error) anysock.Kind {
	var e *anysock.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return anysock.KindOther
}

// jobDeadline bounds one connection; under load they take turns.
const jobDeadline = 100 * time.Second

// client plays the client's part of j.
func (j job) client(c *anysock.Conn) error {
	if err := c.SetDeadline(time.Now().Add(jobDeadline)); err != nil {
		return err
	}
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
	case clientCloses, serverCloses:
		if _, err := c.Write(j.up()); err != nil {
			return err
		}
		if err := expect(in, j.down(), j.Order == serverCloses); err != nil {
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

// serve plays the server's part.
func serve(c *anysock.Conn) error {
	if err := c.SetDeadline(time.Now().Add(jobDeadline)); err != nil {
		return err
	}
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
	case clientCloses, serverCloses:
		if err := expect(in, j.up(), false); err != nil {
			return err
		}
		if _, err := c.Write(j.down()); err != nil {
			return err
		}
		if j.Order == serverCloses {
			break
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
	case serverHalfCloses, serverCloses:
		return anysock.Graceful, relay.Outbound
	case clientAborts:
		return anysock.AbortedByPeer, relay.Inbound
	default:
		return anysock.AbortedByPeer, relay.Outbound
	}
}
