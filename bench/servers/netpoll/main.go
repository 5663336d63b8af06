//go:build linux

// Netpoll is an echo server on github.com/cloudwego/netpoll.
package main

import (
	"context"

	"github.com/cloudwego/netpoll"

	"github.com/anysock/anysock/bench/internal/serve"
)

func main() { serve.Main(run) }

func echo(_ context.Context, c netpoll.Connection) error {
	r, w := c.Reader(), c.Writer()
	p, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	if _, err := w.WriteBinary(p); err != nil {
		return err
	}
	if err := w.Flush(); err != nil { // p is read until here
		return err
	}
	return r.Release()
}

func run(a serve.Arguments, announce func(string)) error {
	if err := netpoll.Configure(netpoll.Config{PollerNum: a.Threads}); err != nil {
		return err
	}
	ln, err := netpoll.CreateListener("tcp4", a.Address)
	if err != nil {
		return err
	}
	loop, err := netpoll.NewEventLoop(echo)
	if err != nil {
		return err
	}
	announce(ln.Addr().String()) // the kernel queues who comes before Serve
	return loop.Serve(ln)
}
