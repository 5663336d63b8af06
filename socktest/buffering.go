// This file holds the cases about bounded buffering, and about the active
// read, which is built on it: contract 9. Waiting and exact reads are here
// too, because they must not read more than they say.

package socktest

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/anysock/anysock"
)

// writerIsStopped: who writes to a peer that does not read is stopped before
// MaxBuffered bytes, and goes on when the peer reads.
func writerIsStopped(k *kit) {
	k.both(func(x, y conn) {
		writing := k.flood(x)
		n := k.quiet(x.Sent)
		if n > k.MaxBuffered {
			k.Fatalf("a peer that reads nothing was sent %d bytes, the bound is %d", n, k.MaxBuffered)
		}
		if !writing.running() {
			k.Fatalf("Write to a peer that reads nothing returned: %v", writing.val.err)
		}
		k.check("reading", readExactly(y, 0, int(n)+floodChunk))
		k.until("the writer goes on", func() bool { return x.Sent() > n })
	})
}

// activeReadHasOneReadPending: while the handler is at work one read is
// pending and no more, and not returning holds the peer up.
func activeReadHasOneReadPending(k *kit) {
	k.both(func(x, y conn) {
		flooding := k.flood(y)
		var got, atWork atomic.Int64
		entered, gate := make(chan struct{}), make(chan struct{})
		errStop := errors.New("enough")
		reading := start(k, "ActiveRead", func() error {
			return x.ActiveRead(k.ctx, func(p []byte) error {
				if atWork.Add(1) != 1 {
					return errors.New("two handlers at once")
				}
				defer atWork.Add(-1)
				if err := right(p, got.Load()); err != nil {
					return err
				}
				if got.Add(int64(len(p))) == int64(len(p)) {
					close(entered)
					<-gate
				}
				if got.Load() > int64(k.bulk) {
					return errStop
				}
				return nil
			})
		})
		select {
		case <-entered:
		case <-k.ctx.Done():
			close(gate)
			k.Fatalf("the handler was not called")
		}
		first := got.Load()
		pending := x.Received() > first || k.soon(func() bool { return x.Received() > first })
		held := k.quiet(x.Received)
		k.quiet(y.Sent)
		stopped := flooding.running()
		close(gate)
		if !pending {
			k.Errorf("no read is pending while the handler is at work")
		}
		if held > first+anysock.DefaultReadBuffer {
			k.Errorf("%d bytes were received while the handler had the first %d, the bound is %d more", held, first, anysock.DefaultReadBuffer)
		}
		if !stopped {
			k.Errorf("the writer was not stopped: %v", flooding.val.err)
		}
		k.wantIs("ActiveRead", reading.wait(), errStop)
		k.check("reading on", readExactly(x, got.Load(), k.bulk/2))
	}, smallBuffers)
}

// soon is until, for a condition that may not come.
func (k *kit) soon(met func() bool) bool {
	for range 50 {
		if met() {
			return true
		}
		k.idle(quietTime / 10)
	}
	return met()
}

// activeReadKeepsTheRest: whether the handler fails, the context is cancelled
// or the peer ends, what the handler has not seen is there for the next read.
func activeReadKeepsTheRest(k *kit) {
	k.both(func(x, y conn) {
		sent := start(k, "Write", func() moved {
			m := write(y, 0, k.bulk)
			return moved{m.n, errors.Join(m.err, k.finish(y))}
		})
		var got int64
		errStop := errors.New("enough")
		for i := range 20 {
			ctx, cancel := context.WithCancel(k.ctx)
			calls := 0
			err := x.ActiveRead(ctx, func(p []byte) error {
				if err := right(p, got); err != nil {
					return err
				}
				got += int64(len(p))
				if calls++; calls < 3 {
					return nil
				}
				if i%2 == 0 {
					return errStop
				}
				cancel()
				return nil
			})
			cancel()
			switch {
			case err == nil: // the peer's end
			case i%2 == 0:
				k.wantIs("ActiveRead with a handler that fails", err, errStop)
			default:
				k.wantIs("ActiveRead, cancelled", err, context.Canceled)
			}
		}
		rest := readToEnd(x, got)
		k.wantEnd("reading on", moved{rest.n + got, rest.err}, int64(k.bulk))
		k.check("writing", sent.wait().err)
		if err := x.ActiveRead(k.ctx, func(p []byte) error { return errStop }); err != nil {
			k.Errorf("ActiveRead after the peer's end: %v", err)
		}
	})
}

// waitConsumesNothing: waiting, also for a low-water mark, and peeking leave
// every byte to be read.
func waitConsumesNothing(k *kit) {
	k.both(func(x, y conn) {
		sent := k.send(y, 0, 50)
		short, cancel := context.WithTimeout(k.ctx, quietTime)
		defer cancel()
		_, err := x.Wait(short, anysock.Readable, 100)
		k.wantIs("Wait for more than there is", err, context.DeadlineExceeded)
		k.check("writing", sent.wait().err)
		sent = k.send(y, 50, 50)
		r, err := x.Wait(k.ctx, anysock.Readable, 100)
		k.check("Wait", err)
		if r&anysock.Readable == 0 {
			k.Errorf("Wait reports %s, want readable", r)
		}
		k.check("writing", sent.wait().err)
		buf := make([]byte, 60)
		for range 2 {
			n, err := x.Peek(k.ctx, buf)
			k.check("Peek", err)
			k.check("Peek", right(buf[:n], 0))
			if n != len(buf) {
				k.Errorf("Peek shows %d bytes of %d", n, len(buf))
			}
		}
		k.check("reading", readExactly(x, 0, 100))
		k.check("ending", k.finish(y))
		r, err = x.Wait(k.ctx, anysock.Readable, 100)
		k.check("Wait at the peer's end", err)
		if r&anysock.Readable == 0 {
			k.Errorf("Wait at the peer's end reports %s, want readable", r)
		}
		if _, err := x.Peek(k.ctx, buf); !errors.Is(err, io.EOF) {
			k.Errorf("Peek at the peer's end: %v", err)
		}
		k.wantEnd("reading", readToEnd(x, 100), 0)
	})
}

// readAtLeastIsExact: ReadAtLeast returns with as many bytes as it was asked
// for, with fewer only at an end, and says which.
func readAtLeastIsExact(k *kit) {
	k.both(func(x, y conn) {
		drops := start(k, "Write", func() error {
			for i := range int64(100) {
				if m := write(y, i, 1); m.err != nil {
					return m.err
				}
			}
			return nil
		})
		buf := make([]byte, 200)
		n, err := x.ReadAtLeast(k.ctx, buf, 90)
		k.check("ReadAtLeast", err)
		k.check("ReadAtLeast", right(buf[:n], 0))
		if n < 90 {
			k.Fatalf("ReadAtLeast returned %d bytes, want 90 or more", n)
		}
		k.check("reading the rest", readExactly(x, int64(n), 100-n))
		k.check("writing", drops.wait())

		last := start(k, "Write", func() error { return errors.Join(write(y, 100, 10).err, k.finish(y)) })
		n, err = x.ReadAtLeast(k.ctx, buf, 11)
		if n != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
			k.Errorf("ReadAtLeast that the peer's end cuts short: %d, %v; want 10, %v", n, err, io.ErrUnexpectedEOF)
		}
		k.check("ReadAtLeast", right(buf[:n], 100))
		k.check("writing", last.wait())
		for _, low := range []int{0, -1, len(buf) + 1} {
			if n, err := x.ReadAtLeast(k.ctx, buf, low); n != 0 || !isKind(err, anysock.KindState) {
				k.Errorf("ReadAtLeast of %d into %d bytes: %d, %v; want 0 and an error of kind state", low, len(buf), n, err)
			}
		}
	})
}
