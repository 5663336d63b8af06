// Tests of the contract on mem: connections, most of them in bubbles of fake
// time. mem_listener_test.go has dialing and listening.

package anysock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

var memNames atomic.Int64

// memName is an address nobody else uses.
func memName() string { return fmt.Sprintf("mem:test-%d", memNames.Add(1)) }

// memPair dials and accepts; both connections are aborted at the test's end.
// What d and lc leave out is the default; the Group of both is the test's own.
func memPair(t *testing.T, d anysock.Dialer, lc anysock.ListenConfig) (near, far *anysock.Conn, group *anysock.Group) {
	t.Helper()
	group = new(anysock.Group)
	d.Group, lc.Group = group, group
	name := memName()
	l, err := lc.Listen(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = d.Dial(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if far, err = l.AcceptContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Abort()
		far.Abort()
	})
	return near, far, group
}

func memKind(err error) anysock.Kind {
	var e *anysock.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return -1
}

func wantKind(t *testing.T, what string, err error, want anysock.Kind) {
	t.Helper()
	if memKind(err) != want {
		t.Errorf("%s: %v (%v), want %v", what, err, memKind(err), want)
	}
}

func wantRead(t *testing.T, c *anysock.Conn, want string) {
	t.Helper()
	p := make([]byte, len(want))
	if _, err := io.ReadFull(c, p); err != nil || string(p) != want {
		t.Fatalf("read %q, %v, want %q", p, err, want)
	}
}

func wantEOF(t *testing.T, c *anysock.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read: %d, %v, want the peer's end", n, err)
	}
}

func mustWrite(t *testing.T, c *anysock.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Error(err)
	}
}

// within is a context that ends the test's patience; in a bubble it costs no
// time.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestContract01NoFalseEnd_mem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(near *anysock.Conn)
		want anysock.Kind // of the read after the bytes; KindOther is an end
		how  anysock.How
	}{
		{"abort", func(c *anysock.Conn) { c.Abort() }, anysock.KindReset, anysock.AbortedByPeer},
		{"half-close", func(c *anysock.Conn) { c.CloseWrite() }, anysock.KindOther, anysock.Graceful},
		{"close", func(c *anysock.Conn) { c.Close() }, anysock.KindOther, anysock.Graceful},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
				mustWrite(t, near, "half a mess")
				tt.do(near)
				wantRead(t, far, "half a mess")
				for range 3 {
					_, err := far.Read(make([]byte, 1))
					if tt.want == anysock.KindOther {
						if !errors.Is(err, io.EOF) {
							t.Errorf("an end reads as %v", err)
						}
					} else {
						wantKind(t, "read", err, tt.want)
						if errors.Is(err, io.EOF) {
							t.Error("it matches io.EOF")
						}
					}
				}
				near.CloseWrite()
				end, _ := far.Disconnect(t.Context())
				if end.How != tt.how || end.By != anysock.Peer {
					t.Errorf("ending: %v", end)
				}
			})
		})
	}
}

// TestContract01DeadPeerFoundByWrite_mem: the end that a peer sent before it
// closed is true, even if a write has already found the peer gone; a reset
// stays a reset.
func TestContract01DeadPeerFoundByWrite_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		mustWrite(t, far, "request")
		mustWrite(t, near, "reply")
		near.CloseWrite()
		near.Abort()
		_, err := far.Write([]byte("more"))
		wantKind(t, "write", err, anysock.KindReset)
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write: %v, want EPIPE: the end came first", err)
		}
		wantRead(t, far, "reply")
		wantEOF(t, far)
		end, err := far.Disconnect(t.Context())
		if end.How != anysock.AbortedByPeer || end.Unacked != 7 {
			t.Errorf("ending: %v, %v; the 7 bytes of the request were thrown away", end, err)
		}

		near, far, _ = memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		mustWrite(t, near, "rep")
		near.Abort()
		_, err = far.Write([]byte("more"))
		wantKind(t, "write", err, anysock.KindReset)
		wantRead(t, far, "rep")
		_, err = far.Read(make([]byte, 1))
		wantKind(t, "read", err, anysock.KindReset)
	})
}

func TestContract02NoLostTail_mem(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // four buffers
	for _, tt := range []struct {
		name string
		do   func(*anysock.Conn)
	}{
		{"CloseWrite", func(c *anysock.Conn) { c.CloseWrite() }},
		{"Disconnect", func(c *anysock.Conn) { _, _ = c.Disconnect(context.Background()) }},
		{"Close", func(c *anysock.Conn) { c.Close() }},
	} {
		for _, buffer := range []int{0, 1000} {
			t.Run(fmt.Sprint(tt.name, buffer), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					near, far, group := memPair(t, anysock.Dialer{}, anysock.ListenConfig{Options: anysock.Options{ReceiveBuffer: buffer}})
					var wg sync.WaitGroup
					wg.Go(func() {
						if n, err := near.Write(data); n != len(data) || err != nil {
							t.Error(n, err)
						}
						tt.do(near)
					})
					got, err := io.ReadAll(far)
					if !bytes.Equal(got, data) || err != nil {
						t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
					}
					if end, err := far.Disconnect(t.Context()); end.How != anysock.Graceful || err != nil {
						t.Errorf("reader's ending: %v, %v", end, err)
					}
					wg.Wait()
					near.Close()
					if _, err := group.Wait(t.Context()); err != nil {
						t.Error(err)
					}
					if end := near.End(); end.How != anysock.Graceful || end.AckedBy != anysock.AckedKernel || end.Sent != int64(len(data)) {
						t.Errorf("writer's ending: %v", end)
					}
				})
			})
		}
	}
}

// TestContract03HalfClose_mem: two days after our end the reply still comes.
func TestContract03HalfClose_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		mustWrite(t, near, "question")
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantRead(t, far, "question")
		wantEOF(t, far)
		later := time.AfterFunc(48*time.Hour, func() {
			mustWrite(t, far, "answer")
			far.Close()
		})
		defer later.Stop()
		start := time.Now()
		wantRead(t, near, "answer")
		if took := time.Since(start); took != 48*time.Hour {
			t.Errorf("took %s", took)
		}
		wantEOF(t, near)
		if end, err := near.Disconnect(t.Context()); end.How != anysock.Graceful || end.By != anysock.Us || err != nil {
			t.Errorf("ending: %v, %v", end, err)
		}
	})
}

func TestContract04Disconnect_mem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		far     func(t *testing.T, far *anysock.Conn) // while near disconnects
		how     anysock.How
		acked   anysock.Ack
		took    time.Duration
		drained int64
		unacked int64
		kind    anysock.Kind
	}{
		{
			name: "their end", how: anysock.Graceful, acked: anysock.AckedKernel, drained: 4,
			far: func(t *testing.T, far *anysock.Conn) { mustWrite(t, far, "late"); far.CloseWrite() },
		},
		{
			name: "silence", how: anysock.Delivered, acked: anysock.AckedKernel, took: anysock.DefaultDrainTimeout,
			far: func(*testing.T, *anysock.Conn) {},
		},
		{
			name: "flood", how: anysock.Delivered, acked: anysock.AckedKernel, drained: anysock.DefaultDrainBytes,
			far: func(t *testing.T, far *anysock.Conn) {
				_, err := far.Write(make([]byte, 2*anysock.DefaultDrainBytes))
				wantKind(t, "the flood's write", err, anysock.KindReset)
			},
		},
		{
			name: "abort", how: anysock.AbortedByPeer, kind: anysock.KindReset, unacked: 5,
			far: func(_ *testing.T, far *anysock.Conn) { far.Abort() },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
				mustWrite(t, near, "hello")
				var wg sync.WaitGroup
				defer wg.Wait()
				start := time.Now()
				wg.Go(func() { tt.far(t, far) })
				end, err := near.Disconnect(t.Context())
				if end.How != tt.how || end.AckedBy != tt.acked || end.Drained != tt.drained || end.Unacked != tt.unacked || end.Sent != 5 {
					t.Errorf("ending: %v, %d unacked", end, end.Unacked)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if tt.kind == 0 {
					if err != nil {
						t.Error(err)
					}
				} else {
					wantKind(t, "Disconnect", err, tt.kind)
				}
				select {
				case <-near.Done():
				default:
					t.Error("Done is open after the ending")
				}
			})
		})
	}
}

// TestContract04WriterAtWork_mem: Disconnect waits for a Write that the peer
// does not read, for as long as its patience, and counts what got through.
func TestContract04WriterAtWork_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		var wg sync.WaitGroup
		wg.Go(func() {
			n, err := near.Write(make([]byte, 1<<20))
			if n != anysock.DefaultMemBuffer {
				t.Errorf("wrote %d", n)
			}
			wantKind(t, "write", err, anysock.KindClosed)
		})
		synctest.Wait()
		end, err := near.Disconnect(t.Context())
		wg.Wait()
		if end.How != anysock.Delivered || end.Sent != anysock.DefaultMemBuffer || err != nil {
			t.Errorf("ending: %v, %v", end, err)
		}
		if got, err := io.ReadAll(far); len(got) != anysock.DefaultMemBuffer || err != nil {
			t.Errorf("peer reads %d, %v", len(got), err)
		}
	})
}

// TestContract05CloseReturnsAtOnce_mem: the peer neither reads nor ends; at the
// bound it is a plain close, after which the peer still reads everything.
func TestContract05CloseReturnsAtOnce_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, group := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		mustWrite(t, near, "everything")
		start := time.Now()
		if err := near.Close(); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if group.Pending() != 1 {
			t.Errorf("%d disconnects at work", group.Pending())
		}
		ends, err := group.Wait(t.Context())
		if err != nil || len(ends) != 1 || ends[0].How != anysock.Delivered || time.Since(start) != anysock.DefaultCloseTimeout {
			t.Errorf("%v, %v after %s", ends, err, time.Since(start))
		}
		wantRead(t, far, "everything")
		wantEOF(t, far)
		if end, err := far.Disconnect(t.Context()); end.How != anysock.Graceful || err != nil {
			t.Errorf("peer's ending: %v, %v", end, err)
		}
	})
}

// TestReadAfterCloseReturnsAtOnce: the disconnect in the background is no reason
// to keep a caller waiting, whether it came after Close or queued before.
func TestReadAfterCloseReturnsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		start := time.Now()
		var wg sync.WaitGroup
		atOnce := func(what string, call func() error) {
			wg.Go(func() {
				if err := call(); !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
					t.Errorf("%s: %v after %s", what, err, time.Since(start))
				}
			})
		}
		read := func() error { _, err := near.Read(make([]byte, 1)); return err }
		write := func() error { _, err := near.Write(make([]byte, 1<<20)); return err }
		for range 3 { // one is at work, the others wait for their turn
			atOnce("read at work", read)
			atOnce("write at work", write)
		}
		synctest.Wait()
		near.Close()
		synctest.Wait() // the disconnect waits for the peer now
		atOnce("read", read)
		atOnce("write", write)
		atOnce("CloseWrite", near.CloseWrite)
		atOnce("peek", func() error { _, err := near.Peek(t.Context(), make([]byte, 1)); return err })
		atOnce("wait", func() error { _, err := near.Wait(t.Context(), anysock.Readable, 1); return err })
		atOnce("ReadAtLeast", func() error { _, err := near.ReadAtLeast(t.Context(), make([]byte, 2), 2); return err })
		atOnce("WriteBuffers", func() error { _, err := near.WriteBuffers([][]byte{make([]byte, 1)}); return err })
		wg.Wait()
		far.Abort()
	})
}

func TestContract06AbortIsHeard_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := far.Read(make([]byte, 1))
			wantKind(t, "peer's read", err, anysock.KindReset)
		})
		wg.Go(func() {
			_, err := far.Write(make([]byte, 1<<20))
			wantKind(t, "peer's write", err, anysock.KindReset)
		})
		wg.Go(func() {
			_, err := near.Read(make([]byte, 1<<20))
			for err == nil {
				_, err = near.Read(make([]byte, 1<<20))
				if err == nil {
					near.Abort()
				}
			}
			wantKind(t, "our read", err, anysock.KindClosed)
		})
		wg.Wait()
		if end := near.End(); end.How != anysock.AbortedByUs || end.By != anysock.Us {
			t.Errorf("our ending: %v", end)
		}
		if end := far.End(); end.How != anysock.AbortedByPeer || end.By != anysock.Peer {
			t.Errorf("peer's ending: %v", end)
		}
	})
}

func TestContract07OrderOfCalls_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		near.CloseWrite()
		_, err := near.Write([]byte("x"))
		wantKind(t, "write after our end", err, anysock.KindState)
		if err := near.CloseWrite(); err != nil {
			t.Errorf("a second CloseWrite: %v", err)
		}
		near.Close()
		_, err = near.Read(make([]byte, 1))
		wantKind(t, "read after close", err, anysock.KindClosed)
		wantKind(t, "CloseWrite after close", near.CloseWrite(), anysock.KindClosed)
		wantKind(t, "deadline after close", near.SetDeadline(time.Now()), anysock.KindClosed)
		_, err = far.SyscallConn()
		wantKind(t, "descriptor", err, anysock.KindUnsupported)
	})
}

func TestContract08CancelIsClean_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{Options: anysock.Options{ReceiveBuffer: 1000}})
		start := time.Now()
		near.SetDeadline(start.Add(time.Minute))
		data := bytes.Repeat([]byte("abcdefg"), 1000)

		n, err := near.WriteContext(within(t, time.Second), data)
		if n != 1000 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("write: %d, %v after %s", n, err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(time.Second, cancel).Stop()
		if n, err := near.ReadContext(ctx, make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("read: %d, %v", n, err)
		}
		// Nothing is lost or sent twice, and the deadlines are what they were.
		var wg sync.WaitGroup
		wg.Go(func() {
			got := make([]byte, len(data))
			if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("peer read something else, %v", err)
			}
		})
		if _, err := near.Write(data[n:]); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("read: %v after %s", err, time.Since(start))
		}
		near.SetDeadline(time.Time{})
		mustWrite(t, far, "still usable")
		wantRead(t, near, "still usable")
	})
}

// TestContract09BufferIsBounded_mem: each end's own option says how much
// waits there.
func TestContract09BufferIsBounded_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l, err := anysock.Listen(t.Context(), "mem:bounded?buffer=3000")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d := anysock.Dialer{Options: anysock.Options{ReceiveBuffer: 100}}
		for addr, limits := range map[string][2]int{
			"mem:bounded":           {100, 3000},
			"mem:bounded?buffer=20": {20, 3000},
		} {
			near, err := d.Dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			far, err := l.AcceptContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n, err := far.WriteContext(within(t, time.Second), make([]byte, 1<<20))
			if n != limits[0] || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: the dialing end holds %d, %v", addr, n, err)
			}
			n, err = near.WriteContext(within(t, time.Second), make([]byte, 1<<20))
			if n != limits[1] || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: the accepted end holds %d, %v", addr, n, err)
			}
			near.Abort()
			far.Abort()
		}
		a, b := anysock.Pipe(anysock.Options{})
		defer a.Abort()
		defer b.Abort()
		if n, _ := a.WriteContext(within(t, time.Second), make([]byte, 1<<20)); n != anysock.DefaultMemBuffer {
			t.Errorf("a Pipe holds %d", n)
		}
	})
}

// TestContract10OneEnding_mem: whoever ends, from however many sides at once,
// there is one ending, and no event follows it.
func TestContract10OneEnding_mem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 50 {
			var mu sync.Mutex
			events := map[uint64][]string{}
			trace := func(ev anysock.Event) {
				mu.Lock()
				defer mu.Unlock()
				events[ev.Socket] = append(events[ev.Socket], ev.Op)
			}
			near, far, group := memPair(t, anysock.Dialer{Trace: trace}, anysock.ListenConfig{Trace: trace})
			var wg sync.WaitGroup
			for _, c := range []*anysock.Conn{near, far} {
				wg.Go(func() { _, _ = c.Write([]byte("x")) })
				wg.Go(func() { _, _ = c.Read(make([]byte, 1)) })
				wg.Go(func() { _, _ = c.Disconnect(context.Background()) })
				wg.Go(func() { c.Close() })
				wg.Go(func() { c.Abort() })
			}
			wg.Wait()
			_, _ = group.Wait(t.Context()) // the endings are looked at one by one
			mu.Lock()
			for _, c := range []*anysock.Conn{near, far} {
				<-c.Done()
				if c.End().How == anysock.NotEnded {
					t.Error("Done without an ending")
				}
				ops := events[c.ID()]
				for i, op := range ops {
					if (op == anysock.OpEnd) != (i == len(ops)-1) {
						t.Errorf("events of one connection: %v", ops)
					}
				}
			}
			mu.Unlock()
		}
	})
}

func TestMemCaps(t *testing.T) {
	t.Parallel()
	want := anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline | anysock.CapCloseAck | anysock.CapBindSource
	for _, addr := range []string{"mem:caps", "echo:", "discard:", "chargen:"} {
		if got, err := anysock.AddressCaps(anysock.MustParseAddress(addr)); got != want || err != nil {
			t.Errorf("%s: %v, %v", addr, got, err)
		}
	}
	a, b := anysock.Pipe(anysock.Options{})
	defer b.Abort()
	defer a.Abort()
	if a.Caps() != want || b.Caps() != want {
		t.Errorf("Pipe: %v, %v", a.Caps(), b.Caps())
	}
}

func TestMemAddresses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		other, _, _ := memPair(t, anysock.Dialer{Local: "client 7"}, anysock.ListenConfig{})
		if a := other.LocalAddr(); a.Network() != "mem" || a.String() != "client 7" {
			t.Errorf("a chosen local address is %v", a)
		}
		if near.LocalAddr() != far.RemoteAddr() || near.RemoteAddr() != far.LocalAddr() {
			t.Errorf("%v to %v, and %v to %v", near.LocalAddr(), near.RemoteAddr(), far.LocalAddr(), far.RemoteAddr())
		}
		if near.LocalAddr() == other.LocalAddr() || near.LocalAddr().String() == near.RemoteAddr().String() {
			t.Errorf("%v does not tell the ends apart", near.LocalAddr())
		}
		near.Close()
		if near.LocalAddr().Network() != "mem" {
			t.Error("the address is gone after Close")
		}
	})
}

// TestMemWaitForFailure: a reset is noticed by who does not read, and nothing
// is consumed.
func TestMemWaitForFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		mustWrite(t, far, "data")
		if r, err := near.Wait(within(t, time.Second), 0, 0); r != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v, %v", r, err)
		}
		later := time.AfterFunc(time.Minute, func() { far.Abort() })
		defer later.Stop()
		start := time.Now()
		for range 2 { // before and after it happened
			if r, err := near.Wait(t.Context(), 0, 0); r != anysock.Failed || err != nil || time.Since(start) != time.Minute {
				t.Errorf("wait: %v, %v after %s", r, err, time.Since(start))
			}
		}
		wantRead(t, near, "data")
		_, err := near.Read(make([]byte, 1))
		wantKind(t, "read", err, anysock.KindReset)
		if r, err := near.Wait(t.Context(), 0, 0); r != anysock.Failed || err != nil {
			t.Errorf("wait after the read: %v, %v", r, err)
		}
	})
}

// TestMemPeekAndWait: what is looked at is not consumed.
func TestMemPeekAndWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far, _ := memPair(t, anysock.Dialer{}, anysock.ListenConfig{})
		start := time.Now()
		later := time.AfterFunc(time.Minute, func() { mustWrite(t, far, "abc") })
		defer later.Stop()
		if r, err := near.Wait(t.Context(), anysock.Readable, 2); r != anysock.Readable || err != nil || time.Since(start) != time.Minute {
			t.Errorf("wait: %v, %v after %s", r, err, time.Since(start))
		}
		p := make([]byte, 2)
		if n, err := near.Peek(t.Context(), p); n != 2 || string(p) != "ab" || err != nil {
			t.Errorf("peek: %d, %v", n, err)
		}
		wantRead(t, near, "abc")
		far.CloseWrite()
		if r, err := near.Wait(t.Context(), anysock.Readable, 1); r&anysock.Readable == 0 || err != nil {
			t.Errorf("wait for the end: %v, %v", r, err)
		}
		wantEOF(t, near)
	})
}
