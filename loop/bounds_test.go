package loop_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// roundTrip sends p over c and has it back.
func roundTrip(t *testing.T, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatalf("Write: %v", err)
	}
	got := make([]byte, len(p))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("Read: %v", err)
	}
	if !bytes.Equal(got, p) {
		t.Fatalf("sent %q, got back %q", p, got)
	}
}

// Contract 9: Write takes no more than the buffer, and Sent says when there is
// room again; everything arrives in order.
func TestWriteBufferIsBounded(t *testing.T) {
	const limit, total = 20_000, 8 << 20
	down := pattern(total)
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			full := make(chan struct{})
			var once sync.Once
			var refused, sent atomic.Int64
			left := down
			pour := func(c *loop.Conn) {
				for len(left) > 0 {
					n, err := c.Write(left[:min(len(left), 7000)])
					if q := c.Queued(); q > limit+7000+64<<10 {
						t.Errorf("%d bytes are queued", q)
					}
					left = left[n:]
					if errors.Is(err, loop.ErrFull) {
						if kindOf(err) != anysock.KindLimit || n != 0 {
							t.Errorf("Write: %d, %v", n, err)
						}
						refused.Add(1)
						once.Do(func() { close(full) })
						return
					}
					if err != nil {
						t.Errorf("Write: %v", err)
						return
					}
				}
				c.Close()
			}
			r := serve(t, network, "", &loop.Server{Loops: 1, WriteBuffer: limit, Handler: loop.Handler{
				Open: pour,
				Data: func(*loop.Conn, []byte) {},
				Sent: func(c *loop.Conn) { sent.Add(1); pour(c) },
			}})
			c := r.dial()
			<-full
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := same("what was written", got, down); err != nil {
				t.Error(err)
			}
			if _, err := c.Disconnect(r.ctx); err != nil {
				t.Error(err)
			}
			if e := r.end(); e.How != anysock.Graceful || e.Sent != total {
				t.Errorf("server: %q", e)
			}
			if refused.Load() == 0 || sent.Load() == 0 {
				t.Errorf("refused %d times, Sent told %d times", refused.Load(), sent.Load())
			}
		})
	}
}

// push writes until nothing moves any more, and says how much that was.
func push(t *testing.T, c *anysock.Conn) int64 {
	t.Helper()
	p := pattern(64 << 10)
	var total int64
	for {
		if err := c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(p)
		total += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if n > 0 {
				continue
			}
			if err := c.SetWriteDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			return total
		}
		if err != nil {
			t.Fatalf("Write: %v", err)
		}
		if total > 64<<20 { // the kernel's largest buffers on both ways
			t.Fatal("64 MiB were taken and nothing was read")
		}
	}
}

// Contract 9: a peer that never reads holds up itself alone, and all of its echo
// is there when it does.
func TestPeerThatNeverReads(t *testing.T) {
	for _, network := range networks {
		for kind, h := range echo {
			t.Run(network+"/"+kind, func(t *testing.T) {
				var most atomic.Int64
				if data := h.Data; data != nil {
					h.Data = func(c *loop.Conn, p []byte) {
						data(c, p)
						most.Store(max(most.Load(), int64(c.Queued())))
					}
				}
				r := serve(t, network, "", &loop.Server{Loops: 1, WriteBuffer: 100_000, Handler: h})
				deaf := r.dial()
				total := push(t, deaf)
				roundTrip(t, r.dial(), []byte("somebody else"))
				if q := most.Load(); q > 100_000+2*loop.ReadBuffer {
					t.Errorf("%d bytes were queued", q)
				}
				if err := deaf.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(deaf)
				if err != nil || int64(len(got)) != total {
					t.Errorf("%d bytes of %d came back: %v", len(got), total, err)
				}
			})
		}
	}
}

// Contract 9: what is not wanted stays with the peer, its reset is noticed all
// the same, and ResumeRead brings everything, the end included.
func TestPauseRead(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			conns := make(chan *loop.Conn, 1)
			ended := make(chan struct{}, 1)
			var received atomic.Int64
			r := serve(t, network, "", &loop.Server{Loops: 1, Handler: loop.Handler{
				Open: func(c *loop.Conn) { c.PauseRead(); conns <- c },
				Data: func(_ *loop.Conn, p []byte) { received.Add(int64(len(p))) },
				End:  func(c *loop.Conn) { ended <- struct{}{}; c.Close() },
			}})
			c := r.dial()
			paused := <-conns
			total := push(t, c)
			if n := received.Load(); n != 0 {
				t.Errorf("%d bytes were handed out while it was paused", n)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := paused.Post(paused.ResumeRead); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(c); err != nil {
				t.Error(err)
			}
			<-ended
			if n := received.Load(); n != total {
				t.Errorf("%d bytes came of %d", n, total)
			}
			if e := r.end(); e.How != anysock.Graceful || e.Received != total {
				t.Errorf("server: %q", e)
			}
			if network == "unix" {
				return
			}
			c = r.dial()
			<-conns
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := c.Abort(); err != nil {
				t.Fatal(err)
			}
			if e := r.end(); e.How != anysock.AbortedByPeer {
				t.Errorf("server: %q", e)
			}
		})
	}
}

// A connection without traffic ends as Idle, and one with traffic does not.
func TestIdle(t *testing.T) {
	for _, network := range networks {
		for kind, h := range echo {
			t.Run(network+"/"+kind, func(t *testing.T) {
				const idle = 200 * time.Millisecond
				r := serve(t, network, "", &loop.Server{Loops: 1, Idle: idle, Handler: h})
				start := time.Now()
				silent, busy := r.dial(), r.dial()
				var end anysock.End
				for end.How == anysock.NotEnded {
					roundTrip(t, busy, []byte("I am here"))
					select {
					case end = <-r.ends:
					default:
					}
				}
				if after := time.Since(start); after < idle {
					t.Errorf("ended after %v", after)
				}
				var ie *anysock.IdleError
				if end.How != anysock.Idle || end.By != anysock.Us || !errors.As(end.Err, &ie) || ie.After != idle || end.Received != 0 {
					t.Errorf("the ending: %q, %v", end, end.Err)
				}
				_, err := silent.Read(make([]byte, 1))
				if network != "unix" && kindOf(err) != anysock.KindReset || err == nil {
					t.Errorf("the silent one reads %v", err)
				}
				for time.Since(start) < 3*idle {
					roundTrip(t, busy, []byte("still here"))
				}
			})
		}
	}
}

// No more connections than MaxConns are served; the others wait, and get their
// turn.
func TestMaxConns(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			var active, most atomic.Int64
			h := echo["callbacks"]
			h.Open = func(*loop.Conn) { most.Store(max(most.Load(), active.Add(1))) }
			h.Ended = func(*loop.Conn, anysock.End) { active.Add(-1) }
			r := serve(t, network, "?maxconns=3", &loop.Server{Loops: 1, Handler: h})
			var clients sync.WaitGroup
			for range 30 {
				clients.Go(func() {
					c := r.dial()
					roundTrip(t, c, []byte("hello"))
					if _, err := c.Disconnect(r.ctx); err != nil {
						t.Error(err)
					}
				})
			}
			clients.Wait()
			if m := most.Load(); m > 3 {
				t.Errorf("%d were served at once", m)
			}
			if st := r.srv.Stats(); st.Accepted != 30 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Post reaches a connection from anywhere; too many are refused, and so are
// those after the server's end.
func TestPost(t *testing.T) {
	conns := make(chan *loop.Conn, 1)
	h := echo["callbacks"]
	h.Open = func(c *loop.Conn) { conns <- c }
	r := serve(t, "tcp", "", &loop.Server{Loops: 1, Handler: h})
	c := r.dial()
	sc := <-conns
	var posts sync.WaitGroup
	for range 50 {
		posts.Go(func() {
			if err := sc.Post(func() { _, _ = sc.Write([]byte("0123456789")) }); err != nil {
				t.Error(err)
			}
		})
	}
	posts.Wait()
	got := make([]byte, 500)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("0123456789"), 50)) {
		t.Errorf("got %q, %v", got, err)
	}
	hold, held := make(chan struct{}), make(chan struct{})
	if err := sc.Post(func() { close(held); <-hold }); err != nil {
		t.Fatal(err)
	}
	<-held
	ran := 0
	for range loop.MaxPosts {
		if err := sc.Post(func() { ran++ }); err != nil {
			t.Fatal(err)
		}
	}
	if err := sc.Post(func() { t.Error("it was refused, and ran") }); kindOf(err) != anysock.KindLimit {
		t.Errorf("one too many: %v", err)
	}
	close(hold)
	if err := c.Abort(); err != nil {
		t.Fatal(err)
	}
	r.end()
	if _, err := r.srv.Shutdown(r.ctx); err != nil {
		t.Fatal(err)
	}
	if ran != loop.MaxPosts {
		t.Errorf("%d functions of %d were run", ran, loop.MaxPosts)
	}
	if err := sc.Post(func() { t.Error("the loop has ended") }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Calls that make no sense say so, from the handlers of the connection.
func TestOrderOfCalls(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := loop.Handler{
				Data: func(c *loop.Conn, _ []byte) {
					c.Close()
					c.Close()
					if n, err := c.Write([]byte("x")); n != 0 || kindOf(err) != anysock.KindState {
						t.Errorf("Write after Close: %d, %v", n, err)
					}
					if err := c.CloseWrite(); kindOf(err) != anysock.KindState {
						t.Errorf("CloseWrite after Close: %v", err)
					}
				},
				End: func(*loop.Conn) { t.Error("End was told after Close") },
				Ended: func(c *loop.Conn, _ anysock.End) {
					if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
						t.Errorf("Write after the ending: %d, %v", n, err)
					}
					if err := c.CloseWrite(); !errors.Is(err, net.ErrClosed) {
						t.Errorf("CloseWrite after the ending: %v", err)
					}
					c.Close()
					if err := c.Abort(); err != nil {
						t.Errorf("Abort after the ending: %v", err)
					}
				},
			}
			r := serve(t, network, "", &loop.Server{Loops: 1, Handler: h})
			c := r.dial()
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Disconnect(r.ctx); err != nil {
				t.Error(err)
			}
			if e := r.end(); e.How != anysock.Graceful {
				t.Errorf("server: %q", e)
			}
		})
	}
}
