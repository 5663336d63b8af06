package main

import (
	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

func newChargenCommand(a *app) *cobra.Command {
	return newServerCommand(a, "chargen", "Serve connections by sending characters without end (RFC 864)",
		`chargen sends lines of 72 characters for as long as a client takes them, and forgets what
it receives. When the client ends its direction, chargen ends its own; one that never
does is aborted when a drain is over.`,
		service{anysock.ServeChargen, loop.Chargen})
}
