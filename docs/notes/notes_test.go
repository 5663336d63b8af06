//go:build linux

// Runs every program of this directory: a note is true on this kernel, or the test fails.

package notes

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anysock/anysock/docs/notes/fact"
)

// programs are the directories that hold a main.go.
func programs(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*/main.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no programs found: %v", err)
	}
	for _, file := range files {
		names = append(names, filepath.Dir(file))
	}
	return names
}

// tries is how often a program may look.
const tries = 3

func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("the programs wait for kernel timers; not run with -short")
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "./...").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, name := range programs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait much and compute little
			var out []byte
			var err error
			// They look at the kernel within times that a busy machine can miss;
			// what is not so is not so every time.
			for range tries {
				out, err = exec.CommandContext(t.Context(), filepath.Join(bin, name)).CombinedOutput()
				if err == nil {
					break
				}
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == fact.SkipStatus {
				t.Skip(lastLine(out))
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(lastLine(out), "observations as stated") {
				t.Fatalf("the program ended without its verdict:\n%s", out)
			}
		})
	}
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// TestIndex holds the outputs and the index to the programs.
func TestIndex(t *testing.T) {
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range programs(t) {
		if !strings.Contains(string(index), "("+name+"/main.go)") {
			t.Errorf("README.md does not link %s/main.go", name)
		}
		out, err := os.ReadFile(filepath.Join(name, "output.txt"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.HasPrefix(string(out), "Linux ") || !strings.Contains(string(out), ", go1.") {
			t.Errorf("%s/output.txt does not begin with the versions of kernel and Go", name)
		}
		if !strings.Contains(lastLine(out), "observations as stated") || strings.Contains(string(out), "DIFFERENT") {
			t.Errorf("%s/output.txt is not the output of a run that agrees with the note", name)
		}
	}
}
