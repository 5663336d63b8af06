//go:build linux && !anysock_portable

package reactor

import (
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// This file waits for events, in the company of the program's other goroutines.
//
// A loop looks without waiting, and only if it has found nothing tells the
// scheduler that it waits. A wait that is bounded by 50 µs to 2 ms, and of which
// the scheduler is not told, costs more instead of less where it is often in
// vain or sleeps: the kernel has to set its clock each time. For one message
// every 60 µs that was a third more.
//
// Where each processor (GOMAXPROCS) has a loop, the other goroutines have none
// but the loops', which therefore lets those run that can before it handles what
// it has found. But nobody looks after the sockets and files that goroutines
// wait for, as long as some goroutine can run, but the runtime's monitor, every
// 10 ms: so the loop has the scheduler do so once in a turn. With one processor,
// and one or 64 connections of the loop that never rest, a round trip of package
// net takes 0.5 to 0.8 ms at the median; without turns it was 7.8 ms. A sleep is
// 30 to 160 µs too long and a read of a file takes 20 to 40 µs, with and without
// (Linux 6.18, Go 1.26).

const (
	// turn is how long a loop that is busy keeps a processor, which other
	// goroutines need, to those that can run.
	turn = time.Millisecond
	// looksAtCrowd is after how many waits the processors are counted anew.
	looksAtCrowd = 1 << 14
)

// running counts the loops of this process.
var running atomic.Int32

// waiting is what an engine knows of its waits.
type waiting struct {
	alone  bool      // there are processors without a loop
	count  uint32    // of waits so far
	turned time.Time // the turnstile was passed
	others turnstile
}

func (w *waiting) begin() {
	running.Add(1)
}

func (w *waiting) end() {
	w.others.close()
	running.Add(-1)
}

// crowded reports whether the loops leave no processor for anybody else.
func (w *waiting) crowded() bool {
	if w.count%looksAtCrowd == 0 {
		w.alone = int(running.Load()) < runtime.GOMAXPROCS(0)
	}
	w.count++
	return !w.alone
}

// wait waits for at most d, negative for ever.
func (e *engine) wait(d time.Duration) (int, error) {
	crowded := e.crowded()
	if crowded {
		if now := time.Now(); now.Sub(e.turned) >= turn {
			e.turned = now
			if e.others.file == nil { // where it is not needed it costs no descriptor
				e.others.open()
			}
			e.others.pass()
		}
	}
	n, err := e.epoll.Look()
	if crowded {
		runtime.Gosched()
	}
	if n > 0 || d == 0 {
		return n, err
	}
	return e.epoll.Wait(d)
}

// A turnstile has the Go scheduler look after everybody's sockets and files: who
// passes it waits for a descriptor that is ready, and comes back together with
// all the others for whom something is ready. Without a descriptor nobody is
// held up.
type turnstile struct {
	fd   int
	file *os.File
	conn syscall.RawConn // nil: there is none
}

func (t *turnstile) open() {
	fd, err := sys.NewWaker()
	if err != nil {
		return
	}
	// It is non-blocking, so the runtime takes it into its poller, and watches
	// it by edges: each Wake is one, and nobody has to read it.
	t.fd, t.file = fd, os.NewFile(uintptr(fd), "turnstile")
	if t.conn, err = t.file.SyscallConn(); err != nil {
		t.conn = nil
	}
}

func (t *turnstile) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}

// pass returns when the scheduler has looked.
func (t *turnstile) pass() {
	if t.conn == nil {
		return
	}
	looked := false
	_ = t.conn.Read(func(uintptr) bool {
		if looked {
			return true
		}
		looked = true
		sys.Wake(t.fd)
		return false
	})
}
