package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
)

// This file holds the root command: the verbs in their order, the options of
// every verb, and what a wrong command line is told.

// The groups of the help text.
const (
	groupServe   = "serve"
	groupConnect = "connect"
	groupLearn   = "learn"
)

func newRootCommand(a *app) *cobra.Command {
	cobra.EnableCommandSorting = false // ours is the order of use
	root := &cobra.Command{
		Use:   "anysock",
		Short: "Stream sockets of any transport, and how each connection ended",
		Long: `anysock connects, listens, serves and relays on stream sockets of any transport,
and says how each connection ended: in order, aborted, or lost.

Addresses are URLs such as tcp://[::1]:3005, unix:/run/x.sock or echo:, and a bare
host:port is tcp ('anysock help address'). The exit status says what became of the
connection ('anysock help exit').`,
		Example: `  anysock echo &                     # a server on port 3005
  echo hello | anysock connect localhost:3005
  anysock relay tcp://:8080 unix:/run/app.sock
  anysock demo                       # see what a connection goes through`,
		Args:          cobra.ArbitraryArgs, // RunE says it better
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			cmd.SetOut(a.stderr)
			_ = cmd.Help()
			return &usageError{msg: "a verb is missing", hint: "one of those above"}
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.makeLogger()
			return nil
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		hint := "'" + cmd.CommandPath() + " --help' lists the options"
		if cmd == root {
			hint = "options come after the verb: anysock VERB [OPTIONS] ..."
		}
		return &usageError{msg: err.Error(), hint: hint}
	})

	root.AddGroup(
		&cobra.Group{ID: groupConnect, Title: "Connect:"},
		&cobra.Group{ID: groupServe, Title: "Serve:"},
		&cobra.Group{ID: groupLearn, Title: "Learn:"},
	)
	root.SetUsageFunc(writeUsage)
	root.SetHelpCommand(newHelpCommand(root))
	root.AddCommand(
		newConnectCommand(a),
		newListenCommand(a),
		newRelayCommand(a),
		newProxyCommand(a),
		newBenchCommand(a),
		newVerifyCommand(a),
		newEchoCommand(a),
		newDiscardCommand(a),
		newChargenCommand(a),
	)
	root.AddCommand(
		newCapsCommand(a),
		newDemoCommand(a),
		newCompletionCommand(),
		newVersionCommand(a),
		newExitTopic(),
		newAddressTopic(),
	)
	for _, cmd := range root.Commands() {
		cmd.Flags().SortFlags = false
		cmd.DisableFlagsInUseLine = true
	}
	return root
}

// outputOptions gives a verb that opens sockets the options for what it says.
func (a *app) outputOptions(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", a.json, "write JSON, one object a line, for programs")
	cmd.Flags().BoolVar(&a.traceOn, "trace", false, "write a line for every socket step to standard error")
	cmd.Flags().CountVarP(&a.verbose, "verbose", "v", "say more on standard error; -vv still more")
}

// execute runs the verb that args name.
func (a *app) execute(args []string) error {
	root := newRootCommand(a)
	root.SetArgs(args)
	return root.ExecuteContext(a.ctx)
}

// unknownVerb suggests the verb that was probably meant.
func unknownVerb(cmd *cobra.Command, word string) error {
	e := &usageError{msg: fmt.Sprintf("there is no verb %q", word), hint: "'anysock help' lists them"}
	root := cmd.Root()
	root.SuggestionsMinimumDistance = 2
	if near := root.SuggestionsFor(word); len(near) > 0 {
		e.hint = "anysock " + strings.Join(near, ", or anysock ")
	} else if _, err := anysock.ParseAddress(word); err == nil {
		e.hint = "anysock connect " + word
	}
	return e
}

// arguments checks how many there are, and says which are missing.
func arguments(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage := "'" + cmd.UseLine() + "'"
		switch {
		case len(args) < least:
			return &usageError{msg: fmt.Sprintf("%s: %s is missing", cmd.Name(), names[len(args)]), hint: usage}
		case len(args) > len(names):
			return &usageError{msg: fmt.Sprintf("%s: unexpected argument %q", cmd.Name(), args[len(names)]), hint: usage}
		}
		return nil
	}
}

// parseAddress parses an address and checks that something serves it.
func parseAddress(text string) (anysock.Address, error) {
	addr, err := anysock.ParseAddress(text)
	if err == nil {
		err = addr.Check()
	}
	return addr, err
}

// ownStreams refuses an address that means standard input and output, for
// verbs that use these themselves.
func ownStreams(verb string, addr anysock.Address) error {
	if !usesStdout(addr) {
		return nil
	}
	return &usageError{
		msg:  verb + ": stdio: is what this verb joins the address with",
		hint: "'anysock relay stdio: ADDR', or another address",
	}
}

// completeAddresses completes scheme words.
func completeAddresses(most int) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if strings.HasPrefix(word, "unix:") || strings.HasPrefix(word, "exec:") {
			return nil, cobra.ShellCompDirectiveDefault
		}
		var words []string
		for _, scheme := range append(anysock.Schemes(), "wss", "https") {
			if standsOnAHost(scheme) {
				scheme += "://"
			} else {
				scheme += ":"
			}
			if strings.HasPrefix(scheme, word) {
				words = append(words, scheme)
			}
		}
		return words, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
}

// standsOnAHost reports whether an address of the scheme names a host and a
// port.
func standsOnAHost(scheme string) bool {
	for _, rest := range []string{"://h:1", "://h:1,tcp://h:1", "://1:1"} { // a proxy leads to another, vsock has numbers
		if _, err := anysock.ParseAddress(scheme + rest); err == nil {
			return true
		}
	}
	return false
}

// positive refuses negative numbers and durations, which cobra lets pass.
func positive[T int | time.Duration](option string, v T) error {
	if v < 0 {
		return &usageError{msg: fmt.Sprintf("--%s must not be negative", option)}
	}
	return nil
}

// newHelpCommand is 'anysock help [TOPIC]', which knows that a topic that does
// not exist is an error.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB or TOPIC]",
		Short:   "Explain a verb or a topic",
		GroupID: groupLearn,
		Args:    arguments(0, "the verb or topic"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if len(args) == 0 {
				for _, c := range root.Commands() {
					names = append(names, c.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return root.Help()
			}
			i := slices.IndexFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == args[0] })
			if i < 0 {
				return unknownVerb(root, args[0])
			}
			return root.Commands()[i].Help()
		},
	}
}
