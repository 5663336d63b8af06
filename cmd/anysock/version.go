package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
)

// A versionRecord says what this program was built from.
type versionRecord struct {
	Version    string   `json:"version"`
	Commit     string   `json:"commit,omitempty"`
	CommitTime string   `json:"commit_time,omitempty"`
	Modified   bool     `json:"modified,omitempty"` // built from files that were not committed
	Go         string   `json:"go"`
	OS         string   `json:"os"`
	Arch       string   `json:"arch"`
	Transports []string `json:"transports"`
}

func newVersionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version [--json]",
		Short:   "Say what this program was built from",
		GroupID: groupLearn,
		Args:    arguments(0),
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			v := versionOf(info)
			if a.json {
				enc := json.NewEncoder(a.stdout)
				return enc.Encode(v)
			}
			fmt.Fprint(a.stdout, v)
			return nil
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", a.json, "write one JSON object")
	return cmd
}

// versionOf reads what the Go command has left in the program; info may be
// nil.
func versionOf(info *debug.BuildInfo) versionRecord {
	v := versionRecord{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Transports: anysock.Schemes()}
	if info == nil {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.CommitTime = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String is for people.
func (v versionRecord) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "anysock %s\n", v.Version)
	if v.Commit != "" {
		fmt.Fprintf(&b, "  commit      %s, %s", v.Commit, v.CommitTime)
		if v.Modified {
			b.WriteString(", with changes")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "  built with  %s for %s/%s\n", v.Go, v.OS, v.Arch)
	fmt.Fprintf(&b, "  transports  %s\n", strings.Join(v.Transports, ", "))
	return b.String()
}
