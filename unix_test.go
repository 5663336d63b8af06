package anysock_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/internal/testproc"
)

// This file holds the tests of socket files: whose they are, who may use them,
// and what may be replaced.

// staleSocket leaves a socket file behind on which nobody answers, old enough
// to be nobody's who is about to listen.
func staleSocket(t testing.TB, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, "listen", err)
	ln.SetUnlinkOnClose(false)
	must(t, "close", ln.Close())
	old := time.Now().Add(-time.Hour)
	must(t, "age", os.Chtimes(path, old, old))
}

func modeOf(t testing.TB, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, "stat", err)
	return info.Mode()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestUnixRoundTrip: names are what they were made with, at both ends.
func TestUnixRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a socket, with %2C")
	ln, err := (&anysock.ListenConfig{}).ListenAddress(soon(t), mustAddress(t, path))
	must(t, "listen", err)
	defer ln.Close()
	c, err := new(anysock.Dialer).DialAddress(soon(t), mustAddress(t, path))
	must(t, "dial", err)
	defer func() { _ = c.Abort() }()
	peer := mustAccept(t, ln)
	for _, a := range []net.Addr{ln.Addr(), c.RemoteAddr(), peer.LocalAddr()} {
		if a.Network() != "unix" || a.String() != path {
			t.Errorf("the name is %s %q, want %q", a.Network(), a, path)
		}
	}
	if c.Caps().Has(anysock.CapAbort) || c.Caps().Has(anysock.CapCloseAck) {
		t.Errorf("unix claims %v", c.Caps())
	}
}

// mustAddress is the address of a path with characters of the grammar in it.
func mustAddress(t testing.TB, path string) anysock.Address {
	t.Helper()
	r := strings.NewReplacer("%", "%25", ",", "%2C", " ", "%20", "#", "%23", "?", "%3F")
	a, err := anysock.ParseAddress("unix:" + r.Replace(path))
	must(t, "parse", err)
	return a
}

// TestUnixMode: the file has the mode that was asked for, 0600 otherwise,
// whatever the umask.
func TestUnixMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes here")
	}
	for _, umask := range []int{0, 0o022, 0o777} {
		for _, tt := range []struct {
			query string
			lc    anysock.ListenConfig
			want  fs.FileMode
		}{
			{"", anysock.ListenConfig{}, 0o600},
			{"?mode=0660", anysock.ListenConfig{}, 0o660},
			{"?mode=666", anysock.ListenConfig{}, 0o666},
			{"", anysock.ListenConfig{Mode: 0o770}, 0o770},
			{"?mode=0600", anysock.ListenConfig{Mode: 0o777}, 0o600},
		} {
			path := filepath.Join(t.TempDir(), "s")
			restore := setUmask(umask)
			ln, err := tt.lc.Listen(soon(t), "unix:"+path+tt.query)
			restore()
			must(t, "listen", err)
			if got := modeOf(t, path); got != fs.ModeSocket|tt.want {
				t.Errorf("umask %03o, mode %q, field %03o: the file is %v, want %v", umask, tt.query, tt.lc.Mode, got, tt.want)
			}
			ln.Close()
		}
	}
	// The same by the classical calls.
	path := filepath.Join(t.TempDir(), "s")
	s := mustSocket(t, "unix")
	must(t, "mode", s.SetMode(0o640))
	must(t, "bind", s.Bind(path))
	if got := modeOf(t, path).Perm(); got != 0o640 {
		t.Errorf("the file is %v", got)
	}
	must(t, "close", s.Close())
	if exists(path) {
		t.Error("Close of a bound socket leaves its file")
	}
}

// TestUnixStaleFileIsReplaced: a file that a server left behind is no obstacle.
func TestUnixStaleFileIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	staleSocket(t, path)
	ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
	mustDial(t, &anysock.Dialer{}, "unix:"+path)
	mustAccept(t, ln)
	must(t, "close", ln.Close())
	if exists(path) {
		t.Error("Close leaves the file")
	}
	// A young one is waited for: its server may be about to listen.
	staleSocket(t, path)
	must(t, "touch", os.Chtimes(path, time.Time{}, time.Now()))
	start := time.Now()
	mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
	if took := time.Since(start); took > tooLong/2 {
		t.Errorf("replacing a young file took %s", took)
	}
	// By the classical calls.
	other := filepath.Join(t.TempDir(), "o")
	staleSocket(t, other)
	s := mustSocket(t, "unix")
	must(t, "bind", s.Bind(other))
	second, err := s.Listen(1)
	must(t, "listen", err)
	defer second.Close()
	mustDial(t, &anysock.Dialer{}, "unix:"+other)
}

// TestUnixLiveServerIsRefused: a server that answers, or whose queue is full
// (EAGAIN), or that may not be asked, is alive; its file stays.
func TestUnixLiveServerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := mustListen(t, &anysock.ListenConfig{Backlog: 1}, "unix:"+path)
	refused := func(what string) {
		t.Helper()
		other, err := anysock.Listen(soon(t), "unix:"+path)
		if err == nil {
			other.Close()
			t.Fatalf("%s: a second server took the path", what)
		}
		e := errorOfKind(t, what, err, anysock.KindInUse)
		if e.Hint == "" || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, hint %q", what, err, e.Hint)
		}
	}
	refused("an idle server")
	_ = mustAccept(t, ln).Abort() // the question whether somebody answers
	for range 2 {
		mustDial(t, &anysock.Dialer{}, "unix:"+path)
	}
	refused("a server with a full queue")
	if runtime.GOOS != "windows" {
		restore := sys.Inject(func(call sys.Call, _ int) error {
			if call == sys.CallConnect {
				return syscall.EACCES
			}
			return nil
		})
		refused("a server that may not be asked")
		restore()
	}
	mustAccept(t, ln)
	mustDial(t, &anysock.Dialer{}, "unix:"+path)
}

// TestUnixOtherFilesSurvive: what is no socket is never removed.
func TestUnixOtherFilesSurvive(t *testing.T) {
	dir := t.TempDir()
	regular := filepath.Join(dir, "regular")
	must(t, "write", os.WriteFile(regular, []byte("precious"), 0o600))
	sub := filepath.Join(dir, "sub")
	must(t, "mkdir", os.Mkdir(sub, 0o700))
	stale := filepath.Join(dir, "stale")
	staleSocket(t, stale)
	link := filepath.Join(dir, "link")
	must(t, "symlink", os.Symlink(stale, link))
	dangling := filepath.Join(dir, "dangling")
	must(t, "symlink", os.Symlink(filepath.Join(dir, "nowhere"), dangling))
	for _, path := range []string{regular, sub, link, dangling} {
		ln, err := anysock.Listen(soon(t), "unix:"+path)
		if err == nil {
			ln.Close()
			t.Errorf("listening on %s", path)
			continue
		}
		wantErrorKind(t, path, err, anysock.KindInUse)
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
	if b, err := os.ReadFile(regular); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if !exists(stale) {
		t.Error("the target of a link is gone")
	}
	// No directory, no right to it.
	_, err := anysock.Listen(soon(t), "unix:"+filepath.Join(dir, "no", "s"))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

// TestUnixCloseRemovesOnlyItsOwn: a file that somebody else put in the place
// of ours stays when we close.
func TestUnixCloseRemovesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	for name, replace := range map[string]func(t *testing.T, path string){
		"another server": func(t *testing.T, path string) {
			other, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			must(t, "listen", err)
			other.SetUnlinkOnClose(false)
			t.Cleanup(func() { other.Close() })
		},
		"a regular file": func(t *testing.T, path string) {
			must(t, "write", os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name[:4])
			ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+strings.ReplaceAll(path, " ", "%20"))
			must(t, "remove", os.Remove(path))
			replace(t, path)
			must(t, "close", ln.Close())
			if !exists(path) {
				t.Error("Close removed a file that was not its own")
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		path := filepath.Join(dir, "gone")
		ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
		must(t, "remove", os.Remove(path))
		must(t, "close", ln.Close())
	})
	t.Run("drain", func(t *testing.T) {
		path := filepath.Join(dir, "drain")
		ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
		_, err := ln.Drain()
		must(t, "drain", err)
		if exists(path) {
			t.Error("Drain leaves the file")
		}
	})
}

// TestUnixRaceForStalePath: of many servers that find the same stale file
// exactly one gets the path, and it can be reached.
func TestUnixRaceForStalePath(t *testing.T) {
	const servers, rounds = 8, 20
	for round := range rounds {
		path := filepath.Join(t.TempDir(), fmt.Sprint("s", round))
		staleSocket(t, path)
		start := make(chan struct{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []*anysock.Listener
		for range servers {
			wg.Go(func() {
				<-start
				ln, err := anysock.Listen(t.Context(), "unix:"+path)
				if err != nil {
					wantErrorKind(t, "a loser", err, anysock.KindInUse)
					return
				}
				mu.Lock()
				winners = append(winners, ln)
				mu.Unlock()
			})
		}
		close(start)
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d servers have the path", len(winners))
		}
		c := mustDial(t, &anysock.Dialer{}, "unix:"+path)
		if _, err := c.Write([]byte("you?")); err != nil {
			t.Fatal(err)
		}
		// The losers' questions are in the queue, too.
		for got := ""; got != "you?"; {
			peer := mustAccept(t, winners[0])
			b := make([]byte, 4)
			n, _ := peer.ReadAtLeast(soon(t), b, 4)
			got = string(b[:n])
		}
		must(t, "close", winners[0].Close())
	}
}

// TestUnixRaceBetweenBindAndListen: a server that has bound and not yet
// listened is not taken for dead.
func TestUnixRaceBetweenBindAndListen(t *testing.T) {
	for _, classical := range []bool{false, true} {
		t.Run(fmt.Sprintf("classical=%v", classical), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			second := make(chan error, 1)
			var first atomic.Bool
			first.Store(true)
			restore := sys.Inject(func(call sys.Call, _ int) error {
				if call != sys.CallListen || !first.Swap(false) {
					return nil
				}
				// The first server is about to listen: here comes the second.
				go func() {
					ln, err := anysock.Listen(t.Context(), "unix:"+path)
					if err == nil {
						ln.Close()
					}
					second <- err
				}()
				select {
				case err := <-second: // it did not wait
					second <- err
				case <-time.After(50 * time.Millisecond):
				}
				return nil
			})
			defer restore()
			var ln *anysock.Listener
			var err error
			if classical {
				s := mustSocket(t, "unix")
				must(t, "bind", s.Bind(path))
				ln, err = s.Listen(10)
			} else {
				ln, err = anysock.Listen(soon(t), "unix:"+path)
			}
			must(t, "the first server", err)
			defer ln.Close()
			wantErrorKind(t, "the second server", await(t, "the second server", second), anysock.KindInUse)
			if !exists(path) {
				t.Error("the first server's file is gone")
			}
		})
	}
}

// TestUnixRaceOfProcesses is the race for a stale path between processes.
func TestUnixRaceOfProcesses(t *testing.T) {
	needOwnSockets(t, "has no lock of a directory between processes")
	path := filepath.Join(t.TempDir(), "s")
	staleSocket(t, path)
	const servers = 4
	var children []*testproc.Child
	for range servers {
		children = append(children, testproc.Start(t, "unix-racer", "LISTEN=unix:"+path))
	}
	for _, c := range children {
		if s := c.Line(); s != "ready" {
			t.Fatalf("a server says %q", s)
		}
	}
	for _, c := range children {
		c.Tell("go")
	}
	won, lost := 0, 0
	for _, c := range children {
		switch s := c.Line(); s {
		case "listening":
			won++
		case "in-use":
			lost++
		default:
			t.Errorf("a server says %q", s)
		}
	}
	if won != 1 || lost != servers-1 {
		t.Errorf("%d servers won and %d lost", won, lost)
	}
	mustDial(t, &anysock.Dialer{}, "unix:"+path)
	for _, c := range children {
		c.Tell("bye")
	}
	for _, c := range children {
		if s := c.Line(); s != "bye" {
			t.Errorf("a server says %q", s)
		}
	}
	if exists(path) {
		t.Error("the file is left behind")
	}
}

// TestUnixAbstract: an abstract name is no file, is gone with its listener,
// and is refused while it is taken.
func TestUnixAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no abstract names here")
	}
	name := fmt.Sprintf("@anysock-abstract-%d", os.Getpid())
	ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+name)
	if got := ln.Addr().String(); got != name {
		t.Errorf("the name is %q, want %q", got, name)
	}
	if exists(name) {
		t.Error("there is a file")
	}
	_, err := anysock.Listen(soon(t), "unix:"+name)
	wantErrorKind(t, "a second server", err, anysock.KindInUse)
	c := mustDial(t, &anysock.Dialer{}, "unix:"+name)
	peer := mustAccept(t, ln)
	if c.RemoteAddr().String() != name || peer.LocalAddr().String() != name {
		t.Errorf("the names are %v and %v", c.RemoteAddr(), peer.LocalAddr())
	}
	must(t, "close", ln.Close())
	_, err = anysock.Dial(soon(t), "unix:"+name)
	wantErrorKind(t, "after close", err, anysock.KindRefused)
	again := mustListen(t, &anysock.ListenConfig{}, "unix:"+name)
	must(t, "close", again.Close())
}

// TestUnixPathLength: the longest path works, one byte more is an error that
// says so before anything is made.
func TestUnixPathLength(t *testing.T) {
	dir := t.TempDir()
	const longest = 107
	path := dir + "/" + strings.Repeat("x", longest-len(dir)-1)
	ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
	mustDial(t, &anysock.Dialer{}, "unix:"+path)
	mustAccept(t, ln)
	for _, f := range []func(string) error{
		func(a string) error { _, err := anysock.Listen(soon(t), a); return err },
		func(a string) error { _, err := anysock.Dial(soon(t), a); return err },
	} {
		err := f("unix:" + path + "x")
		wantErrorKind(t, "one byte more", err, anysock.KindAddress)
		if !strings.Contains(err.Error(), "107") || !strings.Contains(err.Error(), "108") {
			t.Errorf("%q does not name the lengths", err)
		}
	}
}

// TestUnixClientName: a client may have a name, too.
func TestUnixClientName(t *testing.T) {
	dir := t.TempDir()
	ln := mustListen(t, &anysock.ListenConfig{}, "unix:"+dir+"/s")
	name := dir + "/client"
	s := mustSocket(t, "unix")
	must(t, "bind", s.Bind(name))
	_, err := s.Connect(soon(t), dir+"/none")
	wantErrorKind(t, "connect to nobody", err, anysock.KindRefused)
	c, err := s.Connect(soon(t), dir+"/s")
	must(t, "connect", err)
	defer func() { _ = c.Abort() }()
	if got := mustAccept(t, ln).RemoteAddr().String(); got != name {
		t.Errorf("the server sees %q, want %q", got, name)
	}
}
