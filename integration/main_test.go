// Package integration_test runs the built binary against programs that nobody
// here wrote: Python's socket module, ncat, socat, nginx, openssl and curl. A
// program that is missing skips the tests that need it, with that reason;
// .ci/run installs them all.
//
// Each test is bounded, talks on loopback or a Unix socket, and kills only
// what it has started.
package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// binary is the built program.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		fmt.Println("skipped: the programs that these tests talk to are those of a Unix system")
		return 0
	}
	dir, err := os.MkdirTemp("", "anysock")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "anysock")
	build := exec.Command("go", "build", "-o", binary, "github.com/anysock/anysock/cmd/anysock")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "go build:", err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			return 1
		}
	}
	return code
}
