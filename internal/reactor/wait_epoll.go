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
// Where there are processors (GOMAXPROCS) without a loop, a loop that is busy
// waits without telling the scheduler. Told each time, the runtime's monitor
// would take the processor away and give it back, and look every 20 µs whether
// it has to. The signals that stop the world end such a wait.
//
// Where each processor has a loop, the others have none but the loops'. There a
// loop looks without waiting, then lets those run that can, and if it has found
// nothing tells the scheduler that it waits: for a message every 60 µs that
// costs as much as a C program's wait, and a fifth less than one with a timeout
// of 50 or 500 µs, for which the kernel has to set its clock. Nobody would look
// after other goroutines' sockets and files meanwhile but the runtime's monitor,
// every 10 ms, so the loop has the scheduler do so once in a turn. With one
// processor, and one or 64 connections of the loop that never rest, half of the
// round trips of package net take less than 0.8 and 0.5 ms; without turns it was
// 7.8 ms. A sleep is 30 to 160 µs too long and a read of a file takes 20 to
// 40 µs, with and without (Linux 6.18, Go 1.26).

const (
	// brief bounds a wait that the scheduler is not told of.
	brief = 2 * time.Millisecond
	// turn is how long other goroutines' sockets are not looked after by a loop
	// that every processor has one of, unless it rests.
	turn = time.Millisecond
	// looksAtCrowd is after how many waits the processors are counted anew.
	looksAtCrowd = 1 << 14
)

// running counts the loops of this process.
var running atomic.Int32

// waiting is what an engine knows of its waits.
type waiting struct {
	busy    bool   // the last one was short
	alone   bool   // there are processors without a loop
	count   uint32 // so far
	visited time.Time
	others  turnstile
}

func (w *waiting) begin() {
	running.Add(1)
	w.others.open()
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
	if e.crowded() {
		return e.waitAmongOthers(d)
	}
	b := brief
	if e.busy {
		if d >= 0 {
			b = min(b, d)
		}
		n, err := e.epoll.WaitBriefly(b)
		if n > 0 {
			return n, nil
		}
		e.busy = false
		if err == nil && b == d {
			return 0, nil
		}
	}
	start := time.Now()
	n, err := e.epoll.Wait(d)
	e.busy = n > 0 && time.Since(start) < b
	return n, err
}

func (e *engine) waitAmongOthers(d time.Duration) (int, error) {
	if now := time.Now(); now.Sub(e.visited) >= turn {
		e.visited = now
		e.others.pass()
	}
	n, err := e.epoll.WaitBriefly(0)
	runtime.Gosched()
	if n > 0 || err == nil && d == 0 {
		return n, nil
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
