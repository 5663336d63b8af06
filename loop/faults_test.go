package loop_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/internal/testproc"
	"github.com/anysock/anysock/loop"
)

// failing makes system calls fail as f says. The clients of these tests are
// package net's, whose calls are not among them.
func failing(f func(call string) error) (restore func()) {
	return sys.Inject(func(call sys.Call, _ int) error { return f(string(call)) })
}

// eachNth fails every n-th of the named calls.
func eachNth(n int64, err error, calls ...sys.Call) (restore func(), failed *atomic.Int64) {
	var made atomic.Int64
	failed = new(atomic.Int64)
	return sys.Inject(func(call sys.Call, _ int) error {
		for _, c := range calls {
			if c == call && made.Add(1)%n == 0 {
				failed.Add(1)
				return err
			}
		}
		return nil
	}), failed
}

// plain dials without this module.
func (r *rig) plain() net.Conn {
	r.t.Helper()
	c, err := r.dialPlain()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) dialPlain() (net.Conn, error) {
	network, at := "tcp", r.addr
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		network, at = "unix", path
	} else {
		at = at[len("tcp://"):]
	}
	return new(net.Dialer).DialContext(r.ctx, network, at)
}

// closeWrite ends the client's direction.
func closeWrite(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

// Where the kernel is out of memory for a send or a receive now and then, and
// calls are interrupted, everything comes back all the same.
func TestOutOfMemory(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR} {
		for _, network := range networks {
			for kind, h := range echo {
				t.Run(errno.Error()+"/"+network+"/"+kind, func(t *testing.T) {
					r := serve(t, network, "", &loop.Server{Loops: 1, Handler: h})
					restore, failed := eachNth(7, errno, sys.CallRecv, sys.CallSend)
					defer restore()
					var clients sync.WaitGroup
					for range 4 {
						clients.Go(func() {
							c := r.plain()
							sent := pattern(300_000)
							clients.Go(func() {
								if _, err := c.Write(sent); err != nil {
									t.Error(err)
								}
								if err := closeWrite(c); err != nil {
									t.Error(err)
								}
							})
							got, err := io.ReadAll(c)
							if err != nil {
								t.Error(err)
							}
							if err := same("what came back", got, sent); err != nil {
								t.Error(err)
							}
							c.Close()
						})
					}
					clients.Wait()
					for range 4 {
						// A rest is a matter of milliseconds: a bound that ran out
						// would mean that something was forgotten.
						if e := r.end(); e.How != anysock.Graceful || e.Ended.Sub(e.Opened) >= anysock.DefaultDrainTimeout {
							t.Errorf("server: %q", e)
						}
					}
					if failed.Load() == 0 {
						t.Error("no call has failed")
					}
				})
			}
		}
	}
}

// A failure of the only receive, or of the only send, that anything is known by
// is made up for: nothing else would bring the loop back to it.
func TestOutOfMemoryForAByte(t *testing.T) {
	for _, network := range networks {
		for kind, h := range echo {
			t.Run(network+"/"+kind, func(t *testing.T) {
				r := serve(t, network, "", &loop.Server{Loops: 1, Handler: h})
				for n := int64(2); n < 5; n++ {
					restore, failed := eachNth(n, syscall.ENOBUFS, sys.CallRecv, sys.CallSend)
					c := r.plain()
					for range 10 {
						roundTrip(t, c, []byte("x"))
					}
					if err := closeWrite(c); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadAll(c); err != nil {
						t.Error(err)
					}
					c.Close()
					if e := r.end(); e.How != anysock.Graceful || e.Ended.Sub(e.Opened) >= anysock.DefaultDrainTimeout {
						t.Errorf("server: %q", e)
					}
					restore()
					if failed.Load() == 0 {
						t.Error("no call has failed")
					}
				}
			})
		}
	}
}

// Out of descriptors the listener pauses and goes on; nobody who waits is lost,
// those who are served are not held up, and Trouble is told.
func TestAcceptOutOfDescriptors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		for _, network := range networks {
			t.Run(errno.Error()+"/"+network, func(t *testing.T) {
				told := make(chan error, 10)
				r := serve(t, network, "", &loop.Server{Loops: 1, Handler: echo["callbacks"], Trouble: func(err error) { told <- err }})
				old := r.plain()
				roundTrip(t, old, []byte("before"))
				var left atomic.Int64
				left.Store(4)
				restore := failing(func(call string) error {
					if call == string(sys.CallAccept) && left.Add(-1) >= 0 {
						return errno
					}
					return nil
				})
				defer restore()
				for range 3 {
					c := r.plain()
					roundTrip(t, old, []byte("meanwhile"))
					roundTrip(t, c, []byte("at last"))
				}
				if left.Load() >= 0 {
					t.Errorf("%d accepts did not fail", left.Load())
				}
				if err := <-told; !errors.Is(err, errno) || kindOf(err) != anysock.KindLimit {
					t.Errorf("Trouble: %v", err)
				}
			})
		}
	}
}

// A connection that died in the queue is nobody's trouble.
func TestAcceptAborted(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			r := serve(t, network, "", &loop.Server{Loops: 1, Handler: echo["callbacks"], Trouble: func(err error) { t.Errorf("Trouble: %v", err) }})
			restore, failed := eachNth(2, syscall.ECONNABORTED, sys.CallAccept)
			defer restore()
			for range 5 {
				roundTrip(t, r.plain(), []byte("hello"))
			}
			if failed.Load() == 0 {
				t.Error("no accept has failed")
			}
		})
	}
}

// Very many who connect and reset at once leave nothing behind, and those who
// are served notice nothing.
func TestBurstOfResets(t *testing.T) {
	const burst = 10_000
	for kind, h := range echo {
		t.Run(kind, func(t *testing.T) {
			srv := &loop.Server{Loops: 2, Handler: h}
			r := serve(t, "tcp", "", srv)
			good := r.plain()
			roundTrip(t, good, []byte("before"))
			before := len(testproc.Descriptors())
			var left atomic.Int64
			left.Store(burst)
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					d := net.Dialer{}
					for i := left.Add(-1); i >= 0; i = left.Add(-1) {
						c, err := d.DialContext(r.ctx, "tcp", r.addr[len("tcp://"):])
						if err != nil {
							t.Error(err)
							return
						}
						if i%2 == 0 {
							_, _ = c.Write([]byte("hello"))
						}
						_ = c.(*net.TCPConn).SetLinger(0)
						c.Close()
					}
				})
			}
			for clientsDone := waiting(&clients); ; {
				roundTrip(t, good, []byte("still served"))
				if clientsDone() {
					break
				}
			}
			settle(t, "all of them are gone", func() bool {
				st := srv.Stats()
				return st.Active == 1 && st.Accepted == burst+1
			})
			roundTrip(t, good, []byte("after"))
			// A loop may have got its listener, and the reserve with it, only now.
			settle(t, "their descriptors are gone", func() bool { return len(testproc.Descriptors()) <= before+srv.Loops })
			if n := r.over.Load(); n != burst {
				t.Errorf("%d endings were told of %d", n, burst)
			}
			for range 100 {
				if e := r.end(); e.How != anysock.AbortedByPeer {
					t.Fatalf("server: %q", e)
				}
			}
		})
	}
}

// waiting returns a function that says whether all are done.
func waiting(g *sync.WaitGroup) func() bool {
	done := make(chan struct{})
	go func() {
		g.Wait()
		close(done)
	}()
	return func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// A peer that sends a byte at a time is served like any other, and holds up
// nobody.
func TestByteAtATime(t *testing.T) {
	lines := map[string]loop.Handler{
		"callbacks": {Data: func(c *loop.Conn, p []byte) {
			line, _ := c.Value().([]byte)
			line = append(line, p...)
			for {
				i := bytes.IndexByte(line, '\n')
				if i < 0 {
					break
				}
				_, _ = c.Write(bytes.ToUpper(line[:i+1]))
				line = line[i+1:]
			}
			c.SetValue(line)
		}},
		"coroutine": {Serve: func(s *loop.Stream) error {
			var line []byte
			for {
				p, err := s.Next()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				line = append(line, p...)
				if i := bytes.IndexByte(line, '\n'); i >= 0 {
					if _, err := s.Write(bytes.ToUpper(line[:i+1])); err != nil {
						return err
					}
					line = line[i+1:]
				}
			}
		}},
	}
	for kind, h := range lines {
		for _, network := range networks {
			t.Run(network+"/"+kind, func(t *testing.T) {
				r := serve(t, network, "", &loop.Server{Loops: 1, Handler: h})
				slow, other := r.plain(), r.plain()
				const text = "one byte is sent, then somebody else is served\n"
				for i := range len(text) {
					if _, err := slow.Write([]byte{text[i]}); err != nil {
						t.Fatal(err)
					}
					if _, err := other.Write([]byte("quick\n")); err != nil {
						t.Fatal(err)
					}
					got := make([]byte, 6)
					if _, err := io.ReadFull(other, got); err != nil || string(got) != "QUICK\n" {
						t.Fatalf("the other gets %q, %v", got, err)
					}
				}
				got := make([]byte, len(text))
				if _, err := io.ReadFull(slow, got); err != nil || string(got) != strings.ToUpper(text) {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
}

// A send that fails for good ends the connection, although its peer lives and
// waits: behind what that had sent, whatever the loop is told of.
func TestFailedSend(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET} {
		for _, network := range networks {
			for kind, h := range echo {
				t.Run(errno.Error()+"/"+network+"/"+kind, func(t *testing.T) {
					r := serve(t, network, "", &loop.Server{Loops: 1, Handler: h})
					var left atomic.Int64
					left.Store(1)
					restore := failing(func(call string) error {
						if call == string(sys.CallSend) && left.Add(-1) >= 0 {
							return errno
						}
						return nil
					})
					defer restore()
					c := r.plain()
					for range 20 { // more than is received at once
						if _, err := c.Write(pattern(10_000)); err != nil {
							break // it has ended
						}
					}
					if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal("the peer waits in vain")
					}
					if e := r.end(); e.How == anysock.Graceful {
						t.Errorf("server: %q", e)
					}
				})
			}
		}
	}
}
