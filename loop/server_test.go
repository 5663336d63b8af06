package loop_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// A rig is a server at work, with the endings of its connections.
type rig struct {
	t    *testing.T
	ctx  context.Context
	srv  *loop.Server
	addr string
	ends chan anysock.End // those that nobody has room for are only counted
	over atomic.Int64
}

// networks are the kinds of address that a loop serves.
var networks = []string{"tcp", "tcp6", "unix"}

func address(t *testing.T, network string) string {
	switch network {
	case "tcp":
		return "tcp://127.0.0.1:0"
	case "tcp6":
		return "tcp://[::1]:0"
	}
	dir, err := os.MkdirTemp("", "loop") //nolint:usetesting // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "unix:" + filepath.Join(dir, "s")
}

// serve runs a server until the test ends; its endings go to r.ends.
func serve(t *testing.T, network, options string, srv *loop.Server) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	r := &rig{t: t, ctx: ctx, srv: srv, ends: make(chan anysock.End, 1000)}
	h := &srv.Handler
	told := h.Ended
	var gone sync.Map // the connections whose ending was told: nothing comes after it
	wrapped := func(what string, f func(c *loop.Conn)) func(c *loop.Conn) {
		if f == nil {
			return nil
		}
		return func(c *loop.Conn) {
			if _, ok := gone.Load(c); ok {
				t.Errorf("%s was told after the ending", what)
			}
			f(c)
		}
	}
	h.End, h.Sent = wrapped("End", h.End), wrapped("Sent", h.Sent)
	if data := h.Data; data != nil {
		h.Data = func(c *loop.Conn, p []byte) {
			if _, ok := gone.Load(c); ok || len(p) == 0 {
				t.Errorf("Data was given %d bytes, after the ending: %v", len(p), ok)
			}
			data(c, p)
		}
	}
	h.Ended = func(c *loop.Conn, end anysock.End) {
		if _, again := gone.LoadOrStore(c, true); again {
			t.Errorf("a second ending: %q", end)
		}
		if told != nil {
			told(c, end)
		}
		r.over.Add(1)
		select {
		case r.ends <- end:
		default:
		}
	}
	addr := address(t, network)
	lns, err := srv.Listen(ctx, addr+options)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = addr
	if a, ok := lns[0].Addr().(*net.TCPAddr); ok {
		r.addr = "tcp://" + a.String()
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(ctx, lns...); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		sctx, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		_, _ = srv.Shutdown(sctx)
		cancel()
		serving.Wait()
	})
	return r
}

func (r *rig) dial() *anysock.Conn {
	r.t.Helper()
	c, err := anysock.Dial(r.ctx, r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Abort() })
	return c
}

// end is the next ending.
func (r *rig) end() anysock.End {
	r.t.Helper()
	select {
	case e := <-r.ends:
		return e
	case <-r.ctx.Done():
		r.t.Fatal("no ending was told")
	}
	panic("unreachable")
}

var echo = map[string]loop.Handler{
	"callbacks": {Data: func(c *loop.Conn, p []byte) { _, _ = c.Write(p) }},
	"coroutine": {Serve: func(s *loop.Stream) error {
		for {
			p, err := s.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := s.Write(p); err != nil {
				return err
			}
		}
	}},
}

// What goes in comes back, whole, from many clients at once, in all sizes, and
// both sides end gracefully.
func TestEcho(t *testing.T) {
	for _, network := range networks {
		for kind, h := range echo {
			t.Run(network+"/"+kind, func(t *testing.T) {
				r := serve(t, network, "", &loop.Server{Handler: h, Loops: 2})
				var clients sync.WaitGroup
				for seed := range uint64(20) {
					clients.Go(func() {
						rnd := rand.New(rand.NewPCG(seed, 7))
						c := r.dial()
						sent := make([]byte, rnd.IntN(1<<20)+1)
						for i := range sent {
							sent[i] = byte(rnd.Uint32())
						}
						go func() {
							for rest := sent; len(rest) > 0; {
								n := min(len(rest), 1+rnd.IntN(100_000))
								if _, err := c.Write(rest[:n]); err != nil {
									t.Error(err)
									return
								}
								rest = rest[n:]
							}
							if err := c.CloseWrite(); err != nil {
								t.Error(err)
							}
						}()
						got, err := io.ReadAll(c)
						if err != nil {
							t.Error(err)
						}
						if !bytes.Equal(got, sent) {
							t.Errorf("%d bytes came back of %d", len(got), len(sent))
						}
						if end, err := c.Disconnect(r.ctx); err != nil || end.How != anysock.Graceful {
							t.Errorf("client: %v, %v", end, err)
						}
					})
				}
				clients.Wait()
				for range 20 {
					if e := r.end(); e.How != anysock.Graceful || e.By != anysock.Peer || e.Sent != e.Received || e.Sent == 0 {
						t.Errorf("server: %v", e)
					}
				}
			})
		}
	}
}
