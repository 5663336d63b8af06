package relay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/relay"
)

// TestContract11HalfClose: the end of one direction is passed on, and the
// other goes on, for as long as it likes.
func TestContract11HalfClose(t *testing.T) {
	joinedOnAll(t, func(t *testing.T, c combination) {
		bothWays(t, func(t *testing.T, upward bool) {
			t.Parallel()
			r := newRig(t, c, relay.Options{})
			from, to, source := r.peers(upward)
			request, reply := text(1000), text(300_000)
			write(t, from, request)
			closeWrite(t, from)
			read(t, to, request)
			readEnd(t, to)
			linger(100 * time.Millisecond) // the reply is late
			go func() {
				_, _ = to.Write(reply)
				to.CloseWrite()
			}()
			read(t, from, reply)
			readEnd(t, from)
			rec := r.record()
			if rec.How != anysock.Graceful || rec.By != source || rec.Err != nil || len(rec.Downgrades) != 0 {
				t.Errorf("record: %v", rec)
			}
			if upward && (rec.ToOutbound.Bytes != 1000 || rec.ToInbound.Bytes != 300_000) ||
				!upward && (rec.ToOutbound.Bytes != 300_000 || rec.ToInbound.Bytes != 1000) {
				t.Errorf("bytes: %v", rec)
			}
			for _, d := range []relay.Direction{rec.ToOutbound, rec.ToInbound} {
				if d.FirstByte.Before(rec.Accepted) || d.Ended.Before(d.FirstByte) || rec.Done.Before(d.Ended) {
					t.Errorf("times out of order: %+v, accepted %v, done %v", d, rec.Accepted, rec.Done)
				}
			}
			if gap := rec.ToOutbound.Ended.Sub(rec.ToInbound.Ended).Abs(); gap < 90*time.Millisecond {
				t.Errorf("the directions ended %v apart, the reply came 100ms late", gap)
			}
			for _, l := range []relay.LegRecord{rec.Inbound, rec.Outbound} {
				if l.How != anysock.Graceful || l.Unacked != 0 || l.Network == "tcp" && r.client.Caps().Has(anysock.CapCloseAck) && l.AckedBy != anysock.AckedKernel {
					t.Errorf("leg: %+v", l)
				}
			}
			if end := disconnect(t, from); end.How != anysock.Graceful {
				t.Errorf("the sender's end: %v", end)
			}
		})
	})
}

// TestContract11Graceful: both sides talk at once and end in order.
func TestContract11Graceful(t *testing.T) {
	joinedOnAll(t, func(t *testing.T, c combination) {
		t.Parallel()
		r := newRig(t, c, relay.Options{})
		up, down := text(2_000_000), text(3_000_000)
		var wg sync.WaitGroup
		for _, x := range []struct {
			c          *anysock.Conn
			send, want []byte
		}{{r.client, up, down}, {r.server, down, up}} {
			wg.Go(func() {
				if _, err := x.c.Write(x.send); err != nil {
					t.Error(err)
				}
				x.c.CloseWrite()
			})
			wg.Go(func() {
				got, err := io.ReadAll(x.c)
				if err != nil || !bytes.Equal(got, x.want) {
					t.Errorf("%d of %d bytes, equal %v, %v", len(got), len(x.want), bytes.Equal(got, x.want), err)
				}
			})
		}
		wg.Wait()
		rec := r.record()
		if rec.How != anysock.Graceful || rec.ToOutbound.Bytes != 2_000_000 || rec.ToInbound.Bytes != 3_000_000 {
			t.Errorf("record: %v", rec)
		}
	})
}

// TestContract11AbortInTheMiddle: a reset in the middle of a message is a
// reset on the other side, and never an end of file.
func TestContract11AbortInTheMiddle(t *testing.T) {
	joinedOnAll(t, func(t *testing.T, c combination) {
		bothWays(t, func(t *testing.T, upward bool) {
			t.Parallel()
			r := newRig(t, c, relay.Options{})
			from, to, source := r.peers(upward)
			part := text(100_000)
			write(t, to, part[:10])
			// A Unix peer can only be seen to abort while bytes for it are unread.
			until(t, "bytes for the sender", func() bool {
				ready, err := from.Wait(t.Context(), anysock.Readable, 1)
				return err == nil && ready&anysock.Readable != 0
			})
			write(t, from, part)
			read(t, to, part[:50_000])
			from.Abort()
			err := readPrefix(t, to, part[50_000:])
			rec := r.record()
			if rec.How != anysock.AbortedByPeer || rec.By != source || rec.Err == nil {
				t.Errorf("record: %v", rec)
			}
			if to.Caps().Has(anysock.CapAbort) {
				if kindOf(err) != anysock.KindReset {
					t.Errorf("the receiver got %v, want a reset", err)
				}
				if len(rec.Downgrades) != 0 {
					t.Errorf("downgrades: %v", rec)
				}
				return
			}
			other := relay.Inbound + relay.Outbound - source
			if len(rec.Downgrades) != 1 || rec.Downgrades[0] != (relay.Downgrade{Leg: other, Ending: "abort", Became: "close"}) {
				t.Errorf("an abort that became a close is not in the record: %v", rec)
			}
		})
	})
}

// TestContract11AbortOfAnIdleHalfClosedLeg: nobody reads from a leg whose end
// was seen, and nothing is written to it; its reset is passed on at once all
// the same.
func TestContract11AbortOfAnIdleHalfClosedLeg(t *testing.T) {
	needsBackend(t)
	joinedOnAll(t, func(t *testing.T, c combination) {
		bothWays(t, func(t *testing.T, upward bool) {
			t.Parallel()
			r := newRig(t, c, relay.Options{})
			from, to, source := r.peers(upward)
			closeWrite(t, from)
			readEnd(t, to)
			write(t, to, text(10)) // unread: see TestContract11AbortInTheMiddle
			if _, err := from.Wait(t.Context(), anysock.Readable, 1); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			from.Abort()
			rec := r.record()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the abort was noticed after %v", took)
			}
			if rec.How != anysock.AbortedByPeer || rec.By != source {
				t.Errorf("record: %v", rec)
			}
			if to.Caps().Has(anysock.CapAbort) {
				if _, err := to.Wait(t.Context(), 0, 0); err != nil {
					t.Fatal(err)
				}
				if _, err := to.Write(text(10)); kindOf(err) != anysock.KindReset {
					t.Errorf("write after the abort: %v, want a reset", err)
				}
			}
		})
	})
}

// TestContract11WriteFailure: a leg that takes no more is dead, and who sends
// to it learns of it.
func TestContract11WriteFailure(t *testing.T) {
	joinedOnAll(t, func(t *testing.T, c combination) {
		bothWays(t, func(t *testing.T, upward bool) {
			t.Parallel()
			r := newRig(t, c, relay.Options{})
			from, to, source := r.peers(upward)
			// It closes in order and at once: what comes then is answered by a reset.
			closeWrite(t, to)
			readEnd(t, from)
			to.Abort()
			var err error
			for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
				_, err = from.Write(text(1000))
			}
			if k := kindOf(err); k != anysock.KindReset {
				t.Errorf("the sender got %v, want a reset", err)
			}
			rec := r.record()
			if other := relay.Inbound + relay.Outbound - source; rec.How != anysock.AbortedByPeer || rec.By != other {
				t.Errorf("record: %v", rec)
			}
		})
	})
}

// TestContract11NoDirectionOutlivesTheOther is golang/go#67337: one direction
// is blocked, reading from a silent leg or writing to one that takes nothing,
// when the leg across dies. Both must be over.
func TestContract11NoDirectionOutlivesTheOther(t *testing.T) {
	needsBackend(t)
	joinedOnAll(t, func(t *testing.T, c combination) {
		bothWays(t, func(t *testing.T, upward bool) {
			t.Run("blocked in a read", func(t *testing.T) {
				t.Parallel()
				r := newRig(t, c, relay.Options{})
				from, to, source := r.peers(upward)
				write(t, to, text(10))
				if _, err := from.Wait(t.Context(), anysock.Readable, 1); err != nil {
					t.Fatal(err)
				}
				from.Abort()
				if rec := r.record(); rec.By != source || rec.How != anysock.AbortedByPeer {
					t.Errorf("record: %v", rec)
				}
			})
			t.Run("blocked in a write", func(t *testing.T) {
				t.Parallel()
				r := newRigWith(t, c, relay.Options{LastWords: 50 * time.Millisecond}, anysock.Options{ReceiveBuffer: 16 << 10, SendBuffer: 16 << 10})
				from, to, source := r.peers(upward)
				write(t, to, text(10))
				stuff(t, r, from)
				if _, err := from.Wait(t.Context(), anysock.Readable, 1); err != nil {
					t.Fatal(err)
				}
				from.Abort()
				if rec := r.record(); rec.By != source || rec.How != anysock.AbortedByPeer {
					t.Errorf("record: %v", rec)
				}
			})
			t.Run("blocked in a write to the dead leg", func(t *testing.T) {
				t.Parallel()
				r := newRigWith(t, c, relay.Options{}, anysock.Options{ReceiveBuffer: 16 << 10, SendBuffer: 16 << 10})
				from, to, source := r.peers(upward)
				stuff(t, r, from)
				to.Abort()
				other := relay.Inbound + relay.Outbound - source
				if rec := r.record(); rec.By != other || rec.How != anysock.AbortedByPeer {
					t.Errorf("record: %v", rec)
				}
			})
		})
	})
}

// stuff writes until nothing moves any more, and returns how much that was.
func stuff(t *testing.T, r *rig, from *anysock.Conn) int64 {
	t.Helper()
	p := text(16 << 10)
	for {
		from.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := from.Write(p)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			from.SetWriteDeadline(time.Time{})
			return from.Sent()
		}
		if err != nil {
			t.Fatal(err)
		}
		if from.Sent() > 256<<20 {
			t.Fatal("the relay takes everything")
		}
	}
}

// TestContract11LastWords: what a leg had sent before it was found dead by a
// write is passed on to a peer that takes it.
func TestContract11LastWords(t *testing.T) {
	for _, c := range engines() {
		t.Run(c.String(), func(t *testing.T) { testLastWords(t, c) })
	}
}

func testLastWords(t *testing.T, c combination) {
	r := newRig(t, c, relay.Options{})
	// An HTTP server that refuses an upload: it answers, and closes with the
	// upload unread, which resets.
	write(t, r.client, text(100_000))
	read(t, r.server, text(100_000)[:10])
	answer := text(500)
	write(t, r.server, answer)
	read(t, r.client, answer)
	r.server.Abort()
	for {
		if _, err := r.client.Write(text(1000)); err != nil {
			if kindOf(err) != anysock.KindReset {
				t.Errorf("the client got %v, want a reset", err)
			}
			break
		}
	}
	if rec := r.record(); rec.By != relay.Outbound || rec.How != anysock.AbortedByPeer || rec.ToInbound.Bytes != 500 {
		t.Errorf("record: %v", rec)
	}
}

// TestContract11LastWordsOfABlockedDirection: bytes that had come in before a
// reset are passed on as long as the other side takes some, and no longer.
func TestContract11LastWordsOfABlockedDirection(t *testing.T) {
	needsBackend(t)
	for _, c := range engines() {
		t.Run(c.String(), func(t *testing.T) { testLastWordsOfABlockedDirection(t, c) })
	}
}

func testLastWordsOfABlockedDirection(t *testing.T, c combination) {
	const size = 100_000 // what the client does not take fits into the legs' buffers
	for _, reads := range []bool{true, false} {
		r := &rig{t: t}
		words := patience
		if !reads {
			words = 50 * time.Millisecond
		}
		opts, small := relay.Options{LastWords: words}, anysock.Options{ReceiveBuffer: 4 << 10, SendBuffer: 4 << 10}
		if c.onLoops {
			r.serve(c, opts, small, anysock.Options{})
		} else {
			r.client, r.inbound = connect(t, "tcp", small)
			r.outbound, r.server = connect(t, "tcp", anysock.Options{})
			r.join(opts)
		}
		write(t, r.server, text(size))
		last := int64(-1)
		until(t, "a client that takes no more", func() bool {
			n := r.passedIn()
			same := n == last
			last = n
			<-time.After(20 * time.Millisecond)
			return same && n > 0
		})
		if last >= size/2 {
			t.Fatalf("the client has taken %d bytes unread", last)
		}
		r.server.Abort()
		if reads {
			err := readPrefix(t, r.client, text(size))
			if kindOf(err) != anysock.KindReset {
				t.Errorf("the client got %v, want a reset", err)
			}
		}
		rec := r.record()
		if rec.By != relay.Outbound || rec.How != anysock.AbortedByPeer || (rec.ToInbound.Bytes == size) != reads {
			t.Errorf("client reads: %t, record: %v", reads, rec)
		}
	}
}

// TestIdle: data in either direction renews the idle time, and nothing else
// ends a silent connection.
func TestIdle(t *testing.T) {
	const idle = 400 * time.Millisecond
	for _, c := range append(engines(), combination{"unix", "mem", false}) {
		for _, upward := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %t", c, upward), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, c, relay.Options{Idle: idle})
				from, to, _ := r.peers(upward)
				p := text(1)
				start := time.Now()
				var last time.Time
				for time.Since(start) < 2*idle {
					last = time.Now()
					write(t, from, p)
					read(t, to, p)
					linger(idle / 10)
				}
				rec := r.record()
				if took := rec.Done.Sub(last); took < idle || took > 10*idle {
					t.Errorf("ended %v after the last byte, idle time is %v", took, idle)
				}
				var ie *anysock.IdleError
				if rec.How != anysock.Idle || rec.By != relay.Self || !errors.As(rec.Err, &ie) || ie.After != idle {
					t.Errorf("record: %v", rec)
				}
				if rec.Inbound.How != anysock.Idle || rec.Outbound.How != anysock.Idle {
					t.Errorf("legs: %+v %+v", rec.Inbound, rec.Outbound)
				}
				if _, err := io.ReadAll(to); to.Caps().Has(anysock.CapAbort) && kindOf(err) != anysock.KindReset {
					t.Errorf("the idle peer got %v, want a reset", err)
				}
			})
		}
	}
}

// TestIdleIsOff: without the option silence ends nothing, also after a
// half-close.
func TestIdleIsOff(t *testing.T) {
	for _, c := range engines() {
		r := newRig(t, c, relay.Options{})
		closeWrite(t, r.client)
		readEnd(t, r.server)
		linger(500 * time.Millisecond)
		write(t, r.server, text(10))
		disconnect(t, r.server)
		read(t, r.client, text(10))
		if rec := r.record(); rec.How != anysock.Graceful {
			t.Errorf("%v: %v", c, rec)
		}
	}
}

// TestSlowReader: a reader that pauses is backpressure on the sender; the relay
// keeps no more than a pipe's worth.
func TestSlowReader(t *testing.T) {
	const between = 600 << 10 // a pipe of 512 KiB and a buffer of 64 KiB
	joinedOnAll(t, func(t *testing.T, c combination) {
		bothWays(t, func(t *testing.T, upward bool) {
			r := newRigWith(t, c, relay.Options{}, anysock.Options{ReceiveBuffer: 64 << 10, SendBuffer: 64 << 10})
			from, to, _ := r.peers(upward)
			sent := stuff(t, r, from)
			src, dst := r.inbound, r.outbound
			if !upward {
				src, dst = dst, src
			}
			if !c.onLoops && src.Received()-dst.Sent() > between {
				t.Errorf("the relay holds %d bytes", src.Received()-dst.Sent())
			}
			if sent > 4<<20 {
				t.Errorf("the sender could write %d bytes that nobody read", sent)
			}
			go from.CloseWrite()
			to.SetReadDeadline(time.Now().Add(patience))
			n, err := io.Copy(io.Discard, to)
			if err != nil || n != sent {
				t.Errorf("%d of %d bytes, %v", n, sent, err)
			}
			go func() { _, _ = to.Disconnect(context.Background()) }()
			if rec := r.record(); rec.How != anysock.Graceful {
				t.Errorf("record: %v", rec)
			}
		})
	})
}

// TestCancel: a done context aborts both legs, whatever they are doing.
func TestCancel(t *testing.T) {
	reason := errors.New("enough")
	joinedOnAll(t, func(t *testing.T, c combination) {
		t.Parallel()
		for _, halfClosed := range []bool{false, true} {
			r := newRig(t, c, relay.Options{})
			write(t, r.client, text(10))
			read(t, r.server, text(10))
			if halfClosed {
				closeWrite(t, r.client)
				readEnd(t, r.server)
			}
			r.cancel(reason)
			rec := r.record()
			if rec.How != anysock.AbortedByUs || rec.By != relay.Self || !errors.Is(rec.Err, r.reason(reason)) {
				t.Errorf("record: %v", rec)
			}
			want := 0
			for _, x := range []*anysock.Conn{r.client, r.server} {
				x.SetReadDeadline(time.Now().Add(patience))
				if !x.Caps().Has(anysock.CapAbort) {
					want++
				} else if err := nextError(t, x); kindOf(err) != anysock.KindReset {
					t.Errorf("the peer got %v, want a reset", err)
				}
			}
			if len(rec.Downgrades) != want {
				t.Errorf("%d downgrades, want %d: %v", len(rec.Downgrades), want, rec)
			}
		}
	})
}

// TestCancelWhileDisconnecting: both have ended, but the last bytes wait for a
// reader that never comes.
func TestCancelWhileDisconnecting(t *testing.T) {
	needsBackend(t)
	for _, c := range engines() {
		r := newRigWith(t, c, relay.Options{}, anysock.Options{ReceiveBuffer: 4 << 10})
		closeWrite(t, r.client)
		readEnd(t, r.server)
		write(t, r.server, text(60_000))
		disconnect(t, r.server)
		until(t, "both ends", func() bool {
			if c.onLoops {
				return r.passedIn() == 60_000
			}
			return r.inbound.State() == anysock.StateDisconnecting && r.outbound.State() == anysock.StateClosed
		})
		reason := errors.New("enough")
		r.cancel(reason)
		rec := r.record()
		if rec.How != anysock.AbortedByUs || rec.By != relay.Self || !errors.Is(rec.Err, r.reason(reason)) || rec.Inbound.Unacked == 0 {
			t.Errorf("%v: %v", c, rec)
		}
	}
}

// injected counts the system calls made while f runs; a call in fail fails.
func injected(fail map[sys.Call]error, f func()) map[sys.Call]int64 {
	var mu sync.Mutex
	calls := make(map[sys.Call]int64)
	restore := sys.Inject(func(c sys.Call, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		calls[c]++
		return fail[c]
	})
	f()
	restore()
	mu.Lock()
	defer mu.Unlock()
	return calls
}

// TestSplice: bulk between kernel sockets is spliced, through the production
// types; and passes all the same when there is no pipe to be had.
func TestSplice(t *testing.T) {
	needsBackend(t)
	bulk := text(8 << 20)
	pass := func(c combination) {
		r := newRig(t, c, relay.Options{})
		go func() {
			_, _ = r.client.Write(bulk)
			r.client.CloseWrite()
		}()
		read(t, r.server, bulk)
		readEnd(t, r.server)
		disconnect(t, r.server)
		if rec := r.record(); rec.How != anysock.Graceful || rec.ToOutbound.Bytes != int64(len(bulk)) {
			t.Errorf("record: %v", rec)
		}
	}
	all := slices.Clone(combinations)
	for _, c := range combinations[:4] {
		if c.onLoops = true; haveLoops {
			all = append(all, c)
		}
	}
	for _, c := range all {
		kernel := c.in != "mem" && c.out != "mem"
		t.Run(c.String(), func(t *testing.T) {
			n := injected(nil, func() { pass(c) })[sys.CallSplice]
			if kernel && n == 0 || !kernel && n > 0 {
				t.Errorf("%d calls of splice", n)
			}
		})
		if !kernel {
			continue
		}
		t.Run(c.String()+" without pipes", func(t *testing.T) {
			sys.CloseIdlePipes()
			calls := injected(map[sys.Call]error{sys.CallPipe: syscall.EMFILE}, func() { pass(c) })
			if calls[sys.CallPipe] == 0 || calls[sys.CallSplice] != 0 {
				t.Errorf("%d calls of pipe, %d of splice", calls[sys.CallPipe], calls[sys.CallSplice])
			}
		})
	}
}

// TestRecordIsStable: programs rely on the names.
func TestRecordIsStable(t *testing.T) {
	r := newRig(t, combination{"tcp", "unix", false}, relay.Options{})
	write(t, r.client, text(10))
	read(t, r.server, text(10))
	r.cancel(errors.New("enough"))
	b, err := json.Marshal(r.record())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"how", "by", "inbound", "outbound", "to_outbound", "to_inbound",
		"accepted", "connected", "done", "downgrades", "seconds", "error",
	} {
		if m[name] == nil {
			t.Errorf("no %q in %s", name, b)
		}
		delete(m, name)
	}
	for name := range m {
		t.Errorf("%q is new: add it here", name)
	}
}
