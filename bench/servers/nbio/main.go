//go:build linux

// Nbio is an echo server on github.com/lesismal/nbio.
package main

import (
	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"github.com/anysock/anysock/bench/internal/serve"
)

func main() { serve.Main(run) }

func echo(c *nbio.Conn, p []byte) {
	if _, err := c.Write(p); err != nil { // copies what it cannot send
		_ = c.Close()
	}
}

func run(a serve.Arguments, announce func(string)) error {
	logging.SetLevel(logging.LevelError)
	engine := nbio.NewEngine(nbio.Config{Network: "tcp4", Addrs: []string{a.Address}, NPoller: a.Threads})
	engine.OnData(echo)
	if err := engine.Start(); err != nil {
		return err
	}
	announce(engine.Addrs[0])
	engine.Wait()
	return nil
}
