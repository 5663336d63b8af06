package loop_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// Shutdown lets the connections finish, takes those that wait in the queue, and
// nobody can connect any more.
func TestShutdownDrains(t *testing.T) {
	for _, network := range networks {
		for kind, h := range echo {
			t.Run(network+"/"+kind, func(t *testing.T) {
				draining := make(chan int, 1)
				srv := &loop.Server{Loops: 1, Handler: h, Draining: func(n int) { draining <- n }}
				// Only one is let in, so that the others wait in the queue.
				r := serve(t, network, "?maxconns=1", srv)
				conns := []*anysock.Conn{r.dial()}
				roundTrip(t, conns[0], []byte("hello"))
				for range 5 {
					conns = append(conns, r.dial())
				}
				type done struct {
					d   loop.Drained
					err error
				}
				over := make(chan done, 1)
				go func() {
					d, err := srv.Shutdown(r.ctx)
					over <- done{d, err}
				}()
				if n := <-draining; n != len(conns) {
					t.Errorf("%d connections are left to drain, want %d", n, len(conns))
				}
				if c, err := anysock.Dial(r.ctx, r.addr); err == nil {
					_ = c.Abort()
					t.Error("the listener is still there")
				}
				for _, c := range conns {
					roundTrip(t, c, []byte("to the last"))
					if end, err := c.Disconnect(r.ctx); err != nil || end.How != anysock.Graceful {
						t.Errorf("client: %q, %v", end, err)
					}
				}
				got := <-over
				if got.err != nil || got.d != (loop.Drained{Queued: 5, Finished: 6}) {
					t.Errorf("%+v, %v", got.d, got.err)
				}
				for range conns {
					if e := r.end(); e.How != anysock.Graceful {
						t.Errorf("server: %q", e)
					}
				}
			})
		}
	}
}

// At the deadline what is left is cut, which its peer sees as a reset and the
// handler is told.
func TestShutdownCuts(t *testing.T) {
	for _, network := range networks {
		for kind, h := range echo {
			t.Run(network+"/"+kind, func(t *testing.T) {
				srv := &loop.Server{Loops: 2, Handler: h}
				r := serve(t, network, "", srv)
				var conns []*anysock.Conn
				for range 5 {
					c := r.dial()
					roundTrip(t, c, []byte("hello"))
					conns = append(conns, c)
				}
				ctx, cancel := context.WithCancel(r.ctx)
				cancel()
				d, err := srv.Shutdown(ctx)
				if !errors.Is(err, context.Canceled) || d != (loop.Drained{Cut: 5}) {
					t.Errorf("%+v, %v", d, err)
				}
				for _, c := range conns {
					if _, err := c.Read(make([]byte, 1)); network != "unix" && kindOf(err) != anysock.KindReset {
						t.Errorf("the client reads %v", err)
					}
					if e := r.end(); e.How != anysock.AbortedByUs || !errors.Is(e.Err, loop.ErrDrainDeadline) {
						t.Errorf("server: %q, %v", e, e.Err)
					}
				}
				if again, err := srv.Shutdown(r.ctx); err != nil || again != d {
					t.Errorf("a second Shutdown: %+v, %v", again, err)
				}
				lns, err := srv.Listen(r.ctx, address(t, network))
				if err != nil {
					t.Fatal(err)
				}
				if err := srv.Serve(r.ctx, lns...); kindOf(err) != anysock.KindClosed {
					t.Errorf("Serve after Shutdown: %v", err)
				}
				for _, ln := range lns {
					_ = ln.Close()
				}
			})
		}
	}
}

// A server that was never started is shut down; one without a handler says so.
func TestServerStates(t *testing.T) {
	var idle loop.Server
	idle.Handler = loop.Discard()
	if d, err := idle.Shutdown(t.Context()); err != nil || d != (loop.Drained{}) {
		t.Errorf("%+v, %v", d, err)
	}
	var empty loop.Server
	if err := empty.Serve(t.Context()); kindOf(err) != anysock.KindState {
		t.Errorf("without a handler: %v", err)
	}
	if _, err := empty.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	foreign := loop.Server{Handler: loop.Discard()}
	ln, err := anysock.Listen(t.Context(), "mem:loop-foreign")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := foreign.Serve(t.Context(), ln); kindOf(err) != anysock.KindUnsupported {
		t.Errorf("a listener that is no kernel socket: %v", err)
	}
	if _, err := foreign.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Under load a drain finishes what is asked until then and a cut resets the
// rest: no client sees an end that is none.
func TestShutdownUnderLoad(t *testing.T) {
	const clients, rounds = 50, 300
	for _, network := range networks {
		for kind, h := range echo {
			for how, cut := range map[string]bool{"drained": false, "cut": true} {
				t.Run(network+"/"+kind+"/"+how, func(t *testing.T) {
					srv := &loop.Server{Loops: 2, Handler: h}
					r := serve(t, network, "", srv)
					var under, torn atomic.Int64
					begun := make(chan struct{}, clients)
					ask := func() {
						c, err := anysock.Dial(r.ctx, r.addr)
						if err != nil {
							t.Error(err)
							return
						}
						defer c.Close()
						p, got := pattern(3000), make([]byte, 3000)
						for i := 0; i < rounds || cut; i++ {
							_, err := c.Write(p)
							if err == nil {
								_, err = io.ReadFull(c, got)
							}
							if err != nil {
								torn.Add(1)
								// A cut unix socket reads as an end, or as a broken pipe.
								if !cut || network != "unix" && kindOf(err) != anysock.KindReset {
									t.Errorf("in round %d: %v", i, err)
								}
								return
							}
							if i == 3 {
								begun <- struct{}{}
							}
						}
						under.Add(1)
						if end, err := c.Disconnect(r.ctx); err != nil || end.How != anysock.Graceful {
							t.Errorf("client: %q, %v", end, err)
						}
					}
					var all sync.WaitGroup
					for range clients {
						all.Go(ask)
					}
					for range clients {
						<-begun
					}
					ctx, cancel := context.WithCancel(r.ctx)
					defer cancel()
					if cut {
						cancel()
					}
					d, err := srv.Shutdown(ctx)
					all.Wait()
					if cut {
						if !errors.Is(err, context.Canceled) || d.Cut != clients || torn.Load() != clients {
							t.Errorf("%+v, %v; %d clients were cut", d, err, torn.Load())
						}
					} else if err != nil || d.Cut != 0 || under.Load() != clients {
						t.Errorf("%+v, %v; %d clients finished", d, err, under.Load())
					}
				})
			}
		}
	}
}

// A server that fails to accept for good says so from Serve, and its connections
// live on.
func TestListenerFails(t *testing.T) {
	srv := &loop.Server{Loops: 1, Handler: echo["callbacks"]}
	lns, err := srv.Listen(t.Context(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), lns...) }()
	c, err := anysock.Dial(t.Context(), "tcp://"+lns[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, []byte("one"))
	restore := failing(func(call string) error {
		if call == "accept" {
			return net.UnknownNetworkError("broken")
		}
		return nil
	})
	other, derr := new(net.Dialer).DialContext(t.Context(), "tcp", lns[0].Addr().String())
	if derr == nil {
		other.Close()
	}
	err = <-served
	restore()
	if err == nil || !errors.As(err, new(net.UnknownNetworkError)) {
		t.Errorf("Serve: %v", err)
	}
	roundTrip(t, c, []byte("two"))
	if _, err := c.Disconnect(t.Context()); err != nil {
		t.Error(err)
	}
	if d, err := srv.Shutdown(t.Context()); err != nil || d.Cut != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}
