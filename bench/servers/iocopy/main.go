//go:build linux

// Iocopy is a relay on package net: two goroutines for each pair of
// connections, each in io.Copy, which splices between TCP connections.
package main

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/anysock/anysock/bench/internal/serve"
)

func main() { serve.Main(run) }

func run(a serve.Arguments, announce func(string)) error {
	return serve.Goroutines(a.Address, announce, func(in *net.TCPConn) { pass(in, a.Target) })
}

func pass(in *net.TCPConn, target string) {
	defer in.Close()
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp4", target)
	if err != nil {
		return
	}
	out := c.(*net.TCPConn)
	defer out.Close()
	var back sync.WaitGroup
	back.Go(func() { oneWay(in, out) })
	oneWay(out, in)
	back.Wait()
}

// oneWay copies until the end or an error, which the closing of both tells the
// other direction.
func oneWay(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		_ = to.Close()
		_ = from.Close()
	}
}
