// This file holds the cases about Close: it never blocks, never destroys, and
// is waited for by its Group. Contracts 2 and 5.

package socktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/anysock/anysock"
)

// aLotThenCloseArrives: what Write accepted reaches a slow reader after Close.
func aLotThenCloseArrives(k *kit) {
	k.both(func(x, y conn) {
		sent := start(k, "Write and Close", func() moved {
			m := write(x, 0, k.bulk)
			return moved{m.n, errors.Join(m.err, x.Close())}
		})
		sent.settle()
		got := moved{}
		buf := make([]byte, 16<<10)
		for got.err == nil {
			n, err := y.Read(buf)
			k.check("reading", right(buf[:n], got.n))
			got.n, got.err = got.n+int64(n), err
			k.idle(time.Millisecond)
		}
		if errors.Is(got.err, io.EOF) {
			got.err = nil
		}
		k.wantEnd("reading slowly", got, int64(k.bulk))
		k.check("sending", sent.wait().err)
		k.check("Close", y.Close())
		if e := k.end(x); !e.How.Complete() || e.Sent != int64(k.bulk) || e.Unacked != 0 {
			k.Errorf("the ending is %q, want a complete one of %d bytes", e, k.bulk)
		}
	})
}

// closeWithUnreadData: data that we have not read does not cost the peer the
// reply that it has not read; close(2) of such a socket is a reset.
func closeWithUnreadData(k *kit) {
	k.both(func(x, y conn) {
		unread := k.send(y, 0, 64<<10)
		reply := k.send(x, 0, 30_000)
		k.check("Close", x.Close())
		got := readToEnd(y, 0)
		k.wantEnd("the reply", got, reply.wait().n)
		n := unread.wait().n
		k.check("Close", y.Close())
		e := k.end(x)
		k.wantHow("the closing end", e, anysock.Graceful)
		if e.Drained != n {
			k.Errorf("%d bytes were drained; the peer had sent %d", e.Drained, n)
		}
	})
}

// closeNeverBlocks: Close returns while the peer reads nothing, and what was
// accepted arrives when it does.
func closeNeverBlocks(k *kit) {
	k.both(func(x, y conn) {
		written := k.flood(x)
		k.quiet(x.Sent)
		closed := start(k, "Close", x.Close)
		k.check("Close", closed.wait())
		m := written.wait()
		k.wantIs("Write at work", m.err, net.ErrClosed)
		k.wantEnd("reading", readToEnd(y, 0), m.n)
		k.check("Close", y.Close())
		if e := k.end(x); !e.How.Complete() || e.Sent != m.n {
			k.Errorf("the ending is %q, want a complete one of %d bytes", e, m.n)
		}
	}, smallBuffers)
}

// groupWaitsForClose: the Group knows the disconnect that Close has left in
// the background, and Wait returns when it is done.
func groupWaitsForClose(k *kit) {
	k.both(func(x, y conn) {
		k.check("writing", write(x, 0, 1000).err)
		k.check("Close", x.Close())
		if n := k.group.Pending(); n != 1 {
			k.Fatalf("%d disconnects are at work, want 1", n)
		}
		short, cancel := context.WithTimeout(k.ctx, quietTime)
		defer cancel()
		ends, err := k.group.Wait(short)
		k.wantIs("Wait while the peer has not ended", err, context.DeadlineExceeded)
		var we *anysock.WaitError
		if !errors.As(err, &we) || we.Pending != 1 || len(ends) != 1 || ends[0].How != anysock.NotEnded {
			k.Fatalf("Wait says %v and lists %v, want one that has not ended", err, ends)
		}
		waited := start(k, "Group.Wait", func() error { _, err := k.group.Wait(k.ctx); return err })
		k.wantEnd("reading", readToEnd(y, 0), 1000)
		if !waited.running() {
			k.Errorf("Wait returned before the peer's end")
		}
		k.check("Close", y.Close())
		k.check("Wait", waited.wait())
		k.wantHow("the closed end", k.end(x), anysock.Graceful)
	})
}

// blockingCalls are all calls that wait, each until its peer acts.
func blockingCalls(k *kit) map[string]func(c conn) error {
	one := func() []byte { return make([]byte, 1) }
	return map[string]func(c conn) error{
		"Read":         func(c conn) error { _, err := c.Read(one()); return err },
		"ReadContext":  func(c conn) error { _, err := c.ReadContext(k.ctx, one()); return err },
		"ReadAtLeast":  func(c conn) error { _, err := c.ReadAtLeast(k.ctx, one(), 1); return err },
		"Peek":         func(c conn) error { _, err := c.Peek(k.ctx, one()); return err },
		"Wait":         func(c conn) error { _, err := c.Wait(k.ctx, anysock.Readable, 1); return err },
		"ActiveRead":   func(c conn) error { return c.ActiveRead(k.ctx, func([]byte) error { return nil }) },
		"WriteTo":      func(c conn) error { _, err := c.WriteTo(io.Discard); return err },
		"Write":        func(c conn) error { return flood(c, k.most(), hugeChunk).err },
		"WriteContext": func(c conn) error { return flood(contextWriter{k.ctx, c}, k.most(), hugeChunk).err },
		"WriteBuffers": func(c conn) error { return flood(buffersWriter{c}, k.most(), hugeChunk).err },
		"ReadFrom":     func(c conn) error { _, err := c.ReadFrom(endless{}); return err },
	}
}

// hugeChunk is a write that no buffer takes whole, in small buffers.
const hugeChunk = 1 << 20

// A contextWriter writes by WriteContext.
type contextWriter struct {
	ctx context.Context
	c   conn
}

func (w contextWriter) Write(p []byte) (int, error) { return w.c.WriteContext(w.ctx, p) }

// A buffersWriter writes by WriteBuffers, in three pieces.
type buffersWriter struct{ c conn }

func (w buffersWriter) Write(p []byte) (int, error) {
	i, j := len(p)/3, len(p)/2
	n, err := w.c.WriteBuffers([][]byte{p[:i], p[i:j], p[j:]})
	return int(n), err
}

// A copyWriter writes by ReadFrom.
type copyWriter struct{ c conn }

func (w copyWriter) Write(p []byte) (int, error) {
	n, err := w.c.ReadFrom(bytes.NewReader(p))
	return int(n), err
}

// endless is a source of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// closeWakesCallers: every call that waits returns net.ErrClosed when its
// connection is closed, or aborted.
func closeWakesCallers(k *kit) {
	for _, end := range []string{"Close", "Abort"} {
		for name, call := range blockingCalls(k) {
			x, _ := k.pair(smallBuffers)
			t := start(k, name, func() error { return call(x) })
			k.idle(quietTime / 8) // it should wait by now, but need not
			if end == "Close" {
				k.check(end, x.Close())
			} else {
				k.check(end, supported(x.Abort()))
			}
			if err := t.wait(); !errors.Is(err, net.ErrClosed) {
				k.Errorf("%s at work during %s: want an error that matches %q, got %v", name, end, net.ErrClosed, err)
			}
		}
	}
}

// closeRaces: whatever is called at the same time as Close returns, and what
// Write has accepted arrives.
func closeRaces(k *kit) {
	for i := range k.rounds {
		x, y := k.pair()
		got := start(k, "reading", func() moved {
			m := readToEnd(y, 0)
			_ = y.Close()
			return m
		})
		k.raceOn(x, i, "Close", x.Close)
		e := k.end(x)
		k.wantEnd("reading", got.wait(), e.Sent)
		k.wantHow("the closing end", e, anysock.Graceful)
		k.wantHow("the other end", k.end(y), anysock.Graceful)
	}
}
