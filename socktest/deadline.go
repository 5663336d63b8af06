// This file holds the cases about deadlines: contract 8.

package socktest

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/anysock/anysock"
)

var (
	longPast   = time.Unix(1, 0) // a deadline that has passed
	noDeadline time.Time
)

// deadlineFarOff is one that no test reaches.
func deadlineFarOff() time.Time { return time.Now().Add(time.Hour) }

// wantExpired fails the case unless err is that of a passed deadline.
func (k *kit) wantExpired(what string, err error) {
	k.Helper()
	k.wantIs(what, err, os.ErrDeadlineExceeded)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		k.Errorf("%s: %v is no net.Error that says Timeout", what, err)
	}
}

// deadlineReuse: a passed deadline ends calls, pending ones too, and changing
// it makes the connection usable again; nothing is lost.
func deadlineReuse(k *kit) {
	k.both(func(x, y conn) {
		buf := make([]byte, 100)
		sent := k.send(y, 0, 100)
		k.check("SetReadDeadline", x.SetReadDeadline(longPast))
		n, err := x.Read(buf)
		if n != 0 {
			k.Errorf("Read past its deadline returned %d bytes", n)
		}
		k.wantExpired("Read past its deadline", err)
		k.check("SetReadDeadline", x.SetReadDeadline(noDeadline))
		k.check("reading without a deadline", readExactly(x, 0, 100))
		k.check("writing", sent.wait().err)

		// A pending call follows the deadline as it is moved: away, and near.
		near := time.Now().Add(quietTime)
		k.check("SetReadDeadline", x.SetReadDeadline(near))
		reading := start(k, "Read", func() error { return readExactly(x, 100, 100) })
		k.check("SetReadDeadline", x.SetReadDeadline(deadlineFarOff()))
		tooLate := !time.Now().Before(near) // on a machine that is very busy
		k.idle(2 * quietTime)
		k.check("writing", write(y, 100, 100).err)
		err = reading.wait()
		if tooLate && errors.Is(err, os.ErrDeadlineExceeded) {
			err = readExactly(x, 100, 100)
		}
		k.check("Read whose deadline was put off", err)
		reading = start(k, "Read", func() error { return readExactly(x, 200, 100) })
		reading.settle()
		k.check("SetReadDeadline", x.SetReadDeadline(longPast))
		k.wantExpired("Read whose deadline was moved to the past", reading.wait())

		// The read deadline is none of the write's business.
		there := start(k, "Read", func() error { return readExactly(y, 0, 100) })
		k.check("writing with a passed read deadline", write(x, 0, 100).err)
		k.check("reading", there.wait())

		// The same for writes, up to where the peer stops us.
		writing := k.flood(x)
		k.quiet(x.Sent)
		k.check("SetWriteDeadline", x.SetWriteDeadline(longPast))
		m := writing.wait()
		k.wantExpired("Write whose deadline was moved to the past", m.err)
		if n, err := x.Write(buf); n != 0 || err == nil {
			k.Errorf("Write past its deadline: %d, %v", n, err)
		}
		k.check("SetDeadline", x.SetDeadline(noDeadline))
		rest := start(k, "Write", func() moved {
			more := write(x, m.n, 1000)
			return moved{more.n, errors.Join(more.err, k.finish(x))}
		})
		k.wantEnd("reading", readToEnd(y, 0), m.n+1000)
		k.check("writing after the deadline was lifted", rest.wait().err)
	}, smallBuffers)
}

// cancelRestoresDeadlines: after cancelled calls the caller's deadline is
// still there, neither earlier nor later.
func cancelRestoresDeadlines(k *kit) {
	calls := map[string]func(ctx context.Context, c conn) error{
		"ReadContext": func(ctx context.Context, c conn) error {
			_, err := c.ReadContext(ctx, make([]byte, 10))
			return err
		},
		"ReadAtLeast": func(ctx context.Context, c conn) error {
			_, err := c.ReadAtLeast(ctx, make([]byte, 10), 5)
			return err
		},
		"Peek": func(ctx context.Context, c conn) error {
			_, err := c.Peek(ctx, make([]byte, 10))
			return err
		},
		"Wait": func(ctx context.Context, c conn) error {
			_, err := c.Wait(ctx, anysock.Readable, 1)
			return err
		},
		"ActiveRead": func(ctx context.Context, c conn) error {
			return c.ActiveRead(ctx, func([]byte) error { return nil })
		},
	}
	if k.Caps.Has(anysock.CapHalfClose) {
		calls["Disconnect"] = func(ctx context.Context, c conn) error {
			_, err := c.Disconnect(ctx)
			return err
		}
	}
	for name, call := range calls {
		x, _ := k.pair()
		deadline := time.Now().Add(3 * quietTime)
		k.check("SetReadDeadline", x.SetReadDeadline(deadline))
		ctx, cancel := k.cancelledAfter(time.Millisecond)
		err := call(ctx, x)
		cancel()
		if !errors.Is(err, context.Canceled) && time.Now().Before(deadline) {
			k.Fatalf("cancelled %s: want an error that matches %q, got %v", name, context.Canceled, err)
		}
		k.wantDeadline("Read after a cancelled "+name, deadline, func() error {
			_, err := x.Read(make([]byte, 10))
			return err
		})
	}
	x, _ := k.pair(smallBuffers)
	deadline := time.Now().Add(4 * quietTime)
	k.check("SetWriteDeadline", x.SetWriteDeadline(deadline))
	ctx, cancel := k.cancelledAfter(quietTime)
	defer cancel()
	err := flood(contextWriter{ctx, x}, k.most(), floodChunk).err
	if !errors.Is(err, context.Canceled) && time.Now().Before(deadline) {
		k.Fatalf("cancelled WriteContext: want an error that matches %q, got %v", context.Canceled, err)
	}
	k.wantDeadline("Write after a cancelled WriteContext", deadline, func() error { return flood(x, k.most(), floodChunk).err })
}

// wantDeadline fails the case unless call is ended by the deadline.
func (k *kit) wantDeadline(what string, deadline time.Time, call func() error) {
	k.Helper()
	k.wantExpired(what, start(k, what, call).wait())
	if early := time.Until(deadline); early > 0 {
		k.Errorf("%s ended %s before its deadline", what, early)
	}
}

// shortWriteHasAnError: a write that could not send all says so, and its
// count is what arrives. A well-known socket package wrote 219,264 of
// 16,777,216 bytes under a context and returned no error.
func shortWriteHasAnError(k *kit) {
	for name := range k.writers(nil) {
		x, y := k.pair(smallBuffers)
		var total int64
		for {
			ctx, cancel := context.WithCancel(k.ctx)
			stop := time.AfterFunc(quietTime, func() {
				if name == "WriteContext" {
					cancel()
				} else {
					_ = x.SetWriteDeadline(longPast)
				}
			})
			w := k.writers(x)[name]
			if name == "WriteContext" {
				w = contextWriter{ctx, x}
			}
			m := write(w, total, sequenceMost)
			stop.Stop()
			cancel()
			total += m.n
			if m.n < sequenceMost && m.err == nil {
				k.Fatalf("%s: %d of %d bytes and no error", name, m.n, sequenceMost)
			}
			if m.err != nil {
				if !errors.Is(m.err, os.ErrDeadlineExceeded) && !errors.Is(m.err, context.Canceled) {
					k.Errorf("%s cut short: %v", name, m.err)
				}
				break
			}
			if total > k.most()+sequenceMost {
				k.Fatalf("%s: %v after %d bytes", name, errNotStopped, total)
			}
		}
		k.check("SetWriteDeadline", x.SetWriteDeadline(noDeadline))
		finished := start(k, "ending", func() error { return k.finish(x) })
		k.wantEnd(name+" cut short", readToEnd(y, 0), total)
		k.check("ending", finished.wait())
		if sent := x.Sent(); sent != total {
			k.Errorf("%s: its counts add up to %d, Sent says %d", name, total, sent)
		}
	}
}
