//go:build linux

// accept-emfile: at the limit of descriptors accept fails and the connection stays in the queue.
//
// The listener stays readable, so a level-triggered loop spins at full speed until a descriptor is free.
// An edge-triggered one hears nothing more, not even when a descriptor becomes free: the connection waits for
// the next one to arrive. Both need a timer.
package main

import (
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("accept-emfile", run) }

const window = 100 * time.Millisecond

func run(r *fact.Report) {
	listener, addr := r.ListenTCP(10)
	edges := r.Edges(listener)
	levels := r.Levels(listener, fact.In)
	client := r.Connect(addr)
	late := r.TCP()
	r.Expect("event of the connection", "IN", edges.Next(fact.Patience))

	restore := exhaust(r)
	r.Expect("accept", "EMFILE", accept(listener))

	r.Step("level-triggered, %v", window)
	wakeups := 0
	for end := time.Now().Add(window); time.Now().Before(end); wakeups++ {
		if levels.Next(window) != "IN" || accept(listener) != "EMFILE" {
			break
		}
	}
	r.AtLeast("wakeups", 1000, wakeups)

	r.Step("edge-triggered")
	r.Expect("event after the failed accept", "nothing", edges.Next(fact.Quiet))
	r.Must("connect", r.Finish(late, syscall.Connect(late, addr)))
	r.Expect("event of another connection", "IN", edges.Next(fact.Patience))
	r.Expect("accept", "EMFILE", accept(listener))
	restore()
	r.Expect("event when a descriptor is free again", "nothing", edges.Next(fact.Quiet))
	r.Expect("accept, unasked", "nil, nil, EAGAIN", fact.Join(accept(listener), accept(listener), accept(listener)))
	r.Close(client)
}

func accept(listener int) string {
	_, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	return fact.Name(err)
}

// exhaust lowers the limit to the number of descriptors in use, and returns how to lift it again.
func exhaust(r *fact.Report) (restore func()) {
	free, err := syscall.Dup(0)
	r.Must("find the first free descriptor", err)
	r.Close(free)
	var old syscall.Rlimit
	r.Must("read the limit", syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	r.Must("lower the limit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(free), Max: old.Max}))
	return func() { r.Must("lift the limit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)) }
}
