package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "Print a script that completes command lines",
		GroupID:   groupLearn,
		Args:      arguments(1, "the shell"),
		ValidArgs: shells,
		Long: `completion prints a script that completes verbs, options and addresses.

  bash        source <(anysock completion bash)
  zsh         anysock completion zsh > "${fpath[1]}/_anysock"
  fish        anysock completion fish | source
  powershell  anysock completion powershell | Out-String | Invoke-Expression

The bash script needs the package bash-completion.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return &usageError{msg: fmt.Sprintf("completion: there is no script for %q", args[0]), hint: "bash, zsh, fish or powershell"}
		},
	}
}
