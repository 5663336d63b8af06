//go:build linux

// Evio is an echo server on github.com/tidwall/evio. Its loops share one
// listener.
package main

import (
	"github.com/tidwall/evio"

	"github.com/anysock/anysock/bench/internal/serve"
)

func main() { serve.Main(run) }

func opened(evio.Conn) ([]byte, evio.Options, evio.Action) {
	return nil, evio.Options{ReuseInputBuffer: true}, evio.None
}

func echo(_ evio.Conn, in []byte) ([]byte, evio.Action) { return in, evio.None }

func run(a serve.Arguments, announce func(string)) error {
	return evio.Serve(evio.Events{
		NumLoops: a.Threads,
		Opened:   opened,
		Data:     echo,
		Serving: func(s evio.Server) evio.Action {
			announce(s.Addrs[0].String())
			return evio.None
		},
	}, "tcp4://"+a.Address)
}
