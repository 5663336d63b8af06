//go:build linux

package main

import (
	"strings"
	"testing"
)

// On a terminal a line says how it goes, and goes away before the summary;
// Ctrl-C ends the run with what was measured so far.
func TestBenchOnATerminal(t *testing.T) {
	t.Parallel()
	b, keyboard := onTerminal(t, withEnv(command(t, "bench", "--duration", "1h", "--warmup", "0s", "echo:"), "NO_COLOR=1", "TERM=xterm"))
	b.sees(t, `\r1s of 3600s: [0-9,]+ messages/s, [0-9,]+ answered\x1b\[K`)
	write(t, keyboard, "\x03")
	b.exits(t, 0)
	b.sees(t, `\r\x1b\[K\recho:  echo of 250 B, closed loop, 1 connection, depth 1\r$`)
	b.sees(t, `^  partial: interrupted after [0-9.]+s\r$`)
	b.sees(t, `^  connections ended: 1 graceful\r$`)
}

// With --json there is no such line.
func TestBenchForProgramsOnATerminal(t *testing.T) {
	t.Parallel()
	b, _ := onTerminal(t, withEnv(command(t, "bench", "--json", "--duration", "1100ms", "--warmup", "0s", "echo:"), "TERM=xterm"))
	b.exits(t, 0)
	b.sees(t, `^\{"time":.*"event":"bench".*\}\r$`)
	if text := b.errOut.String(); strings.Contains(text, "\x1b") || strings.Count(text, "\n") != 1 {
		t.Errorf("more than the result: %q", text)
	}
}
