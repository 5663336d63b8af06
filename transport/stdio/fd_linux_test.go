// Tests of fd: with what a process really inherits, and with what it does not.

package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

func init() {
	roles["echo"] = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), testBound)
		defer cancel()
		c, err := anysock.Dial(ctx, os.Getenv(addrVariable))
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, c.Caps())
		return anysock.ServeEcho(ctx, c)
	}
	roles["accept"] = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), testBound)
		defer cancel()
		l, err := anysock.Listen(ctx, os.Getenv(addrVariable))
		if err != nil {
			return err
		}
		for c, err := range l.Conns(ctx) {
			if err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, c.Caps())
			if err := anysock.ServeEcho(ctx, c); err != nil {
				return err
			}
			l.Close()
		}
		return nil
	}
}

// A child is this binary in a role, with files of ours.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *syncBuffer
}

func newChild(t *testing.T, role, address string, files ...*os.File) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.CommandContext(bounded(t), exe), stderr: new(syncBuffer)}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role, addrVariable+"="+address)
	c.cmd.Stderr = c.stderr
	c.cmd.ExtraFiles = files
	return c
}

// start starts it and closes our copies of what it got.
func (c *child) start(ours ...*os.File) {
	c.t.Helper()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	for _, f := range append(ours, c.cmd.ExtraFiles...) {
		f.Close()
	}
}

// end waits for exit status 0 and what it said.
func (c *child) end() string {
	c.t.Helper()
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("%v: %s", err, c.stderr)
	}
	return c.stderr.String()
}

func TestFDConnectedSocket(t *testing.T) {
	far, near := socketPair(t)
	c := newChild(t, "echo", "fd:3", near)
	c.start()
	peer := fileConn(t, far).(*net.UnixConn)
	write(t, peer, "through a socket")
	peer.CloseWrite()
	if got := all(t, peer); got != "through a socket" {
		t.Errorf("%q", got)
	}
	if caps := c.end(); !strings.Contains(caps, "cutdetect") {
		t.Errorf("it is no kernel socket: %s", caps)
	}
}

func TestFDTCPSocket(t *testing.T) {
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
	c := newChild(t, "echo", "fd:3?closetimeout=1s", f)
	c.start()
	write(t, peer, "through tcp")
	peer.(*net.TCPConn).CloseWrite()
	if got := all(t, peer); got != "through tcp" {
		t.Errorf("%q", got)
	}
	if caps := c.end(); !strings.Contains(caps, "abort") || !strings.Contains(caps, "closeack") {
		t.Errorf("caps %s", caps)
	}
}

func TestFDPairOfPipes(t *testing.T) {
	in, feed := blockingPipe(t)
	sink, out := blockingPipe(t)
	c := newChild(t, "echo", "fd:3?out=4", in, out)
	c.start()
	write(t, feed, "through pipes")
	feed.Close()
	if got := all(t, sink); got != "through pipes" {
		t.Errorf("%q", got)
	}
	c.end()
}

func TestFDTerminal(t *testing.T) {
	user, tty := openTerminal(t)
	c := newChild(t, "echo", "fd:3", tty)
	c.start()
	write(t, user, "line\n\x04")
	buf := make([]byte, 12) // the terminal's echo, then the program's
	if n, err := io.ReadFull(user, buf); string(buf[:n]) != "line\r\nline\r\n" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	c.end()
}

func TestFDListeningSocket(t *testing.T) {
	dir := t.TempDir()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(dir, "s")
			}
			ln, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			if u, ok := ln.(*net.UnixListener); ok {
				u.SetUnlinkOnClose(false)
			}
			f, err := ln.(interface{ File() (*os.File, error) }).File()
			if err != nil {
				t.Fatal(err)
			}
			address = ln.Addr().String()
			ln.Close() // the file keeps it
			c := newChild(t, "accept", "fd:3", f)
			c.start()
			peer, err := net.Dial(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			write(t, peer, "accepted")
			peer.(interface{ CloseWrite() error }).CloseWrite()
			if got := all(t, peer); got != "accepted" {
				t.Errorf("%q", got)
			}
			caps := c.end()
			if !strings.Contains(caps, "cutdetect") || strings.Contains(caps, "closeack") != (network == "tcp") {
				t.Errorf("caps %s", caps)
			}
			if network == "unix" {
				if _, err := os.Stat(address); err != nil {
					t.Errorf("the socket file is not ours to remove: %v", err)
				}
			}
		})
	}
}

// stdio: in a process of its own, where standard output may be broken: the
// process is told and not killed.
func init() {
	roles["broken"] = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), testBound)
		defer cancel()
		c, err := anysock.Dial(ctx, "stdio:")
		if err != nil {
			return err
		}
		for err == nil {
			_, err = c.WriteContext(ctx, make([]byte, 1<<16))
		}
		fmt.Fprintln(os.Stderr, err, errors.Is(err, syscall.EPIPE))
		if _, err := anysock.Dial(ctx, "stdio:"); err == nil {
			return errors.New("dialed twice")
		}
		if _, err := anysock.Dial(ctx, "fd:0"); err == nil {
			return errors.New("dialed twice, by number")
		}
		return c.Close()
	}
}

func TestStdioBrokenOutput(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files func(t *testing.T) (broken, peer *os.File)
	}{
		{"pipe", func(t *testing.T) (*os.File, *os.File) { r, w := blockingPipe(t); return w, r }},
		{"socket", socketPair},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			broken, peer := tt.files(t)
			peer.Close()
			c := newChild(t, "broken", "")
			c.cmd.Stdout = broken
			c.start(broken)
			_ = c.cmd.Wait() // its status is looked at below
			if got := c.stderr.String(); !strings.Contains(got, "true") || strings.Contains(got, "twice") {
				t.Errorf("the program said: %s", got)
			}
			if st := c.cmd.ProcessState.Sys().(syscall.WaitStatus); st.Signaled() {
				t.Errorf("killed by %s", st.Signal())
			}
		})
	}
}

func TestStdioEcho(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files func(t *testing.T) (theirs, ours [2]*os.File)
	}{
		{"pipes", func(t *testing.T) (theirs, ours [2]*os.File) {
			theirs[0], ours[1] = blockingPipe(t)
			ours[0], theirs[1] = blockingPipe(t)
			return
		}},
		{"one_socket", func(t *testing.T) (theirs, ours [2]*os.File) {
			a, b := socketPair(t)
			return [2]*os.File{a, a}, [2]*os.File{b, b}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			theirs, ours := tt.files(t)
			c := newChild(t, "echo", "stdio:")
			c.cmd.Stdin, c.cmd.Stdout = theirs[0], theirs[1]
			c.start(theirs[:]...)
			write(t, ours[1], "echo")
			if tt.name == "one_socket" {
				n, _ := number(ours[1])
				if err := syscall.Shutdown(n, syscall.SHUT_WR); err != nil {
					t.Fatal(err)
				}
			} else {
				ours[1].Close()
			}
			if got := all(t, ours[0]); got != "echo" {
				t.Errorf("%q", got)
			}
			c.end()
		})
	}
}

// inherit makes a descriptor look as if the process had been started with it.
func inherit(t *testing.T, f *os.File) int {
	t.Helper()
	n, ok := number(f)
	if !ok {
		t.Fatal("no descriptor")
	}
	m, err := syscall.Dup(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(m) })
	return m
}

func TestFDErrorsSayWhatItIs(t *testing.T) {
	open := func(name string, flag int) *os.File {
		f, err := os.OpenFile(name, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	socket := func(family, typ int) *os.File {
		n, err := syscall.Socket(family, typ|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(n), "socket")
		t.Cleanup(func() { f.Close() })
		return f
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listening := socket(syscall.AF_INET, syscall.SOCK_STREAM)
	n, _ := number(listening)
	if err := syscall.Listen(n, 1); err != nil {
		t.Fatal(err)
	}
	connected, _ := socketPair(t)
	r, w := blockingPipe(t)
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(epoll) })

	text := func(f *os.File) string { return strconv.Itoa(inherit(t, f)) }
	read, written := text(r), text(w)
	own, _ := number(r)
	for _, tt := range []struct{ name, address, dialed, listened string }{
		{"closed", "fd:999", "is not open", "is not open"},
		{"own", "fd:" + strconv.Itoa(own), "own, not inherited", "own, not inherited"},
		{"listening", "fd:" + text(listening), "is a listening socket|listen on", ""},
		{"unconnected", "fd:" + text(socket(syscall.AF_INET6, syscall.SOCK_STREAM)), "not connected", "not connected|listen(2)"},
		{"datagram", "fd:" + text(socket(syscall.AF_INET, syscall.SOCK_DGRAM)), "no stream socket", "no stream socket"},
		{"connected", "fd:" + text(connected), "", "is a connected socket|connect to"},
		{"read_end", "fd:" + read, "for reading only|?out=NUMBER", "is a pipe"},
		{"write_end", "fd:" + written, "for writing only|?out=" + written, "is a pipe"},
		{"pair_reversed", "fd:" + written + "?out=" + read, "for writing only", ""},
		{"out_closed", "fd:" + read + "?out=999", "descriptor 999 is not open", ""},
		{"out_directory", "fd:" + read + "?out=" + text(open("/", os.O_RDONLY)), "is a directory", ""},
		{"file", "fd:" + text(open(plain, os.O_RDWR)), "is a regular file|?out=", "is a regular file"},
		{"directory", "fd:" + text(open("/", os.O_RDONLY)), "is a directory", "is a directory"},
		{"epoll", "fd:" + strconv.Itoa(epoll), "no stream", "no stream"},
	} {
		if tt.dialed != "" {
			_, err := anysock.Dial(bounded(t), tt.address)
			says(t, tt.name+" dialed", err, tt.dialed)
		}
		if tt.listened != "" {
			_, err := anysock.Listen(bounded(t), tt.address)
			says(t, tt.name+" listened on", err, tt.listened)
		}
	}
}

// says wants all of the texts, separated by |, in the error and its hint.
func says(t *testing.T, what string, err error, texts string) {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, text := range strings.Split(texts, "|") {
		if !strings.Contains(e.Error()+" "+e.Hint, text) {
			t.Errorf("%s: %v (%s) does not say %q", what, e, e.Hint, text)
		}
	}
}

// A descriptor is taken once, whatever becomes of the stream.
func TestFDOnce(t *testing.T) {
	far, near := socketPair(t)
	n, err := syscall.Dup(mustNumber(t, near))
	if err != nil {
		t.Fatal(err)
	}
	near.Close()
	address := "fd:" + strconv.Itoa(n)
	c := dial(t, address)
	_, err = anysock.Dial(bounded(t), address)
	says(t, "again", err, "was taken already")
	c.Abort()
	_, err = anysock.Listen(bounded(t), address)
	says(t, "afterwards", err, "was taken already")
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer sees %v", err)
	}
	// The number goes back to the process, for other tests.
	inherited.mu.Lock()
	delete(inherited.taken, n)
	inherited.mu.Unlock()
}

func mustNumber(t *testing.T, f *os.File) int {
	t.Helper()
	n, ok := number(f)
	if !ok {
		t.Fatal("no descriptor")
	}
	return n
}

// A regular file is read and written as a stream with another for output.
func TestFDFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "in")
	if err := os.WriteFile(name, []byte("from a file"), 0o600); err != nil {
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
	c := newChild(t, "echo", "fd:3?out=4", in, out)
	began := time.Now()
	c.start()
	c.end()
	if took := time.Since(began); took > testBound/2 {
		t.Errorf("it took %s", took)
	}
	if got, err := os.ReadFile(out.Name()); string(got) != "from a file" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
