// This file holds the cases about cancelling: a cancelled call keeps its byte
// count and leaves the connection, and the caller's deadlines, as they were.
// Contract 8.

package socktest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/anysock/anysock"
)

// offsets are where calls are cancelled: after so many bytes.
var offsets = []int{1, 2, 3, 7, 64, 1000, 1023, 1024, 4095, 4096, 4097, 10_000, 16_383, 16_384, 16_385, 32_768, 65_535, 65_536, 65_537}

// jitter is when the i-th cancel comes: at once, in the middle, or late.
func jitter(i int) time.Duration {
	if i%9 == 8 {
		return 2 * time.Millisecond
	}
	return time.Duration(i%9) * 15 * time.Microsecond
}

// cancelledAfter is a context that is cancelled, by a timer, after d.
func (k *kit) cancelledAfter(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(k.ctx)
	if d == 0 {
		cancel()
		return ctx, cancel
	}
	t := time.AfterFunc(d, cancel)
	return ctx, func() { t.Stop(); cancel() }
}

// wantCancelled fails the case unless err is nil or the cancelled context's.
func (k *kit) wantCancelled(what string, err error) {
	k.Helper()
	if err != nil && !errors.Is(err, context.Canceled) {
		k.Fatalf("%s: want nil or an error that matches %q, got %v", what, context.Canceled, err)
	}
}

// cancelledRead: reads that are cancelled before, while and after data comes
// in lose nothing and double nothing.
func cancelledRead(k *kit) {
	k.both(func(x, y conn) {
		var off int64
		buf := make([]byte, 128<<10)
		for i := range k.rounds * 3 {
			size := offsets[i%len(offsets)]
			ctx, cancel := k.cancelledAfter(jitter(i))
			sent := start(k, "Write", func() moved { return write(y, off, size) })
			n, err := x.ReadContext(ctx, buf)
			cancel()
			k.wantCancelled("ReadContext", err)
			k.check("ReadContext", right(buf[:n], off))
			if err == nil && n == 0 {
				k.Fatalf("ReadContext returned neither bytes nor an error")
			}
			k.check("reading on", readExactly(x, off+int64(n), size-n))
			k.check("writing", sent.wait().err)
			off += int64(size)

			// Nothing is there: only the cancel ends this one.
			ctx, cancel = k.cancelledAfter(jitter(i))
			n, err = x.ReadContext(ctx, buf)
			cancel()
			if n != 0 || !errors.Is(err, context.Canceled) {
				k.Fatalf("ReadContext with nothing to read: %d, %v; want 0, %v", n, err, context.Canceled)
			}
		}
	})
}

// cancelledReadAtLeast: the count of a cancelled ReadAtLeast is what it
// consumed.
func cancelledReadAtLeast(k *kit) {
	const low = 100
	k.both(func(x, y conn) {
		var off int64
		buf := make([]byte, 2*low)
		for _, part := range []int{0, 1, 2, 50, low - 1} {
			ctx, cancel := context.WithCancel(k.ctx)
			reading := start(k, "ReadAtLeast", func() moved {
				n, err := x.ReadAtLeast(ctx, buf, low)
				return moved{int64(n), err}
			})
			sent := start(k, "Write", func() (m moved) {
				if part > 0 { // an empty Write of net.Pipe waits for a reader
					m = write(y, off, part)
				}
				return m
			})
			k.until("what was sent comes in", func() bool { return x.Received() == off+int64(part) })
			cancel()
			m := reading.wait()
			if m.n != int64(part) || !errors.Is(m.err, context.Canceled) {
				k.Fatalf("ReadAtLeast cancelled after %d bytes: %d, %v", part, m.n, m.err)
			}
			k.check("ReadAtLeast", right(buf[:m.n], off))
			k.check("writing", sent.wait().err)
			off += int64(part)
			sent = start(k, "Write", func() moved { return write(y, off, low) })
			n, err := x.ReadAtLeast(k.ctx, buf, low)
			k.check("ReadAtLeast after a cancelled one", err)
			if n != low {
				k.Fatalf("ReadAtLeast returned %d bytes, want %d", n, low)
			}
			k.check("ReadAtLeast", right(buf[:n], off))
			k.check("writing", sent.wait().err)
			off += low
		}
	})
}

// cancelledWrite: what a cancelled write says it sent is what arrives.
func cancelledWrite(k *kit) {
	k.both(func(x, y conn) {
		var sent, got int64
		for _, size := range offsets {
			ctx, cancel := context.WithCancel(k.ctx)
			writing := start(k, "WriteContext", func() moved {
				n, err := x.WriteContext(ctx, data(sent, k.bulk))
				return moved{int64(n), err}
			})
			k.check("reading", readExactly(y, got, size))
			cancel()
			m := writing.wait()
			k.wantCancelled("WriteContext", m.err)
			if m.err == nil && m.n != int64(k.bulk) {
				k.Fatalf("WriteContext: %d of %d bytes and no error", m.n, k.bulk)
			}
			sent, got = sent+m.n, got+int64(size)
		}
		finished := start(k, "ending", func() error { return k.finish(x) })
		k.wantEnd("reading the rest", readToEnd(y, got), sent-got)
		k.check("ending", finished.wait())
	}, smallBuffers)
}

// cancelledWait: a cancelled Wait leaves what comes next.
func cancelledWait(k *kit) {
	k.both(func(x, y conn) {
		var off int64
		for i := range k.rounds {
			ctx, cancel := k.cancelledAfter(jitter(i))
			_, err := x.Wait(ctx, anysock.Readable, 1)
			cancel()
			k.wantIs("Wait with nothing to read", err, context.Canceled)

			ctx, cancel = k.cancelledAfter(jitter(i))
			sent := start(k, "Write", func() moved { return write(y, off, 100) })
			_, err = x.Wait(ctx, anysock.Readable, 100)
			cancel()
			k.wantCancelled("Wait", err)
			k.check("reading after Wait", readExactly(x, off, 100))
			k.check("writing", sent.wait().err)
			off += 100
		}
	})
}

// cancelledAccept: a cancelled AcceptContext leaves the connection to the
// next, and the listener's deadline is what it was.
func cancelledAccept(k *kit) {
	raw, err := k.listen(anysock.Options{})
	k.check("listening", err)
	ln := k.wrapListener(raw)
	for i := range k.rounds / 2 {
		ctx, cancel := k.cancelledAfter(4 * jitter(i))
		dialed := start(k, "Dial", func() error {
			c, err := k.dial(raw, anysock.Options{})
			if err != nil {
				return err
			}
			_, err = c.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
			return err
		})
		c, err := ln.AcceptContext(ctx)
		cancel()
		k.wantCancelled("AcceptContext", err)
		if err != nil {
			c, err = ln.AcceptContext(k.ctx)
			k.check("AcceptContext after a cancelled one", err)
		}
		tag := make([]byte, 4)
		_, err = io.ReadFull(k.owns(c), tag)
		k.check("reading", err)
		if n := binary.BigEndian.Uint32(tag); n != uint32(i) {
			k.Fatalf("connection %d was accepted instead of %d: one was lost", n, i)
		}
		k.check("Dial", dialed.wait())
	}
	deadline := time.Now().Add(2 * quietTime)
	k.check("SetDeadline", ln.SetDeadline(deadline))
	ctx, cancel := k.cancelledAfter(time.Millisecond)
	_, err = ln.AcceptContext(ctx)
	cancel()
	if !errors.Is(err, context.Canceled) && time.Now().Before(deadline) {
		k.Fatalf("AcceptContext with nobody there: want an error that matches %q, got %v", context.Canceled, err)
	}
	k.wantDeadline("AcceptContext after a cancelled one", deadline, func() error { _, err := ln.AcceptContext(k.ctx); return err })
	k.check("SetDeadline", ln.SetDeadline(noDeadline))
	dialed := start(k, "Dial", func() error { _, err := k.dial(raw, anysock.Options{}); return err })
	c, err := ln.AcceptContext(k.ctx)
	k.check("AcceptContext after the deadline was lifted", err)
	k.owns(c)
	k.check("Dial", dialed.wait())
}

// cancelledDisconnect: our direction has ended, and the rest is as before:
// the peer's data comes, and a second Disconnect finishes.
func cancelledDisconnect(k *kit) {
	k.both(func(x, y conn) {
		k.check("writing", write(x, 0, 100).err)
		ctx, cancel := context.WithCancel(k.ctx)
		d := start(k, "Disconnect", func() ended {
			e, err := x.Disconnect(ctx)
			return ended{e, err}
		})
		k.wantEnd("reading", readToEnd(y, 0), 100)
		cancel()
		got := d.wait()
		k.wantIs("the cancelled Disconnect", got.err, context.Canceled)
		k.wantHow("the cancelled Disconnect", got.end, anysock.NotEnded)
		select {
		case <-x.Done():
			k.Fatalf("a cancelled Disconnect ended the connection: %v", x.End())
		default:
		}
		k.check("writing", write(y, 0, 50).err)
		k.check("reading after a cancelled Disconnect", readExactly(x, 0, 50))
		d2 := k.disconnect(x)
		k.check("CloseWrite", y.CloseWrite())
		k.wantGraceful(x, d2.wait(), anysock.Us, 100, 50, 0)
	})
}
