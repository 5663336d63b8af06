package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// This file writes what stands at the end of a help text. It is no template:
// with package text/template in the program the linker keeps every method that
// a template could call by its name, a sixth of the whole.

// usageWidth is where the descriptions of options are folded.
const usageWidth = 90

// writeUsage shows how a verb is called, or which verbs and topics there are.
func writeUsage(cmd *cobra.Command) error {
	var b strings.Builder
	if cmd.HasParent() {
		fmt.Fprintf(&b, "Usage:\n  %s\n", cmd.UseLine())
	} else {
		fmt.Fprintf(&b, "Usage:\n  %s VERB [OPTIONS] [ARGUMENTS]\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	switch {
	case !cmd.HasParent():
		for _, g := range cmd.Groups() {
			writeVerbs(&b, g.Title, cmd, func(c *cobra.Command) bool {
				return c.GroupID == g.ID && (c.IsAvailableCommand() || c.Name() == "help")
			})
		}
		writeVerbs(&b, "Topics:", cmd, (*cobra.Command).IsAdditionalHelpTopicCommand)
		b.WriteString("\n'anysock help VERB' or 'anysock help TOPIC' says more.\n")
	case cmd.HasAvailableLocalFlags():
		fmt.Fprintf(&b, "\nOptions:\n%s\n", strings.TrimRight(cmd.LocalFlags().FlagUsagesWrapped(usageWidth), " \t\n"))
	}
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// writeVerbs lists those that are meant, a line each.
func writeVerbs(b *strings.Builder, title string, root *cobra.Command, meant func(*cobra.Command) bool) {
	fmt.Fprintf(b, "\n%s\n", title)
	for _, c := range root.Commands() {
		if meant(c) {
			fmt.Fprintf(b, "  %-*s %s\n", c.NamePadding(), c.Name(), c.Short)
		}
	}
}
