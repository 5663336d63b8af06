//go:build linux

package compare

// This file builds the servers and the load generator into a directory of
// their own, and says which versions went into them.

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Toolbox builds programs on demand, each once.
type Toolbox struct {
	dir    string // where the programs go
	module string // the directory of the module bench
	built  map[string]error
}

// NewToolbox makes the directory; Remove removes it.
func NewToolbox(ctx context.Context) (*Toolbox, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	module := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(module, "servers", "load.c")); err != nil {
		return nil, fmt.Errorf("run it inside the module bench: %w", err)
	}
	dir, err := os.MkdirTemp("", "anysock-compare")
	if err != nil {
		return nil, err
	}
	return &Toolbox{dir: dir, module: module, built: map[string]error{}}, nil
}

// Remove removes everything that was built.
func (t *Toolbox) Remove() { _ = os.RemoveAll(t.dir) }

// ErrMissing is why a candidate is left out: the machine lacks a program.
var ErrMissing = errors.New("not installed")

// errBuild is why a candidate is left out: it does not compile.
var errBuild = errors.New("does not build")

// c builds bench/servers/NAME.c.
func (t *Toolbox) c(ctx context.Context, name string, libraries ...string) (string, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("gcc: %w", ErrMissing)
	}
	path := filepath.Join(t.dir, name+"-c")
	args := []string{"-O2", "-pthread", "-o", path, filepath.Join(t.module, "servers", name+".c")}
	return path, t.build(path, exec.CommandContext(ctx, gcc, append(args, libraries...)...))
}

// goServer builds bench/servers/NAME.
func (t *Toolbox) goServer(ctx context.Context, name string) (string, error) {
	path := filepath.Join(t.dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./servers/"+name)
	cmd.Dir = t.module
	return path, t.build(path, cmd)
}

// command builds cmd/anysock of the checkout that bench is part of, as `make
// build` does.
func (t *Toolbox) command(ctx context.Context) (string, error) {
	path := filepath.Join(t.dir, "anysock-command")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/anysock")
	cmd.Dir = filepath.Dir(t.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return path, t.build(path, cmd)
}

func (t *Toolbox) build(path string, cmd *exec.Cmd) error {
	if err, done := t.built[path]; done {
		return err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s: %w: %s", errBuild, strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
		if strings.Contains(string(out), "liburing.h") {
			err = fmt.Errorf("liburing-dev: %w", ErrMissing)
		}
	}
	t.built[path] = err
	return err
}

// thisCheckout is the version of what is built from the repository itself.
const thisCheckout = "of this checkout"

// moduleVersion is the version of a module within a built program; no module
// means Go.
func moduleVersion(program, module string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "of unknown version"
	}
	if module == "" {
		return "of " + info.GoVersion
	}
	for _, d := range info.Deps {
		switch {
		case d.Path != module:
		case d.Replace != nil:
			return thisCheckout
		default:
			return d.Version
		}
	}
	return "of unknown version"
}
