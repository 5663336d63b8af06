package main

import (
	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

func newDiscardCommand(a *app) *cobra.Command {
	return newServerCommand(a, "discard", "Serve connections by forgetting what comes (RFC 863)",
		`discard reads everything that a client sends and forgets it. When the client ends its
direction, discard ends its own.`,
		service{anysock.ServeDiscard, loop.Discard})
}
