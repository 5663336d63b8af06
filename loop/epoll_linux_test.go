//go:build linux && !anysock_portable

package loop_test

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/loop"
)

// Where epoll fails for want of memory, whatever call it is, connections may
// fail, and say so; the loop lives on, and serves who comes next.
func TestEpollOutOfMemory(t *testing.T) {
	for kind, h := range echo {
		for _, network := range networks {
			t.Run(network+"/"+kind, func(t *testing.T) {
				srv := &loop.Server{Loops: 1, Handler: h, Trouble: func(error) {}}
				r := serve(t, network, "", srv)
				old := r.plain()
				roundTrip(t, old, []byte("before"))
				var failed atomic.Int64
				var n atomic.Int64
				restore := sys.Inject(func(call sys.Call, _ int) error {
					if call == sys.CallPoll && n.Add(1)%3 == 0 {
						failed.Add(1)
						return syscall.ENOMEM
					}
					return nil
				})
				defer restore()
				broken := 0
				for i := range 30 {
					c, err := r.dialPlain()
					if errors.Is(err, syscall.ECONNRESET) { // at once
						broken++
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					sent := pattern(10_000 * (i % 7))
					wrote := make(chan error, 1)
					go func() {
						_, err := c.Write(sent)
						if err == nil {
							err = closeWrite(c)
						}
						wrote <- err
					}()
					got, err := io.ReadAll(c)
					// A reset that writing is told of, reading takes for an end
					// (docs/notes/so-error).
					if werr := <-wrote; werr != nil {
						err = syscall.ECONNRESET
					}
					switch {
					case err == nil && network == "unix" && len(got) < len(sent):
						broken++ // a unix socket that is closed looks like an end
					case err == nil:
						if err := same("what came back", got, sent); err != nil {
							t.Error(err)
						}
					case errors.Is(err, syscall.ECONNRESET):
						broken++
					default:
						t.Error(err)
					}
					c.Close()
				}
				restore()
				if failed.Load() == 0 {
					t.Error("no call has failed")
				}
				t.Logf("%d calls failed, and %d connections of 30 with them", failed.Load(), broken)
				roundTrip(t, old, []byte("after"))
				roundTrip(t, r.plain(), []byte("and who comes next"))
				old.Close()
				settle(t, "none is left behind", func() bool { return srv.Stats().Active <= 1 })
			})
		}
	}
}
