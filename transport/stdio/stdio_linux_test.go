// Tests of stdio: with every sort of descriptor that a process is started
// with.

package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// standardOf is a process's standard streams.
func standardOf(in, out, errs *os.File) *standard {
	return &standard{files: func() (*os.File, *os.File, *os.File) { return in, out, errs }}
}

// taken is the stream of in and out as a Conn.
func taken(t *testing.T, in, out *os.File) *anysock.Conn {
	t.Helper()
	nc, err := standardOf(in, out, nil).take(anysock.OpConnect)
	if err != nil {
		t.Fatal(err)
	}
	c := anysock.Wrap(nc, anysock.Options{})
	t.Cleanup(func() { c.Abort() })
	return c
}

func TestStdioOncePerProcess(t *testing.T) {
	r, w := blockingPipe(t)
	s := standardOf(r, w, nil)
	nc, err := s.take(anysock.OpConnect)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, err = s.take(anysock.OpConnect)
	if err == nil || kindOf(t, err) != anysock.KindInUse || !strings.Contains(err.Error(), "taken already") {
		t.Errorf("dialed again: %v", err)
	}
	if _, err := s.listen(); err == nil || kindOf(t, err) != anysock.KindInUse {
		t.Errorf("listened on: %v", err)
	}
}

// Both copies of standard output are closed, else the reader never sees an end.
func TestStdioHalfClose(t *testing.T) {
	in, feed := blockingPipe(t)
	sink, out := blockingPipe(t)
	c := taken(t, in, out)
	if got := c.Caps(); got != pipeCaps {
		t.Errorf("caps %s, want %s", got, pipeCaps)
	}
	write(t, c, "answer")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, sink); got != "answer" {
		t.Errorf("%q", got)
	}
	if err := c.SetDeadline(time.Now().Add(testBound)); err != nil {
		t.Errorf("a deadline after the half-close: %v", err)
	}
	write(t, feed, "question")
	feed.Close()
	if got := all(t, c); got != "question" {
		t.Errorf("%q", got)
	}
	graceful(t, c)
}

// Both copies of standard input are closed, else the writer never learns.
func TestStdioCloseBreaksTheWriter(t *testing.T) {
	in, feed := blockingPipe(t)
	_, out := blockingPipe(t)
	c := taken(t, in, out)
	if err := c.Abort(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("abort: %v", err)
	}
	if _, err := feed.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the writer is told %v", err)
	}
}

// The blocking mode is shared with other processes and stays as it was;
// deadlines and cancelling work all the same, and no byte is lost.
func TestStdioPipeStaysBlocking(t *testing.T) {
	in, feed := blockingPipe(t)
	sink, out := blockingPipe(t)
	inCopy, outCopy := copied(t, in), copied(t, out)
	c := taken(t, in, out)
	for _, f := range []*os.File{inCopy, outCopy} {
		n, _ := number(f)
		if fl, err := fcntl(n, syscall.F_GETFL); err != nil || fl&syscall.O_NONBLOCK != 0 {
			t.Errorf("flags %#x, %v", fl, err)
		}
	}
	inCopy.Close()
	outCopy.Close()
	cutShort(t, c)
	write(t, feed, "abc")
	buf := make([]byte, 10)
	if n, err := c.Read(buf); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	n, err := c.WriteContext(ctx, make([]byte, 1<<20))
	if n == 0 || n == 1<<20 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	c.CloseWrite()
	if got := len(all(t, sink)); got != n {
		t.Errorf("%d bytes were written, the call said %d", got, n)
	}
}

// copied keeps a descriptor visible that the stream closes.
func copied(t *testing.T, f *os.File) *os.File {
	t.Helper()
	n, _ := number(f)
	m, err := duplicate(n)
	if err != nil {
		t.Fatal(err)
	}
	g := os.NewFile(uintptr(m), "copy")
	t.Cleanup(func() { g.Close() })
	return g
}

// cutShort has reads end by a context, a deadline, and a deadline that is moved.
func cutShort(t *testing.T, c *anysock.Conn) {
	t.Helper()
	buf := make([]byte, 1)
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if n, err := c.ReadContext(ctx, buf); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	c.SetReadDeadline(time.Now().Add(short))
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	c.SetReadDeadline(time.Time{})
}

// openTerminal makes a pseudo-terminal; the user's side is the first.
func openTerminal(t *testing.T) (user, terminal *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { user.Close() })
	n, err := unlockTerminal(user)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	// Blocking, as a shell hands it over.
	fd, err := syscall.Open(fmt.Sprint("/dev/pts/", n), syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return user, os.NewFile(uintptr(fd), "terminal")
}

func TestStdioTerminal(t *testing.T) {
	user, tty := openTerminal(t)
	c := taken(t, tty, copied(t, tty))
	if _, ok := newInput(copied(t, tty)).(*fileHalf); !ok {
		t.Error("a terminal is read by a goroutine")
	}
	cutShort(t, c)
	write(t, user, "line\n")
	buf := make([]byte, 10)
	if n, err := c.Read(buf); string(buf[:n]) != "line\n" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	write(t, c, "out")
	if n, err := io.ReadFull(user, buf[:9]); string(buf[:n]) != "line\r\nout" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err) // the echo, and ours
	}
	write(t, user, "\x04") // Control-D
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
	graceful(t, c)
}

func TestStdioRegularFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "in")
	data := strings.Repeat("0123456789", 50_000)
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	c := taken(t, in, out)
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	if got := all(t, c); got != data {
		t.Errorf("%d bytes, want %d", len(got), len(data))
	}
	write(t, c, data)
	graceful(t, c)
	if got, err := os.ReadFile(out.Name()); err != nil || string(got) != data {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A disk that is full is an error that says so, and no graceful end.
func TestStdioFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	in, _ := blockingPipe(t)
	c := taken(t, in, full)
	if n, err := c.Write([]byte("abc")); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	if end, err := c.Disconnect(bounded(t)); err == nil || end.How.Complete() {
		t.Errorf("%v, %v", end, err)
	}
}

// socketPair makes two connected sockets, blocking as they are inherited.
func socketPair(t *testing.T) (a, b *os.File) {
	t.Helper()
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(p[0]), "socket"), os.NewFile(uintptr(p[1]), "socket")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// fileConn is f as package net has it.
func fileConn(t *testing.T, f *os.File) net.Conn {
	t.Helper()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { c.Close() })
	return c
}

// One socket for both, as inetd and systemd start a service: it is that
// socket, and messages on standard error do not get into it.
func TestStdioOneSocket(t *testing.T) {
	far, near := socketPair(t)
	peer := fileConn(t, far).(*net.UnixConn)
	out, errs := copied(t, near), copied(t, near)
	nc, err := standardOf(near, out, errs).take(anysock.OpConnect)
	if err != nil {
		t.Fatal(err)
	}
	c := anysock.Wrap(nc, anysock.Options{})
	t.Cleanup(func() { c.Abort() })
	if want := anysock.CapHalfClose | anysock.CapCutDetect | anysock.CapDeadline; !c.Caps().Has(want) {
		t.Errorf("caps %s", c.Caps())
	}
	if _, err := c.SyscallConn(); err != nil {
		t.Error(err)
	}
	write(t, errs, "a message")
	write(t, c, "data")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, peer); got != "data" {
		t.Errorf("%q", got)
	}
	write(t, peer, "answer")
	peer.CloseWrite()
	if got := all(t, c); got != "answer" {
		t.Errorf("%q", got)
	}
	graceful(t, c)
}

// A TCP socket keeps its abort: no copy is left that would turn it into a
// silent connection.
func TestStdioOneSocketAborts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := accepted.(*net.TCPConn).File()
	accepted.Close()
	if err != nil {
		t.Fatal(err)
	}
	nc, err := standardOf(f, copied(t, f), copied(t, f)).take(anysock.OpConnect)
	if err != nil {
		t.Fatal(err)
	}
	c := anysock.Wrap(nc, anysock.Options{})
	if want := anysock.CapAbort | anysock.CapCloseAck; !c.Caps().Has(want) {
		t.Errorf("caps %s", c.Caps())
	}
	if err := c.Abort(); err != nil {
		t.Fatal(err)
	}
	peer.SetDeadline(time.Now().Add(testBound))
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer sees %v", err)
	}
}

// Two sockets, as some programs start others: each is half of the stream.
func TestStdioTwoSockets(t *testing.T) {
	feedFile, in := socketPair(t)
	sinkFile, out := socketPair(t)
	feed, sink := fileConn(t, feedFile).(*net.UnixConn), fileConn(t, sinkFile)
	other := copied(t, out) // another process's: closing ours is no end
	defer other.Close()
	c := taken(t, in, out)
	cutShort(t, c)
	write(t, feed, "in")
	feed.CloseWrite()
	if got := all(t, c); got != "in" {
		t.Errorf("%q", got)
	}
	write(t, c, "out")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, sink); got != "out" {
		t.Errorf("%q", got)
	}
	graceful(t, c)
}

// A listener gives the one connection, waits for its ending, and has no more.
func TestStdioListen(t *testing.T) {
	in, feed := blockingPipe(t)
	sink, out := blockingPipe(t)
	l, err := standardOf(in, out, nil).listen()
	if err != nil {
		t.Fatal(err)
	}
	if l.(*onceListener).MaxConns() != 1 {
		t.Error("the listener admits more than one connection")
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, c, "still there")
	c.Close()
	feed.Close()
	if got := all(t, sink); got != "still there" {
		t.Errorf("%q", got)
	}
}

// Nobody accepted it: the other side learns when the listener is closed.
func TestStdioListenerClosedUnused(t *testing.T) {
	in, feed := blockingPipe(t)
	sink, out := blockingPipe(t)
	l, err := standardOf(in, out, nil).listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, sink); got != "" {
		t.Errorf("%q", got)
	}
	if _, err := feed.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
}
