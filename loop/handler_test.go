package loop_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// A handler that panics costs its own connection, whose peer sees a reset, and
// nobody else's. The cause of the ending is what it panicked with.
func TestPanic(t *testing.T) {
	cause := errors.New("a bug")
	boom := func() { panic(cause) }
	much := pattern(100_000)
	ready := func(c *loop.Conn) { _, _ = c.Write([]byte("!")) }
	for name, h := range map[string]loop.Handler{
		"open": {Open: func(*loop.Conn) { boom() }, Data: func(*loop.Conn, []byte) {}},
		"data": {Open: ready, Data: func(*loop.Conn, []byte) { boom() }},
		"end":  {Open: ready, Data: func(*loop.Conn, []byte) {}, End: func(*loop.Conn) { boom() }},
		"sent": {Open: func(c *loop.Conn) {
			for {
				if _, err := c.Write(much); err != nil {
					return
				}
			}
		}, Data: func(*loop.Conn, []byte) {}, End: func(*loop.Conn) {}, Sent: func(*loop.Conn) { boom() }},
		"serve": {Serve: func(s *loop.Stream) error { boom(); return nil }},
		"serve later": {Serve: func(s *loop.Stream) error {
			ready(s.Conn())
			if _, err := s.Next(); err != nil {
				return err
			}
			boom()
			return nil
		}},
		"post": {Open: func(c *loop.Conn) { ready(c); _ = c.Post(boom) }, Data: func(*loop.Conn, []byte) {}, End: func(*loop.Conn) {}},
	} {
		for _, network := range networks {
			t.Run(name+"/"+network, func(t *testing.T) {
				var n atomic.Int64 // the first connection plays by the book
				book := echo["callbacks"]
				if h.Serve != nil {
					serve := h.Serve
					h.Serve = func(s *loop.Stream) error {
						if n.Add(1) == 1 {
							return echo["coroutine"].Serve(s)
						}
						return serve(s)
					}
				} else {
					broken := h
					good := func(c *loop.Conn) bool { v, _ := c.Value().(bool); return v }
					h.Open = func(c *loop.Conn) {
						if n.Add(1) == 1 {
							c.SetValue(true)
						} else if broken.Open != nil {
							broken.Open(c)
						}
					}
					h.Data = func(c *loop.Conn, p []byte) {
						if good(c) {
							book.Data(c, p)
						} else {
							broken.Data(c, p)
						}
					}
				}
				told := make(chan error, 1)
				r := serve(t, network, "", &loop.Server{Loops: 1, Handler: h, Trouble: func(err error) { told <- err }})
				other := r.dial()
				roundTrip(t, other, []byte("before"))
				c, err := anysock.Dial(r.ctx, r.addr)
				if err == nil { // else the reset was there at once
					defer func() { _ = c.Abort() }()
					go func() { // what makes the handler panic, if opening did not
						_, _ = c.Write([]byte("x"))
						_ = c.CloseWrite()
					}()
					_, err = io.Copy(io.Discard, c)
				}
				if network != "unix" && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the peer sees %v", err)
				}
				e := r.end()
				var pe *loop.PanicError
				if e.How != anysock.AbortedByUs || !errors.As(e.Err, &pe) || !errors.Is(e.Err, cause) {
					t.Fatalf("the ending: %q, %v", e, e.Err)
				}
				if !bytes.Contains(pe.Stack, []byte("TestPanic")) {
					t.Errorf("the stack does not name the handler:\n%s", pe.Stack)
				}
				if err := <-told; !errors.Is(err, pe) {
					t.Errorf("Trouble: %v", err)
				}
				roundTrip(t, other, []byte("after"))
			})
		}
	}
}

// A panic in Ended is nobody's any more, and harms nobody.
func TestPanicInEnded(t *testing.T) {
	h := echo["callbacks"]
	h.Ended = func(*loop.Conn, anysock.End) { panic("in Ended") }
	var told atomic.Int64
	srv := &loop.Server{Loops: 1, Handler: h, Trouble: func(error) { told.Add(1) }}
	r := serve(t, "tcp", "", srv)
	for range 3 {
		c := r.dial()
		roundTrip(t, c, []byte("hello"))
		if _, err := c.Disconnect(r.ctx); err != nil {
			t.Error(err)
		}
	}
	settle(t, "no connection is left", func() bool { return srv.Stats().Active == 0 })
	settle(t, "all are told of", func() bool { return told.Load() == 3 })
}

// theHandlerThatBlocks is what the report has to name.
func theHandlerThatBlocks(hold chan struct{}) { <-hold }

// A handler that blocks is reported once each time, with its stack.
func TestBlocked(t *testing.T) {
	for _, kind := range []string{"callbacks", "coroutine"} {
		t.Run(kind, func(t *testing.T) {
			hold := make(chan struct{})
			stacks := make(chan string, 10)
			after := 20 * time.Millisecond
			srv := &loop.Server{Loops: 1, BlockedAfter: after, Blocked: func(held time.Duration, stack []byte) {
				if held < after {
					t.Errorf("reported after %v", held)
				}
				stacks <- string(stack)
			}}
			if kind == "callbacks" {
				srv.Handler.Data = func(c *loop.Conn, p []byte) {
					theHandlerThatBlocks(hold)
					_, _ = c.Write(p)
				}
			} else {
				srv.Handler.Serve = func(s *loop.Stream) error {
					for {
						p, err := s.Next()
						if errors.Is(err, io.EOF) {
							return nil
						}
						if err != nil {
							return err
						}
						theHandlerThatBlocks(hold)
						if _, err := s.Write(p); err != nil {
							return err
						}
					}
				}
			}
			r := serve(t, "tcp", "", srv)
			c := r.dial()
			for range 2 { // told each time
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				select {
				case stack := <-stacks:
					if !strings.Contains(stack, "theHandlerThatBlocks") {
						t.Errorf("the stack does not name the handler:\n%s", stack)
					}
				case <-r.ctx.Done():
					t.Fatal("nothing was reported")
				}
				hold <- struct{}{}
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(stacks); n != 0 {
				t.Errorf("reported %d times more", n)
			}
		})
	}
}

// An error that the handler of a Stream returns aborts the connection, and is
// the cause of its ending.
func TestStreamError(t *testing.T) {
	cause := errors.New("not understood")
	r := serve(t, "tcp", "", &loop.Server{Loops: 1, Handler: loop.Handler{Serve: func(s *loop.Stream) error {
		if _, err := s.Next(); err != nil {
			return err
		}
		return cause
	}}})
	c := r.dial()
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); kindOf(err) != anysock.KindReset {
		t.Errorf("the peer sees %v", err)
	}
	if e := r.end(); e.How != anysock.AbortedByUs || !errors.Is(e.Err, cause) {
		t.Errorf("the ending: %q, %v", e, e.Err)
	}
}

// Disconnect waits on the loop and returns the ending that Ended is told.
func TestStreamDisconnect(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			said := make(chan anysock.End, 1)
			r := serve(t, network, "", &loop.Server{Loops: 1, Handler: loop.Handler{Serve: func(s *loop.Stream) error {
				if _, err := s.Write(pattern(500_000)); err != nil {
					return err
				}
				end, err := s.Disconnect()
				if err != nil {
					t.Errorf("Disconnect: %v", err)
				}
				again, err := s.Disconnect()
				if err != nil || again.How != end.How {
					t.Errorf("a second Disconnect: %q, %v", again, err)
				}
				if n, err := s.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("Read after it: %d, %v", n, err)
				}
				said <- end
				return nil
			}}})
			c := r.dial()
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := same("what was written", got, pattern(500_000)); err != nil {
				t.Error(err)
			}
			if _, err := c.Disconnect(r.ctx); err != nil {
				t.Error(err)
			}
			end, told := <-said, r.end()
			if end.How != anysock.Graceful || end.Sent != 500_000 || told.String() != end.String() {
				t.Errorf("Disconnect returned %q, Ended was told %q", end, told)
			}
		})
	}
}
