//go:build linux

// Gnet is an echo server on github.com/panjf2000/gnet/v2 with its defaults. With
// -reuseport it has a listener for each loop, which is its faster way to accept;
// by default one loop accepts and hands over to the others.
package main

import (
	"flag"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/anysock/anysock/bench/internal/serve"
)

var reusePort = flag.Bool("reuseport", false, "a listener for each loop")

func main() { serve.Main(run) }

type handler struct {
	gnet.BuiltinEventEngine
	booted func()
}

func (h *handler) OnBoot(gnet.Engine) gnet.Action {
	h.booted()
	return gnet.None
}

func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	p, err := c.Next(-1)
	if err != nil {
		return gnet.Close
	}
	if _, err := c.Write(p); err != nil {
		return gnet.Close
	}
	return gnet.None
}

func run(a serve.Arguments, announce func(string)) error {
	address, release, err := serve.FixedPort(a.Address)
	if err != nil {
		return err
	}
	if !*reusePort {
		release() // it would be refused the port
		release = func() {}
	}
	h := &handler{booted: func() {
		release()
		announce(address)
	}}
	return gnet.Run(h, "tcp4://"+address, gnet.WithNumEventLoop(a.Threads), gnet.WithReusePort(*reusePort),
		gnet.WithLogLevel(logging.ErrorLevel))
}
