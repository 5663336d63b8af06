//go:build linux

// Net is an echo server on package net: a goroutine for each connection.
package main

import (
	"net"

	"github.com/anysock/anysock/bench/internal/serve"
)

func main() { serve.Main(run) }

func run(a serve.Arguments, announce func(string)) error {
	ln, err := serve.Listen(a.Address)
	if err != nil {
		return err
	}
	announce(ln.Addr().String())
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			return err
		}
		go echo(c, a.Buffer) // ends with its connection
	}
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
