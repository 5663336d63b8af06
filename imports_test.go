// What may be imported where: the two rules that a user of the library relies on. The whole
// import order is in .golangci.yml, which the linter enforces for the platform it runs on; these
// tests ask the go command, for every platform.

package anysock_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	modulePath = "github.com/anysock/anysock"
	sysPath    = modulePath + "/internal/sys"
	bridgePath = modulePath + "/internal/bridge"
	xsysPrefix = "golang.org/x/sys/"
)

// importPlatforms are the platforms whose files the tests look at, as GOOS/GOARCH.
var importPlatforms = []string{"linux/amd64", "darwin/arm64", "freebsd/amd64", "windows/amd64"}

// listedPackage is the part of go list -json that the tests need.
type listedPackage struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
	Error        *struct{ Err string }
}

// TestRootImports: whoever imports the root gets the standard library, internal/sys,
// internal/bridge and golang.org/x/sys, and nothing else.
func TestRootImports(t *testing.T) {
	t.Parallel()
	for _, platform := range importPlatforms {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			packages := goList(t, platform, "-deps", ".")
			if !slices.ContainsFunc(packages, func(p listedPackage) bool { return p.ImportPath == modulePath }) {
				t.Fatalf("go list -deps . did not list %s", modulePath)
			}
			for _, p := range packages {
				if p.Standard || p.ImportPath == modulePath || p.ImportPath == sysPath || p.ImportPath == bridgePath || strings.HasPrefix(p.ImportPath, xsysPrefix) {
					continue
				}
				t.Errorf("the root may need the standard library, %s and golang.org/x/sys alone, but it needs %s:\n\t%s",
					sysPath, p.ImportPath, strings.Join(importChain(packages, p.ImportPath), "\n\timports "))
			}
		})
	}
}

// TestOnlySysImportsXSys: system calls go through internal/sys, so that a test can make any of
// them fail. Tests count too.
func TestOnlySysImportsXSys(t *testing.T) {
	t.Parallel()
	for _, platform := range importPlatforms {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			for _, p := range goList(t, platform, "./...") {
				if p.ImportPath == sysPath {
					continue
				}
				for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
					if strings.HasPrefix(imported, xsysPrefix) {
						t.Errorf("%s imports %s: only %s may, so that a test can make any system call fail", p.ImportPath, imported, sysPath)
					}
				}
			}
		})
	}
}

// TestModuleFile: tools and local replacements stay out of the module that users require. The
// tools are pinned in tools/go.mod.
func TestModuleFile(t *testing.T) {
	t.Parallel()
	var file struct {
		Module  struct{ Path string }
		Tool    []struct{ Path string }
		Replace []struct{ Old struct{ Path string } }
	}
	if err := json.Unmarshal(goOutput(t, "", "mod", "edit", "-json"), &file); err != nil {
		t.Fatal(err)
	}
	if file.Module.Path != modulePath {
		t.Errorf("go.mod: module %s, want %s", file.Module.Path, modulePath)
	}
	for _, tool := range file.Tool {
		t.Errorf("go.mod: tool %s belongs in tools/go.mod", tool.Path)
	}
	for _, replaced := range file.Replace {
		t.Errorf("go.mod: a replacement of %s has no effect for users of the module", replaced.Old.Path)
	}
}

// goList returns what go list says of the packages, without cgo, as a cross build sees them.
func goList(t *testing.T, platform string, args ...string) []listedPackage {
	t.Helper()
	args = append([]string{"list", "-e", "-json=ImportPath,Standard,Imports,TestImports,XTestImports,Error"}, args...)
	decoder := json.NewDecoder(strings.NewReader(string(goOutput(t, platform, args...))))
	var packages []listedPackage
	for {
		var p listedPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		// A package that has no files for the platform has nothing to import either.
		if p.Error != nil && !strings.Contains(p.Error.Err, "build constraints exclude all Go files") {
			t.Fatalf("go list: %s: %s", p.ImportPath, p.Error.Err)
		}
		packages = append(packages, p)
	}
}

// goOutput runs the go command for a platform (empty: this one) and returns its standard output.
func goOutput(t *testing.T, platform string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("the go command is needed: %v", err)
	}
	command := exec.CommandContext(t.Context(), "go", args...)
	if goos, goarch, ok := strings.Cut(platform, "/"); ok {
		command.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	}
	output, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
		}
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return output
}

// importChain returns a shortest chain of imports from the root to the package.
func importChain(packages []listedPackage, target string) []string {
	imports := make(map[string][]string, len(packages))
	for _, p := range packages {
		imports[p.ImportPath] = p.Imports
	}
	chains := [][]string{{modulePath}}
	seen := map[string]bool{modulePath: true}
	for len(chains) > 0 {
		chain := chains[0]
		chains = chains[1:]
		last := chain[len(chain)-1]
		if last == target {
			return chain
		}
		for _, next := range imports[last] {
			if !seen[next] {
				seen[next] = true
				chains = append(chains, append(slices.Clone(chain), next))
			}
		}
	}
	return []string{target}
}
