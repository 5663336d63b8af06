// This file holds the transport exec: a program whose standard input and
// output are the stream.

package stdio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

func init() {
	anysock.Register(anysock.Transport{
		Scheme: "exec",
		Options: []anysock.OptionSpec{
			{Name: "arg", Repeat: true, Type: anysock.OptionText, Dial: true, Help: "one argument; repeat it for more (no shell reads it)"},
			{Name: "env", Repeat: true, Type: anysock.OptionString, Dial: true, Help: "NAME=VALUE added to the environment; may repeat"},
			{Name: "clearenv", Type: anysock.OptionBool, Dial: true, Help: "start from an empty environment (default 0)"},
			{Name: "dir", Type: anysock.OptionString, Dial: true, Help: "working directory"},
			{Name: "stderr", Type: anysock.OptionString, Dial: true, Help: "inherit, log or discard (default inherit)"},
			{Name: "exit", Type: anysock.OptionDuration, Dial: true, Help: "how long the program may run on after the end (default 5s)"},
		},
		Caps: func(anysock.Caps, anysock.Target) anysock.Caps { return programCaps },
		Dial: func(ctx context.Context, _ *anysock.Dialer, t anysock.Target) (net.Conn, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			l, err := launchOf(t)
			if err != nil {
				return nil, err
			}
			p, err := l.start()
			if err != nil {
				return nil, err // not a nil *program in a net.Conn
			}
			return p, nil
		},
	})
}

// What a program's standard error becomes.
const (
	stderrInherit = "inherit"
	stderrLog     = "log"
	stderrDiscard = "discard"
)

// A launch is what an address asks for.
type launch struct {
	path   string
	args   []string
	env    []string // added to the environment
	clear  bool     // or instead of it
	dir    string   // "" is ours
	stderr string
	exit   time.Duration
}

func launchOf(t anysock.Target) (launch, error) {
	l := launch{
		path: t.Hop.Opaque, args: t.Strings("arg"), env: t.Strings("env"), clear: t.Bool("clearenv", false),
		dir: t.String("dir", ""), stderr: t.String("stderr", stderrInherit), exit: t.Duration("exit", DefaultExitTimeout),
	}
	for _, v := range l.env {
		if strings.IndexByte(v, '=') < 1 {
			return l, l.fail(anysock.KindAddress, fmt.Errorf("the value of env must be NAME=VALUE, not %q", v), "")
		}
	}
	switch l.stderr {
	case stderrInherit, stderrLog, stderrDiscard:
	default:
		return l, l.fail(anysock.KindAddress, fmt.Errorf("the value of stderr must be inherit, log or discard, not %q", l.stderr), "")
	}
	return l, nil
}

func (l launch) command() *exec.Cmd {
	cmd := &exec.Cmd{Path: l.path, Args: append([]string{l.path}, l.args...), Dir: l.dir, Env: []string{}}
	if !l.clear {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, l.env...)
	if l.stderr == stderrInherit {
		cmd.Stderr = os.Stderr
	}
	return cmd
}

// start starts the program on two pipes. Pipes and not a socket pair: programs
// open /dev/stdin and /dev/stdout again, which a socket refuses, and shells
// take a socket for a remote login.
func (l launch) start() (*program, error) {
	inherited.closeOnExec()
	var ours, theirs files // theirs are the program's ends, ours no more once it has them
	defer theirs.close()
	p, err := l.startOn(&ours, &theirs)
	if err != nil {
		ours.close()
		return nil, l.startError(err)
	}
	return p, nil
}

func (l launch) startOn(ours, theirs *files) (*program, error) {
	cmd := l.command()
	in, err := newPipe(ours, theirs)
	if err != nil {
		return nil, err
	}
	cmd.Stdout = theirs.last()
	out, err := newPipeTo(ours, theirs)
	if err != nil {
		return nil, err
	}
	cmd.Stdin = theirs.last()
	var log *lineLog
	if l.stderr == stderrLog {
		if log, err = newLineLog(cmd, ours, theirs); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return newProgram(cmd, in, out, log, l.exit), nil
}

// files are to be closed together.
type files []*os.File

func (f *files) close() {
	for _, file := range *f {
		file.Close()
	}
}

func (f *files) last() *os.File { return (*f)[len(*f)-1] }

// newPipe makes a pipe that we read; the program's end becomes the last of
// theirs.
func newPipe(ours, theirs *files) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	*ours, *theirs = append(*ours, r), append(*theirs, w)
	return r, nil
}

// newPipeTo makes a pipe that we write.
func newPipeTo(ours, theirs *files) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	*ours, *theirs = append(*ours, w), append(*theirs, r)
	return w, nil
}

func (l launch) fail(k anysock.Kind, err error, hint string) error {
	return &anysock.Error{Op: anysock.OpConnect, Addr: "exec:" + l.path, Kind: k, Err: err, Hint: hint}
}

// startError says why the program was not started.
func (l launch) startError(err error) error {
	if l.dir != "" {
		if _, derr := os.Stat(l.dir); derr != nil {
			return l.fail(anysock.KindRefused, derr, "dir= must be a directory that exists")
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, serr := os.Stat(l.path); serr == nil {
			return l.fail(anysock.KindRefused, err, l.path+" is there, but the interpreter or loader that it names is not")
		}
		return l.fail(anysock.KindRefused, err, "there is no program "+l.path+": write its whole path")
	case errors.Is(err, fs.ErrPermission):
		return l.fail(anysock.KindPermission, err, l.path+" is not executable for this user, or not a program")
	}
	return err
}

// programAddr names a running program.
func programAddr(path string, pid int) addr {
	return addr{"exec", path + "[" + strconv.Itoa(pid) + "]"}
}

// exitText is the exit status as a reason.
func exitText(state *os.ProcessState, started time.Time) error {
	return fmt.Errorf("the program ended after %s with %w", time.Since(started).Round(time.Millisecond), &exec.ExitError{ProcessState: state})
}
