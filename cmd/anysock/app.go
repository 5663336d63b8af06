package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/all" // every address works
)

// An app is one run of the command: its streams, what the options for every
// verb say, and what must be done before it ends.
type app struct {
	ctx    context.Context
	stdin  io.Reader
	stdout *output
	stderr io.Writer
	env    func(string) string
	start  time.Time

	// Options of every verb.
	json    bool
	traceOn bool
	verbose int

	log      *slog.Logger
	pen      pen  // of standard error
	terminal bool // standard error is one

	// records is where JSON records go: standard output, unless that is for
	// data.
	records         io.Writer
	recordsMu       sync.Mutex
	onRecordsBroken func()

	// group owns the disconnects that are left to the background.
	group anysock.Group

	mu         sync.Mutex
	interrupts *interrupts // nil until a verb asks for them
	bug        *failure    // a panic, the first one
}

// leaveTimeout bounds the wait for disconnects in the background at exit.
const leaveTimeout = anysock.DefaultCloseTimeout

// run runs the command and returns its exit status. ctx done is like a first
// SIGTERM.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	a := newApp(ctx, args, stdin, stdout, stderr, env)
	defer ignorePipeSignal()()
	// What programs started by exec: write to standard error comes this way.
	slog.SetDefault(newLogger(stderr, a.json, a.pen, a.start, func(l slog.Level) bool { return l >= slog.LevelInfo }))
	err := a.guarded(func() error { return a.execute(args) })
	return a.leave(err)
}

func newApp(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) *app {
	a := &app{
		ctx: ctx, stdin: stdin, stdout: &output{w: stdout}, stderr: stderr,
		env: lookupIn(env), start: time.Now(),
		// Known before the options are parsed, for the errors of parsing them.
		json: asksForJSON(args),
	}
	a.records = a.stdout
	a.pen, a.terminal = newPen(stderr, a.env), isTerminal(stderr)
	a.makeLogger()
	return a
}

func (a *app) makeLogger() {
	a.log = newLogger(a.stderr, a.json, a.pen, a.start, func(l slog.Level) bool {
		switch {
		case l <= levelTrace:
			return a.traceOn
		case l < slog.LevelInfo:
			return a.verbose >= 2
		case l < levelNotice:
			return a.verbose >= 1
		}
		return true
	})
}

// endLevel is the level of lines about connections that have ended: shown on a
// terminal, elsewhere with -v.
func (a *app) endLevel() slog.Level {
	if a.terminal {
		return levelNotice
	}
	return slog.LevelInfo
}

// asksForJSON looks for --json among the options.
func asksForJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

// lookupIn finds variables in an environment like os.Environ's; the last value
// counts.
func lookupIn(env []string) func(string) string {
	return func(name string) string {
		for _, kv := range slices.Backward(env) {
			if k, v, ok := strings.Cut(kv, "="); ok && k == name {
				return v
			}
		}
		return ""
	}
}

// watch begins to turn signals into a drain and an abort. A verb that does not
// call it is ended by signals as any program is.
func (a *app) watch() *interrupts {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.interrupts == nil {
		a.interrupts = watchInterrupts(a.ctx)
	}
	return a.interrupts
}

// leave does what is due before exit, and finds the status: it waits for
// disconnects in the background, says which connections were not graceful,
// and reports err.
func (a *app) leave(err error) int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), leaveTimeout)
	defer cancel()
	if in := a.interrupts; in != nil {
		defer context.AfterFunc(in.abort, cancel)()
		defer in.stop()
	}
	waitErr := errors.Join(a.waitFor(ctx, a.group.Wait), a.waitFor(ctx, anysock.Wait))

	a.mu.Lock()
	if a.bug != nil {
		err = a.bug
	}
	a.mu.Unlock()
	var out *outputError
	if broken := a.stdout.broken(); broken != nil && !errors.As(err, &out) && (err == nil || errors.Is(err, broken)) {
		err = &outputError{broken}
	}
	for _, e := range []error{err, waitErr} {
		if e != nil {
			a.report(e)
		}
	}
	if err == nil {
		err = waitErr
	}
	return exitOf(err)
}

func (a *app) waitFor(ctx context.Context, wait func(context.Context) ([]anysock.End, error)) error {
	ends, err := wait(ctx)
	if err == nil {
		for _, end := range ends {
			a.record(slog.LevelInfo, "end", peerName(end)+": "+endText(end), end.How, newEndRecord(end))
		}
	}
	return err
}

// guarded calls f and turns a panic into an error: nobody is to see a stack
// trace.
func (a *app) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = a.panicked(p)
		}
	}()
	return f()
}

// spawn runs f on a goroutine, whose owner is the caller. A panic in it ends
// the command, in order.
func (a *app) spawn(f func()) {
	go func() {
		defer func() {
			if p := recover(); p != nil {
				_ = a.panicked(p) // leave reports it
			}
		}()
		f()
	}()
}

// panicked remembers a bug, and cuts what runs.
func (a *app) panicked(p any) error {
	bug := &failure{
		err:    fmt.Errorf("internal error: %v%s", p, panicSite()),
		status: exitSetup,
		hint:   "this is a bug in anysock: report it with this message and what you ran",
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bug == nil {
		a.bug = bug
	}
	if a.interrupts != nil {
		a.interrupts.cut(bug)
	}
	return bug
}

// panicSite is the place of the panic that is being recovered.
func panicSite() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	seen := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			seen = true
		case seen && !strings.HasPrefix(f.Function, "runtime."):
			return fmt.Sprintf(" (%s, line %d)", f.Function, f.Line)
		}
		if !more {
			return ""
		}
	}
}

// An output is standard output. It remembers the first failure, because those
// who print to it do not always look; after that it takes nothing more.
type output struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if err := o.broken(); err != nil {
		return 0, err
	}
	n, err := o.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

// broken is the first failure, nil if there was none.
func (o *output) broken() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
