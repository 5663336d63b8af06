//go:build unix

// Tests of exec: what a program sees of the connection, and the connection of it.

package stdio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

func TestExecHalfCloseAndExitStatusZero(t *testing.T) {
	c := dial(t, "exec:/bin/cat")
	if got := c.Caps(); got != programCaps {
		t.Errorf("caps %s, want %s", got, programCaps)
	}
	write(t, c, "first\n")
	buf := make([]byte, 100)
	if n, err := c.ReadAtLeast(bounded(t), buf, 6); err != nil || string(buf[:n]) != "first\n" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	write(t, c, "second\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, c); got != "second\n" {
		t.Fatalf("%q", got)
	}
	end := graceful(t, c)
	if end.Sent != 13 || end.Received != 13 || end.AckedBy != anysock.AckedNone || end.By != anysock.Us {
		t.Errorf("%+v", end)
	}
}

// Contract 2 and 3: the answer to a bulk comes whole after the half-close.
func TestExecBulk(t *testing.T) {
	data := make([]byte, 3<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data) // never fails
	c := dial(t, "exec:/bin/cat")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(data); err != nil {
			t.Error(err)
		}
		c.CloseWrite()
	})
	h := sha256.New()
	n, err := io.Copy(h, c)
	wg.Wait()
	if err != nil || n != int64(len(data)) || !bytes.Equal(h.Sum(nil), sum(data)) {
		t.Fatalf("%d of %d bytes or not the same, %v", n, len(data), err)
	}
	graceful(t, c)
}

func sum(p []byte) []byte { h := sha256.Sum256(p); return h[:] }

func init() {
	roles["args"] = func() error {
		for _, a := range os.Args {
			fmt.Printf("%q\n", a)
		}
		return nil
	}
}

func TestExecArgumentsPassNoShell(t *testing.T) {
	args := []string{"$HOME", "; echo hurt", "a b", "", "*", "`id`", "x,y&z", "\n"}
	address := runs("args")
	var want strings.Builder
	exe, _ := os.Executable()
	fmt.Fprintf(&want, "%q\n", exe)
	for _, a := range args {
		address += "&arg=" + escape(a)
		fmt.Fprintf(&want, "%q\n", a)
	}
	if got := all(t, dial(t, address)); got != want.String() {
		t.Errorf("got\n%swant\n%s", got, want.String())
	}
}

func TestExecEnvironmentAndDirectory(t *testing.T) {
	t.Setenv("ANYSOCK_TEST_INHERITED", "yes")
	dir := t.TempDir()
	got := all(t, dial(t, "exec:/usr/bin/env?env=A=1&env=B=x%20y%3Dz&env=ANYSOCK_TEST_INHERITED=changed"))
	for _, want := range []string{"A=1\n", "B=x y=z\n", "ANYSOCK_TEST_INHERITED=changed\n", "PATH="} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if got := all(t, dial(t, "exec:/usr/bin/env?clearenv=1&env=A=1")); got != "A=1\n" {
		t.Errorf("a cleared environment is %q", got)
	}
	if got := all(t, dial(t, "exec:/bin/pwd?clearenv=1&arg=-P&dir="+escape(dir))); got != dir+"\n" {
		t.Errorf("directory %q, want %q", got, dir)
	}
}

// Contract 1: what is not the program's good end is no end of file.
func TestExecStatusIsNoEndOfFile(t *testing.T) {
	for _, tt := range []struct{ name, script, reason string }{
		{"exit", "printf data; exit 3", "exit status 3"},
		{"exit_early_close", "printf data; exec >&-; exit 4", "exit status 4"},
		{"signal", "printf data; kill -9 $$", "signal: killed"},
		{"pipe", "printf data; kill -PIPE $$", "signal: broken pipe"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, programWith("/bin/sh", "-c", tt.script))
			p, err := io.ReadAll(c)
			if string(p) != "data" {
				t.Errorf("read %q before the end", p)
			}
			if err == nil || kindOf(t, err) != anysock.KindReset {
				t.Fatalf("want a KindReset error, have %v", err)
			}
			var status *exec.ExitError
			if !errors.As(err, &status) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("the error does not say %q: %v", tt.reason, err)
			}
			end, derr := c.Disconnect(bounded(t))
			if end.How != anysock.AbortedByPeer || !errors.As(end.Err, &status) || derr == nil {
				t.Errorf("%v, %v, %v", end, end.Err, derr)
			}
			if end.Received != 4 || end.By != anysock.Peer {
				t.Errorf("%+v", end)
			}
		})
	}
}

func init() {
	// Ends its output, then takes input to its end, then exits as it is told.
	roles["early"] = func() error {
		os.Stdout.Close()
		p, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		if string(p) != "ok" {
			return statusError(9)
		}
		return nil
	}
}

// The program's own half-close: its output ends, and its input goes on.
func TestExecProgramHalfCloses(t *testing.T) {
	for _, tt := range []struct {
		input string
		how   anysock.How
	}{{"ok", anysock.Graceful}, {"bad", anysock.AbortedByPeer}} {
		t.Run(tt.input, func(t *testing.T) {
			t.Parallel()
			c := dial(t, runs("early"))
			if got := all(t, c); got != "" {
				t.Fatalf("%q", got)
			}
			write(t, c, tt.input)
			end, err := c.Disconnect(bounded(t))
			if end.How != tt.how || (err == nil) != (tt.how == anysock.Graceful) {
				t.Errorf("%v, %v", end, err)
			}
		})
	}
}

func init() {
	// Says that it is ready, and writes down whether it saw an end of file.
	roles["witness"] = func() error {
		fmt.Print("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return os.WriteFile(os.Getenv(addrVariable), []byte("end of file"), 0o600)
	}
}

// Contract 6: the program does not take an abort for the end of its input.
func TestExecAbortIsNoEndOfFile(t *testing.T) {
	for i := range 20 {
		seen := filepath.Join(t.TempDir(), fmt.Sprint("seen", i))
		c := dial(t, runs("witness", "env="+addrVariable+"="+escape(seen)))
		buf := make([]byte, 5)
		if _, err := c.ReadAtLeast(bounded(t), buf, 5); err != nil {
			t.Fatal(err)
		}
		pid := pidOf(t, c)
		if err := c.Abort(); err != nil {
			t.Fatal(err)
		}
		if end := c.End(); end.How != anysock.AbortedByUs {
			t.Fatal(end)
		}
		gone(t, pid)
		if _, err := os.Stat(seen); err == nil {
			t.Fatal("the program saw an end of file")
		}
	}
}

// pidOf is the program's number, from its name.
func pidOf(t *testing.T, c *anysock.Conn) int {
	t.Helper()
	var pid int
	name := c.RemoteAddr().String()
	if _, err := fmt.Sscanf(name[strings.LastIndexByte(name, '['):], "[%d]", &pid); err != nil {
		t.Fatal(name, err)
	}
	return pid
}

// gone waits until there is no such process, not even as a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(testBound); ; {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("process %d is still there", pid)
		}
		<-tick.C
	}
}

func init() {
	// Ignores the end of its input and everything else that can be ignored.
	roles["stubborn"] = func() error {
		fmt.Print("ready")
		<-make(chan struct{})
		return nil
	}
}

// Contract 9: a program that does not end is killed after the time exit.
func TestExecCloseKillsWhatRunsOn(t *testing.T) {
	c := dial(t, runs("stubborn", "exit=100ms", "draintimeout=50ms"))
	buf := make([]byte, 5)
	if _, err := c.ReadAtLeast(bounded(t), buf, 5); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, c)
	if end, err := c.Disconnect(bounded(t)); err != nil || end.How != anysock.Delivered {
		t.Errorf("%v, %v", end, err)
	}
	gone(t, pid)
}

func TestExecCloseReturnsAtOnce(t *testing.T) {
	c := dial(t, runs("stubborn", "exit=50ms", "closetimeout=50ms"))
	pid := pidOf(t, c)
	start := time.Now()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > testBound/4 {
		t.Errorf("Close took %s", took)
	}
	<-c.Done()
	gone(t, pid)
}

// A program whose output and input have both ended is not waited for twice.
func TestExecOverdueIsKilledAtOnce(t *testing.T) {
	c := dial(t, programWith("/bin/sh", "-c", "exec >&-; exec sleep 60")+"&exit=100ms")
	pid := pidOf(t, c)
	if end, err := c.Disconnect(bounded(t)); err != nil || end.How != anysock.Graceful {
		t.Errorf("%v, %v", end, err)
	}
	gone(t, pid)
}

func TestExecLeavesNoZombies(t *testing.T) {
	var pids []int
	for range 30 {
		c := dial(t, "exec:/bin/true")
		pids = append(pids, pidOf(t, c))
		c.Close()
		<-c.Done()
	}
	for _, pid := range pids {
		gone(t, pid)
	}
}

func TestExecWriteToProgramThatHasGone(t *testing.T) {
	for _, tt := range []struct {
		script string
		check  func(error) bool
	}{
		{"exit 7", func(err error) bool {
			var status *exec.ExitError
			return errors.As(err, &status) && status.ExitCode() == 7
		}},
		{"exit 0", func(err error) bool { return errors.Is(err, syscall.EPIPE) }},
	} {
		t.Run(tt.script, func(t *testing.T) {
			t.Parallel()
			c := dial(t, programWith("/bin/sh", "-c", tt.script))
			gone(t, pidOf(t, c))
			_, err := c.Write([]byte("x"))
			if err == nil || kindOf(t, err) != anysock.KindReset || !tt.check(err) {
				t.Errorf("write: %v", err)
			}
			<-c.Done()
			if end := c.End(); end.How != anysock.AbortedByPeer {
				t.Error(end)
			}
		})
	}
}

// What a program wrote before it went is still read after a failed write.
func TestExecOutputAfterFailedWrite(t *testing.T) {
	c := dial(t, programWith("/bin/sh", "-c", "printf last; exit 5"))
	gone(t, pidOf(t, c))
	if _, err := c.Write([]byte("x")); err == nil {
		t.Fatal("the write succeeded")
	}
	if end := c.End(); end.How != anysock.NotEnded {
		t.Errorf("ended before the output was read: %v", end)
	}
	p, err := io.ReadAll(c)
	if string(p) != "last" || err == nil || kindOf(t, err) != anysock.KindReset {
		t.Errorf("%q, %v", p, err)
	}
	if end := c.End(); end.How != anysock.AbortedByPeer || end.Received != 4 {
		t.Error(end)
	}
}

// Contract 8: a cut call keeps its count and the connection.
func TestExecCancelIsClean(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	// Reads nothing until the gate opens, then counts.
	c := dial(t, programWith("/bin/sh", "-c", `read x <"$0"; exec wc -c`, gate))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if n, err := c.ReadContext(ctx, make([]byte, 10)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	n, err := c.WriteContext(ctx, make([]byte, 1<<20))
	if n == 0 || n == 1<<20 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	if c.Sent() != int64(n) {
		t.Errorf("sent %d, the call said %d", c.Sent(), n)
	}
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var counted int
	if _, err := fmt.Sscan(all(t, c), &counted); err != nil || counted != n {
		t.Errorf("the program counted %d bytes, the call %d (%v)", counted, n, err)
	}
	graceful(t, c)
}

// The wait for the exit is cut short as any read is.
func TestExecCancelAtEndOfOutput(t *testing.T) {
	c := dial(t, programWith("/bin/sh", "-c", "exec >&-; exec cat >/dev/null")+"&exit=1h")
	if err := c.CloseWrite(); err != nil { // cat ends
		t.Fatal(err)
	}
	if got := all(t, c); got != "" {
		t.Fatal(got)
	}
	c = dial(t, programWith("/bin/sh", "-c", "exec >&- <&-; exec sleep 60")+"&exit=1h")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.ReadContext(ctx, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	result := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		result <- err
	}()
	if err := c.Abort(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Errorf("aborted: %v", err)
	}
}

func TestExecUnackedIsWhatTheProgramHasNotRead(t *testing.T) {
	c := dial(t, runs("stubborn"))
	write(t, c, strings.Repeat("x", 1000))
	c.Abort()
	if end := c.End(); end.Sent != 1000 || end.Unacked != 1000 {
		t.Error(end)
	}
}

// A failed program is noticed without being read.
func TestExecWaitForFailure(t *testing.T) {
	c := dial(t, programWith("/bin/sh", "-c", "exit 1"))
	r, err := c.Wait(bounded(t), 0, 1)
	if err != nil || r != anysock.Failed {
		t.Fatal(r, err)
	}
	c.Abort()
	if end := c.End(); end.How != anysock.AbortedByPeer {
		t.Errorf("the failure that nobody read is not the ending: %v", end)
	}
}

func TestExecStartErrors(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/nonexistent/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		address string
		kind    anysock.Kind
		says    string
	}{
		{"exec:/nonexistent/program", anysock.KindRefused, "there is no program"},
		{"exec:" + script, anysock.KindRefused, "interpreter"},
		{"exec:" + plain, anysock.KindPermission, "not executable"},
		{"exec:" + dir, anysock.KindPermission, "not executable"},
		{"exec:/bin/cat?dir=/nonexistent", anysock.KindRefused, "dir="},
		{"exec:/bin/cat?env=NOVALUE", anysock.KindAddress, "NAME=VALUE"},
		{"exec:/bin/cat?stderr=file", anysock.KindAddress, "inherit, log or discard"},
		{"exec:/bin/cat?exit=never", anysock.KindAddress, "duration"},
	} {
		_, err := anysock.Dial(bounded(t), tt.address)
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Error()+" "+e.Hint, tt.says) {
			t.Errorf("%s: %v (%s), want %s and %q", tt.address, err, e.Hint, tt.kind, tt.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := anysock.Dial(ctx, "exec:/bin/cat"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	_, err := anysock.Listen(bounded(t), "exec:/bin/cat")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "exec cannot be listened on") {
		t.Errorf("listen: %v", err)
	}
}

// A syncBuffer may be written by the log while the test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestExecStandardErrorGoesToTheLog(t *testing.T) {
	var log syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	long := strings.Repeat("y", maxLogLine+10)
	script := `echo one >&2; printf 'a\033b\n' >&2; echo ` + long + ` >&2; printf tail >&2; echo out`
	p, err := launch{path: "/bin/sh", args: []string{"-c", script}, stderr: stderrLog, exit: time.Second}.start()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := all(t, p); got != "out\n" {
		t.Errorf("standard output is %q", got)
	}
	<-p.log.done
	got := log.String()
	for _, want := range []string{"line=one\n", `line="a\x1bb"`, "line=" + long[:maxLogLine] + "\n", "line=" + long[maxLogLine:] + "\n", "line=tail\n", "program=/bin/sh["} {
		if !strings.Contains(got, want) {
			t.Errorf("%.60q is not in the log:\n%.2000s", want, got)
		}
	}
}

// Somebody else who holds the program's standard error does not hold us up.
func TestExecLogEndsWithTheProgram(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := launch{path: "/bin/sh", args: []string{"-c", `read x <"$0" >&- & exit 0`, gate}, stderr: stderrLog}.start()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	<-p.exited
	<-p.log.done
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil { // the one in the background ends
		t.Fatal(err)
	}
}
