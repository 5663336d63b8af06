//go:build linux

// Package fact runs one kernel experiment: it prints what was expected beside what was seen,
// and the program fails where they differ. This file holds the run and its report;
// socket.go makes sockets and names what their calls return, ready.go waits for readiness,
// tcpinfo.go reads TCP_INFO, namespace.go makes network namespaces.
//
// Only the programs under docs/notes use it. It imports the standard library alone.
package fact

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bound is the longest a program may run. At the bound it fails. A program that offers a longer run
// on request raises it before it calls Main.
var Bound = 20 * time.Second

// SkipStatus is the exit status of a program that lacks a privilege or a kernel feature.
const SkipStatus = 77

// Report collects the observations of one program. Its methods print one line each.
// They are for the goroutine that runs the experiment; others hand their findings to it.
type Report struct {
	name      string
	different int
	seen      int

	mu      sync.Mutex // guards undo, which the watchdog runs too
	undo    []func()
	undoing sync.Once
}

// failure is what Must and Skip panic with, so that Main can clean up before it exits.
type failure struct {
	status int
	text   string
}

// Main runs the experiment and exits: 0 if every observation was as stated, 1 if one differed
// or a step failed, SkipStatus if Skip was called.
func Main(name string, run func(*Report)) {
	fmt.Println(versions())
	r := &Report{name: name}
	watchdog := time.AfterFunc(Bound, func() {
		fmt.Printf("%s: not finished after %v\n", name, Bound)
		r.cleanUp()
		os.Exit(1)
	})
	status := r.guarded(run)
	watchdog.Stop()
	r.cleanUp()
	os.Exit(status)
}

// guarded runs the experiment and turns its outcome into an exit status.
func (r *Report) guarded(run func(*Report)) (status int) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			fmt.Printf("%s: %s\n", r.name, p.text)
			status = p.status
		default:
			r.cleanUp()
			panic(p)
		}
	}()
	run(r)
	if r.different > 0 {
		fmt.Printf("%s: %d of %d observations DIFFERENT\n", r.name, r.different, r.seen)
		return 1
	}
	fmt.Printf("%s: all %d observations as stated\n", r.name, r.seen)
	return 0
}

// Cleanup registers an undo step. The steps run in reverse order, also after a failure or a skip.
func (r *Report) Cleanup(undo func()) {
	r.mu.Lock()
	r.undo = append(r.undo, undo)
	r.mu.Unlock()
}

func (r *Report) cleanUp() {
	r.undoing.Do(func() {
		r.mu.Lock()
		steps := r.undo
		r.mu.Unlock()
		for i := len(steps) - 1; i >= 0; i-- {
			steps[i]()
		}
	})
}

// TempDir makes a directory that is removed at the end.
func (r *Report) TempDir() string {
	dir, err := os.MkdirTemp("", "note")
	r.Must("make a directory", err)
	r.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Skip ends the program: the experiment cannot run here, for the reason given.
func (r *Report) Skip(format string, args ...any) {
	panic(failure{SkipStatus, "skipped: " + fmt.Sprintf(format, args...)})
}

// Must ends the program if a step that the experiment only builds on has failed.
func (r *Report) Must(step string, err error) {
	if err != nil {
		panic(failure{1, fmt.Sprintf("cannot %s: %v", step, err)})
	}
}

// Step prints a heading: what the lines below it look at.
func (r *Report) Step(format string, args ...any) {
	fmt.Printf("%s: -- %s\n", r.name, fmt.Sprintf(format, args...))
}

// Figure prints a measurement that the note shows and does not judge.
func (r *Report) Figure(format string, args ...any) {
	fmt.Printf("%s: figure: %s\n", r.name, fmt.Sprintf(format, args...))
}

// Expect compares what was seen with what the note states.
func (r *Report) Expect(what string, want, saw any) {
	r.line(what, fmt.Sprint(want), saw, fmt.Sprint(want) == fmt.Sprint(saw))
}

// Within compares a number with a range, both ends included.
func (r *Report) Within(what string, low, high, saw int) {
	r.line(what, fmt.Sprintf("%d to %d", low, high), saw, low <= saw && saw <= high)
}

// AtLeast compares a number with its lower bound.
func (r *Report) AtLeast(what string, low, saw int) {
	r.line(what, fmt.Sprintf("at least %d", low), saw, saw >= low)
}

func (r *Report) line(what, want string, saw any, ok bool) {
	r.seen++
	verdict := "ok"
	if !ok {
		r.different++
		verdict = "DIFFERENT"
	}
	fmt.Printf("%s: %s: expected %s, saw %v: %s\n", r.name, what, want, saw, verdict)
}

// versions names the kernel (without its vendor suffix) and the Go release.
func versions() string {
	var u syscall.Utsname
	release := "?"
	if err := syscall.Uname(&u); err == nil {
		raw := make([]byte, 0, len(u.Release))
		for _, c := range u.Release {
			raw = append(raw, byte(c))
		}
		release, _, _ = strings.Cut(string(bytes.TrimRight(raw, "\x00")), "-")
	}
	return fmt.Sprintf("Linux %s, %s %s/%s", release, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Join writes several observations as one: "0, 0".
func Join(values ...any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ", ")
}
