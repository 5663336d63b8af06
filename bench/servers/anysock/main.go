//go:build linux

// Anysock is an echo server on package loop: its handler is written as
// callbacks, or with -coroutines as code that blocks. Everything else is at its
// default.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"strings"

	"github.com/anysock/anysock/bench/internal/serve"
	"github.com/anysock/anysock/loop"
)

var coroutines = flag.Bool("coroutines", false, "handle connections with code that blocks")

func main() { serve.Main(run) }

// echo is the callback. No more is received while a peer does not take what is
// written, so the write buffer has room whenever this is called.
func echo(c *loop.Conn, p []byte) {
	if _, err := c.Write(p); err != nil {
		_ = c.Abort()
	}
}

// converse is the code that blocks.
func converse(s *loop.Stream) error {
	for {
		p, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := s.Write(p); err != nil {
			return err
		}
	}
}

func run(a serve.Arguments, announce func(string)) error {
	ctx := context.Background()
	server := loop.Server{Loops: a.Threads, Handler: loop.Handler{Data: echo}}
	if *coroutines {
		server.Handler = loop.Handler{Serve: converse}
	}
	listeners, err := server.Listen(ctx, "tcp://"+a.Address)
	if err != nil {
		return err
	}
	announce(strings.TrimPrefix(listeners[0].Addr().String(), "tcp://"))
	return server.Serve(ctx, listeners...)
}
