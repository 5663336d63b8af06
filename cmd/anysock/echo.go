package main

import (
	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

func newEchoCommand(a *app) *cobra.Command {
	return newServerCommand(a, "echo", "Serve connections by sending back what comes (RFC 862)",
		`echo sends back everything that a client sends. When the client ends its direction,
echo finishes what is left and ends its own.`,
		service{anysock.ServeEcho, loop.Echo})
}
