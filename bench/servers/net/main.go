//go:build linux

// Net is an echo server on package net: a goroutine for each connection.
package main

import (
	"net"

	"github.com/anysock/anysock/bench/internal/serve"
)

func main() { serve.Main(run) }

func run(a serve.Arguments, announce func(string)) error {
	return serve.Goroutines(a.Address, announce, func(c *net.TCPConn) { echo(c, a.Buffer) })
}

func echo(c *net.TCPConn, size int) {
	defer c.Close()
	buf := make([]byte, size)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
