//go:build linux

package compare

// This file says on what and with which versions it was measured.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Conditions is a line for the head of a section, with the day. A Plan without
// rounds is not told.
func (b *Bench) Conditions(ctx context.Context, now time.Time, p Plan) string {
	load, err := os.ReadFile("/proc/loadavg")
	average := "unknown"
	if err == nil {
		average, _, _ = strings.Cut(string(load), " ")
	}
	rounds := ""
	if p.Rounds > 0 {
		rounds = fmt.Sprintf(" %d rounds with a slot of %v for each candidate;", p.Rounds, p.Slot)
	}
	return fmt.Sprintf("%s, Linux %s, %s, %s, %d cores used; server on core %v, load on core %v; checkout %s;"+
		"%s load average at the end %s.\n\n",
		now.UTC().Format("2006-01-02 15:04 UTC"), kernelRelease(ctx), processorName(), runtime.Version(), len(b.AllCPUs),
		b.ServerCPUs, b.LoadCPUs, checkout(ctx), rounds, average)
}

// kernelRelease leaves out what the vendor of the machine appends.
func kernelRelease(ctx context.Context) string {
	release, _, _ := strings.Cut(output(ctx, "uname", "-r"), "-")
	return release
}

func processorName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	return parseProcessor(string(text))
}

func parseProcessor(info string) string {
	for line := range strings.Lines(info) {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// checkout is the commit that anysock was built from.
func checkout(ctx context.Context) string {
	commit := output(ctx, "git", "rev-parse", "--short", "HEAD")
	if output(ctx, "git", "status", "--porcelain", "-uno") != "" {
		commit += " with changes"
	}
	return commit
}

// output is what a command prints; nothing where it fails.
func output(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// Versions lists the programs of the candidates that could be had.
func (b *Bench) Versions(ctx context.Context, candidates []Candidate) string {
	var parts []string
	seen := map[string]bool{}
	for _, c := range candidates {
		if c.prepare == nil || seen[c.Program] {
			continue
		}
		seen[c.Program] = true
		version := "left out"
		if path, err := c.prepare(ctx, b.Tools); err == nil {
			version = c.version(ctx, path)
		}
		parts = append(parts, c.Program+" "+version)
	}
	return "Versions: " + strings.Join(parts, "; ") + ".\n\n"
}
