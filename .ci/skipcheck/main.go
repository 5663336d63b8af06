// Command skipcheck reads the output of go test -json on standard input, prints what go test
// would have printed, then lists the skipped tests with their reasons. It exits with status 1 if
// a test failed, if nothing was tested, or if a test was skipped that the list does not allow.
//
//	go test -json ./... | go run ./.ci/skipcheck -allow .ci/skips
//
// This file reads the events; allow.go holds the list of allowed skips.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxOutput bounds what is kept of one test's output until the test ends: its end, at least this much.
const maxOutput = 1 << 20

// event is one line of go test -json: see go doc test2json, and go help buildjson.
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build event
	Test       string
	Output     string
}

// testName is the full name of a test, or of its package where the second part is empty.
type testName struct{ pkg, test string }

func (n testName) String() string { return n.pkg + "/" + n.test }

// skip is one skipped test and what it gave as its reason.
type skip struct {
	name   testName
	reason string
}

// summary is what a run came to.
type summary struct {
	passed, failed int // tests and subtests
	failedPackages int
	skips          []skip
}

func main() {
	allowFile := flag.String("allow", "", "file that lists the skips that are allowed")
	flag.Parse()
	status, err := run(os.Stdin, os.Stdout, *allowFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "skipcheck:", err)
		os.Exit(2)
	}
	os.Exit(status)
}

// run reads events from in, writes the report to out and returns the exit status.
func run(in io.Reader, out io.Writer, allowFile string) (status int, err error) {
	var list allowList
	if allowFile != "" {
		if list, err = readAllowList(allowFile); err != nil {
			return 0, err
		}
	}
	sum, err := echo(in, out)
	if err != nil {
		return 0, err
	}
	return report(out, sum, list), nil
}

// echo copies the tests' output as go test without -v prints it, and counts.
func echo(in io.Reader, out io.Writer) (summary, error) {
	var sum summary
	kept := make(map[testName][]byte) // output of what has not ended
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var ev event
			if json.Unmarshal(line, &ev) != nil || ev.Action == "" {
				fmt.Fprintf(out, "%s", line) // not an event: the go command's own words
			} else {
				sum.add(ev, kept, out)
			}
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, fmt.Errorf("reading events: %w", err)
		}
	}
}

// add takes one event into account.
func (sum *summary) add(ev event, kept map[testName][]byte, out io.Writer) {
	name := testName{ev.Package, ev.Test}
	switch ev.Action {
	case "build-output":
		fmt.Fprint(out, ev.Output)
	case "output":
		kept[name] = append(kept[name], ev.Output...)
		if have := kept[name]; len(have) > 2*maxOutput {
			kept[name] = slices.Clone(have[len(have)-maxOutput:])
		}
	case "pass", "fail", "skip":
		if ev.Test == "" {
			sum.endPackage(ev, kept, out)
			return
		}
		switch ev.Action {
		case "pass":
			sum.passed++
		case "fail":
			sum.failed++
			fmt.Fprintf(out, "%s", plain(kept[name]))
		case "skip":
			sum.skips = append(sum.skips, skip{name, reason(kept[name])})
		}
		delete(kept, name)
	}
}

// endPackage prints a package's closing line; where the package failed, also what it printed
// itself and what its unfinished tests had printed, because a panic or a timeout ends up there.
func (sum *summary) endPackage(ev event, kept map[testName][]byte, out io.Writer) {
	own := testName{pkg: ev.Package}
	if ev.Action == "fail" {
		sum.failedPackages++
		var unfinished []testName
		for name := range kept {
			if name.pkg == ev.Package && name.test != "" {
				unfinished = append(unfinished, name)
			}
		}
		slices.SortFunc(unfinished, func(a, b testName) int { return strings.Compare(a.test, b.test) })
		for _, name := range unfinished {
			fmt.Fprintf(out, "--- unfinished: %s\n", name.test)
			fmt.Fprintf(out, "%s", plain(kept[name]))
			delete(kept, name)
		}
		fmt.Fprintf(out, "%s", plain(kept[own]))
	} else {
		text := bytes.TrimSuffix(kept[own], []byte("\n"))
		if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
			text = text[i+1:] // "ok", the package, the time
		}
		fmt.Fprintf(out, "%s\n", text)
	}
	delete(kept, own)
}

// plain turns the output of go test -v into that of go test: without the notices of starting and
// pausing, and with the verdict before what the test logged.
func plain(output []byte) []byte {
	var verdict, logged bytes.Buffer
	for line := range bytes.Lines(output) {
		switch {
		case bytes.HasPrefix(line, []byte("=== ")), string(line) == "PASS\n":
		case bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("--- FAIL: ")):
			verdict.Write(line)
		default:
			logged.Write(line)
		}
	}
	return append(verdict.Bytes(), logged.Bytes()...)
}

// reason takes what a skipped test logged, on one line.
func reason(output []byte) string {
	var parts []string
	for line := range strings.Lines(string(output)) {
		if !strings.HasPrefix(line, "=== ") && !strings.Contains(line, "--- SKIP: ") {
			parts = append(parts, strings.TrimSpace(line))
		}
	}
	if len(parts) == 0 {
		return "no reason given"
	}
	return strings.Join(parts, " ")
}

// report prints the skips and the counts, and returns the exit status.
func report(out io.Writer, sum summary, list allowList) int {
	slices.SortFunc(sum.skips, func(a, b skip) int { return strings.Compare(a.name.String(), b.name.String()) })
	refused := 0
	fmt.Fprintf(out, "\nskipped tests: %d\n", len(sum.skips))
	for _, s := range sum.skips {
		verdict := "NOT LISTED"
		if list.allows(s.name.String()) {
			verdict = "listed"
		} else {
			refused++
		}
		fmt.Fprintf(out, "  %-10s  %s  %s\n", verdict, s.name, s.reason)
	}
	for _, e := range list {
		if !e.used {
			fmt.Fprintf(out, "listed but not skipped in this run: %s (line %d)\n", e.pattern, e.line)
		}
	}
	failed := sum.failed > 0 || sum.failedPackages > 0
	if failed {
		fmt.Fprintf(out, "failed: %d tests in %d packages\n", sum.failed, sum.failedPackages)
	}
	if refused > 0 {
		fmt.Fprintf(out, "%d skipped tests are not on the list: make them run, or list each with its reason\n", refused)
	}
	empty := sum.passed+sum.failed == 0
	if empty {
		fmt.Fprintln(out, "no test ran")
	}
	fmt.Fprintf(out, "tests: %d passed, %d failed, %d skipped\n", sum.passed, sum.failed, len(sum.skips))
	if failed || refused > 0 || empty {
		return 1
	}
	return 0
}
