//go:build linux

package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// onTerminal runs cmd on a terminal of its own: what it is to say there is
// written to the file, and what it shows can be waited for.
func onTerminal(t *testing.T, cmd *exec.Cmd) (*background, *os.File) {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.WaitDelay = patience
	b := &background{cmd: cmd, done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = io.Copy(&b.errOut, ours) // EIO is how a terminal ends
	}()
	go func() {
		<-shown // which is when nobody has the terminal any more
		b.wait()
	}()
	t.Cleanup(func() {
		b.stop()
		ours.Close()
	})
	return b, ours
}

// withEnv is cmd with variables set.
func withEnv(cmd *exec.Cmd, env ...string) *exec.Cmd {
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func TestColoursOnATerminal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  []string
		want bool
	}{
		"a terminal":          {[]string{"TERM=xterm-256color", "NO_COLOR="}, true},
		"NO_COLOR":            {[]string{"TERM=xterm-256color", "NO_COLOR=1"}, false},
		"a dumb terminal":     {[]string{"TERM=dumb", "NO_COLOR="}, false},
		"JSON has none":       {[]string{"TERM=xterm-256color", "NO_COLOR=", "JSON=--json"}, false},
		"neither has --trace": {[]string{"TERM=dumb", "NO_COLOR=", "JSON=--trace"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"connect", "127.0.0.1:1"}
			for _, kv := range test.env {
				if option, ok := strings.CutPrefix(kv, "JSON="); ok {
					args = append(args, option)
				}
			}
			b, _ := onTerminal(t, withEnv(command(t, args...), test.env...))
			b.exits(t, exitRefused)
			b.sees(t, "connection refused")
			text := b.errOut.String()
			if got := strings.Contains(text, "\x1b["); got != test.want {
				t.Errorf("colours %v, want %v: %q", got, test.want, text)
			}
			if test.want && !strings.Contains(text, "\x1b[1;31manysock:\x1b[0m connect ") {
				t.Errorf("%q", text)
			}
		})
	}
}

// On a terminal a session ends with the peer's end, as telnet's does, and the
// ending is told.
func TestPeerEndsFirstOnATerminal(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	b, terminal := onTerminal(t, withEnv(command(t, "connect", ln.Addr().String()), "NO_COLOR=1"))
	c := acceptPeer(t, ln)
	write(t, terminal, "typed\n")
	wantRead(t, c, "typed\n")
	write(t, c, "bye\n")
	c.Close()
	b.exits(t, 0)
	b.sees(t, "^bye\r$")
	b.sees(t, `^tcp:127\.0\.0\.1:[0-9]+: graceful: 6 sent, 4 received, ended by peer, `)
}

// With --half-open it does not, and says so.
func TestHalfOpenOnATerminal(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	b, terminal := onTerminal(t, withEnv(command(t, "connect", "--half-open", ln.Addr().String()), "NO_COLOR=1"))
	c := acceptPeer(t, ln)
	c.CloseWrite()
	b.sees(t, "^the peer has ended; sending goes on until the end of input\r$")
	write(t, terminal, "late\n")
	wantRead(t, c, "late\n")
	write(t, terminal, "\x04") // Ctrl-D
	wantEnd(t, c)
	b.exits(t, 0)
}

// Ctrl-C ends the session in order.
func TestInterruptOnATerminal(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	b, terminal := onTerminal(t, withEnv(command(t, "connect", ln.Addr().String()), "NO_COLOR=1"))
	c := acceptPeer(t, ln)
	write(t, terminal, "one\n")
	wantRead(t, c, "one\n")
	write(t, terminal, "\x03")
	b.sees(t, "^(\\^C)?anysock: interrupted by interrupt: ending the connection; a second signal aborts\r$")
	wantEnd(t, c)
	c.Close()
	b.exits(t, 0)
}

// A server on a terminal prints a line for every connection that has ended.
func TestServersOnATerminal(t *testing.T) {
	t.Parallel()
	echo, keyboard := onTerminal(t, withEnv(command(t, "echo", "tcp://127.0.0.1:0"), "NO_COLOR=1"))
	relay, _ := onTerminal(t, withEnv(command(t, "relay", "tcp://127.0.0.1:0", strings.TrimSpace(echo.sees(t, listening.String()))), "NO_COLOR="))
	c := dialPeer(t, strings.TrimSpace(relay.sees(t, listening.String())))
	write(t, c, "hello")
	wantRead(t, c, "hello")
	c.CloseWrite()
	wantEnd(t, c)
	echo.sees(t, `^tcp:127\.0\.0\.1:[0-9]+: graceful: 5 sent, 5 received, ended by peer, acknowledged by kernel, [^ ]+\r$`)
	relay.sees(t, `^tcp:127\.0\.0\.1:[0-9]+ -> tcp:127\.0\.0\.1:[0-9]+: \x1b\[32mgraceful\x1b\[0m, inbound ended first, 5 bytes out, 5 back, [^ ]+\r$`)
	write(t, keyboard, "\x03")
	echo.exits(t, 0)
}
