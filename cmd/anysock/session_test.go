//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"

	"github.com/anysock/anysock/internal/printable"
)

// command is anysock as a program.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("anysock")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm")
	return cmd
}

// start runs cmd beside the test.
func start(t *testing.T, cmd *exec.Cmd) *background {
	t.Helper()
	b, err := startBackground(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	return b
}

// sees waits for output.
func (b *background) sees(t *testing.T, pattern string) string {
	t.Helper()
	s, err := b.match(regexp.MustCompile("(?m)" + pattern))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exits waits for the end and checks the status.
func (b *background) exits(t *testing.T, want int) {
	t.Helper()
	got, err := b.status()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("exit status %d, want %d\n%s%s", got, want, b.errOut.String(), b.out.String())
	}
	if text := b.errOut.String(); strings.Contains(text, "goroutine ") || strings.Contains(text, ".go:") {
		t.Errorf("a stack trace:\n%s", text)
	}
}

func (b *background) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := b.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// inputOf gives cmd an input that the test writes.
func inputOf(t *testing.T, cmd *exec.Cmd) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = r
	t.Cleanup(func() { r.Close(); w.Close() })
	return w
}

// peerListener is a server whose peer is anysock.
func peerListener(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func acceptPeer(t *testing.T, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	ln.SetDeadline(time.Now().Add(patience))
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// cut resets a connection.
func cut(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func wantEnd(t *testing.T, r io.Reader) {
	t.Helper()
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

func wantReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	for {
		_, err := c.Read(make([]byte, 4096))
		if err == nil {
			continue
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%v, want a reset", err)
		}
		return
	}
}

// wantBrokenPipe: after an end the kernel tells of a reset when we write.
func wantBrokenPipe(t *testing.T, c *net.TCPConn) {
	t.Helper()
	var err error
	for range 1000 { // the reset may be under way
		if _, err = c.Write([]byte("x")); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, want a broken pipe", err)
	}
}

// The peer's end is no reason to stop sending what comes later: it may still
// read. Input that never ends does not stop the session once the peer is gone.
func TestPeerEndsFirst(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "-v", ln.Addr().String())
	input := inputOf(t, cmd)
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	write(t, c, "bye")
	c.CloseWrite()
	b.sees(t, "^the peer has ended; sending goes on until the end of input$")
	write(t, input, "late")
	wantRead(t, c, "late")
	input.Close()
	wantEnd(t, c)
	b.exits(t, 0)
	if b.out.String() != "bye" {
		t.Errorf("standard output is %q", b.out.String())
	}
}

func TestPeerEndsFirstHalfOpenNo(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "--half-open=no", ln.Addr().String())
	input := inputOf(t, cmd) // stays open
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	write(t, input, "typed")
	wantRead(t, c, "typed")
	c.CloseWrite()
	wantEnd(t, c)
	b.exits(t, 0)
}

// A peer that has closed altogether is noticed while input says nothing: at
// once on a Unix socket.
func TestPeerGoneWhileInputIsSilent(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cmd := command(t, "connect", "unix:"+path)
	inputOf(t, cmd) // stays open
	b := start(t, cmd)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, "done")
	c.Close()
	b.exits(t, 0)
	if b.out.String() != "done" {
		t.Errorf("standard output is %q", b.out.String())
	}
}

// And a reset while nobody reads is noticed on tcp too.
func TestResetWhileInputIsSilent(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "-v", ln.Addr().String())
	inputOf(t, cmd) // stays open
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	write(t, c, "x")
	c.CloseWrite()
	b.sees(t, "^the peer has ended")
	cut(t, c)
	b.exits(t, exitAborted)
	b.sees(t, "^  try: the peer had ended in order and took no more; --half-open=no ends the session then$")
}

// An input that fails has not ended, and the peer must not believe that it
// has.
func TestBrokenInputIsAnAbort(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", ln.Addr().String())
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd.Stdin = dir // reading it is EISDIR
	b := start(t, cmd)
	wantReset(t, acceptPeer(t, ln))
	b.exits(t, exitSetup)
	b.sees(t, "^anysock: read standard input: is a directory$")
}

// An output that nobody reads is an abort: the sender must not believe that
// everything was taken.
func TestBrokenOutputIsAnAbort(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"connect", "listen"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			defer w.Close()
			var c *net.TCPConn
			var b *background
			if verb == "connect" {
				ln := peerListener(t)
				cmd := command(t, "connect", ln.Addr().String())
				cmd.Stdout = w
				inputOf(t, cmd)
				b = start(t, cmd)
				c = acceptPeer(t, ln)
			} else {
				cmd := command(t, "listen", "tcp://127.0.0.1:0")
				cmd.Stdout = w
				inputOf(t, cmd)
				b = start(t, cmd)
				c = dialPeer(t, b.sees(t, listening.String()))
			}
			write(t, c, "data")
			wantReset(t, c)
			b.exits(t, exitOutput)
			b.sees(t, "^anysock: write standard output: broken pipe$")
		})
	}
}

// dialPeer connects to an address of anysock.
func dialPeer(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(address, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// A signal sends what was read, ends our direction, and takes the reply.
func TestSignalEndsInOrder(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			ln := peerListener(t)
			cmd := command(t, "connect", ln.Addr().String())
			input := inputOf(t, cmd) // stays open
			b := start(t, cmd)
			c := acceptPeer(t, ln)
			write(t, input, "asked")
			wantRead(t, c, "asked")
			b.signal(t, sig)
			wantEnd(t, c)
			answer := strings.Repeat("answer", 50<<10)
			write(t, c, answer)
			c.Close()
			b.exits(t, 0)
			if got := b.out.String(); got != answer {
				t.Errorf("standard output has %d bytes, want %d", len(got), len(answer))
			}
			b.sees(t, "before the end of input: ending the connection; a second signal aborts$")
		})
	}
}

func TestSecondSignalAborts(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "-v", ln.Addr().String())
	inputOf(t, cmd) // stays open
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	b.sees(t, "^connected to ")
	b.signal(t, os.Interrupt)
	b.sees(t, "a second signal aborts$") // the peer does not end
	wantEnd(t, c)
	b.signal(t, os.Interrupt)
	b.exits(t, exitAborted)
	wantBrokenPipe(t, c)
	b.sees(t, "^anysock: aborted, interrupted by interrupt$")
}

// A signal while connecting is no success: nothing was sent.
func TestSignalWhileConnecting(t *testing.T) {
	t.Parallel()
	b := start(t, command(t, "connect", "-vv", "--retry", "-1", "--retry-interval", "1h", "127.0.0.1:1"))
	b.sees(t, "retry 1 in")
	b.signal(t, syscall.SIGTERM)
	b.exits(t, exitSetup)
	b.sees(t, "^anysock: connect tcp:127.0.0.1:1: interrupted by terminated$")
}

// With an output that takes nothing, a signal still ends the program.
func TestSignalWhileOutputIsStuck(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "-v", ln.Addr().String())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // never read
	defer w.Close()
	cmd.Stdout = w
	inputOf(t, cmd)
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	b.sees(t, "^connected to ")
	big := bytes.Repeat([]byte("x"), 1<<20)
	if _, err := c.Write(big[:200<<10]); err != nil { // more than the pipe takes
		t.Fatal(err)
	}
	c.CloseWrite()
	b.signal(t, syscall.SIGTERM)
	b.sees(t, "a second signal aborts$")
	b.signal(t, syscall.SIGTERM)
	b.exits(t, exitAborted)
}

// A peer that neither ends nor speaks does not hold up a signal for long; what
// we sent was acknowledged, so the status is 0.
func TestSignalWithSilentPeer(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "-v", "tcp://"+ln.Addr().String()+"?draintimeout=100ms")
	input := inputOf(t, cmd)
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	write(t, input, "x")
	wantRead(t, c, "x")
	b.signal(t, syscall.SIGTERM)
	wantEnd(t, c)
	b.exits(t, 0)
	b.sees(t, ": delivered: 1 sent, 0 received, ended by us, acknowledged by kernel, ")
}

// Nor does an output that takes nothing; what is missing there is told.
func TestSignalWhenNothingMoves(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	cmd := command(t, "connect", "-v", "tcp://"+ln.Addr().String()+"?draintimeout=100ms")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // never read
	defer w.Close()
	cmd.Stdout = w
	inputOf(t, cmd)
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	b.sees(t, "^connected to ")
	if _, err := c.Write(make([]byte, 200<<10)); err != nil { // more than the pipe takes
		t.Fatal(err)
	}
	b.signal(t, syscall.SIGTERM)
	b.exits(t, exitAborted)
	b.sees(t, "^anysock: standard output takes nothing: what came last is not on it$")
}

// What Disconnect had to discard is missing on standard output, and is told.
func TestLateBytesAreTold(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	c, err := anysock.Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer := acceptPeer(t, ln)
	write(t, peer, "late")
	peer.CloseWrite()
	if _, err := c.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &joined{a: newApp(t.Context(), nil, nil, nil, io.Discard, nil), c: c}
	err = s.outcome()
	if exitOf(err) != exitAborted || !strings.Contains(fmt.Sprint(err), "4 bytes came after we had stopped waiting") {
		t.Errorf("%v, status %d", err, exitOf(err))
	}
	// A peer that goes on talking is not waited for without end.
	last := lastWords{c: c, began: time.Now().Add(-2 * limitAfterSignal), timer: time.NewTimer(0)}
	defer last.stop()
	if !last.over() {
		t.Error("still waiting")
	}
	last.began, last.received = time.Now(), 1
	if last.over() || !last.over() {
		t.Error("what was said is to be waited for, and silence is not")
	}
}

// Input of one connection that was not read yet belongs to the next.
func TestKeepGivesInputToWhoIsThere(t *testing.T) {
	t.Parallel()
	cmd := command(t, "listen", "--keep", "-v", "--half-open=no", "tcp://127.0.0.1:0")
	input := inputOf(t, cmd)
	b := start(t, cmd)
	addr := b.sees(t, listening.String())
	first := dialPeer(t, addr)
	write(t, input, "one")
	wantRead(t, first, "one")
	first.Close()
	b.sees(t, ": graceful: 3 sent")
	second := dialPeer(t, addr)
	write(t, input, "two")
	wantRead(t, second, "two")
	input.Close()
	wantEnd(t, second)
	second.Close()
	b.sees(t, `(?s)graceful: 3 sent.*graceful: 3 sent`)
	third := dialPeer(t, addr)
	wantEnd(t, third) // the end of input is told to everybody
	third.Close()
	b.sees(t, "graceful: 0 sent")
	b.signal(t, syscall.SIGTERM)
	b.exits(t, 0)
}

// A megabyte each way through a session, closed at once behind it, arrives.
func TestSessionLosesNothing(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	ln := peerListener(t)
	cmd := command(t, "connect", ln.Addr().String())
	cmd.Stdin = bytes.NewReader(data)
	b := start(t, cmd)
	c := acceptPeer(t, ln)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err = errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("the peer received %d of %d bytes", len(got), len(data))
	}
	b.exits(t, 0)
	if b.out.String() != string(data) {
		t.Errorf("standard output has %d of %d bytes", len(b.out.String()), len(data))
	}
}

// Arguments with control characters come out quoted.
func TestHostileArguments(t *testing.T) {
	t.Parallel()
	for i, arg := range printable.Hostile {
		if strings.Contains(arg, "\x00") {
			continue // no argument can have it
		}
		for _, args := range [][]string{{"connect", "tcp://" + arg + ":1"}, {"connect", "--idle", arg, "x:1"}, {arg}, {"echo", "x", arg}, {"connect", "--" + arg}, {"connect", "--half-open=" + arg, "x:1"}, {"echo", "unix:/nosuch/" + arg}} {
			var out, errOut bytes.Buffer
			status := run(t.Context(), args, strings.NewReader(""), &out, &errOut, nil)
			if status == 0 {
				t.Errorf("%d: %q succeeded", i, args)
			}
			for line := range strings.Lines(errOut.String()) {
				if !isSafe(strings.TrimSuffix(line, "\n")) {
					t.Errorf("%d: %q: %q", i, args, line)
				}
			}
			if strings.Contains(errOut.String(), "\nforged") {
				t.Errorf("%q forged a line: %q", args, fmt.Sprint(errOut.String()))
			}
		}
	}
}
