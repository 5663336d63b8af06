package anysock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// This file makes and removes socket files. A file that another server left
// behind is replaced only under a lock of its directory and only if nobody
// answers on it.

// DefaultUnixMode is the mode of a socket file: only its owner may connect.
const DefaultUnixMode = 0o600

// maxUnixPath is the longest path of a Unix socket: sun_path less its final
// NUL (unix(7)); 104 with the NUL on the BSDs and macOS.
const maxUnixPath = 107

func parseUnixPath(path string) (sys.Addr, error) {
	switch {
	case path == "" || path == "@":
		return sys.Addr{}, badAddress(errors.New("a Unix socket needs a path, or @ and a name"))
	case len(path) > maxUnixPath:
		return sys.Addr{}, badAddress(fmt.Errorf("a Unix socket's path has at most %d bytes, this one %d: use a shorter directory", maxUnixPath, len(path)))
	case strings.ContainsRune(path, 0):
		return sys.Addr{}, badAddress(errors.New("a Unix socket's path has no NUL; an abstract name begins with @"))
	}
	return sys.UnixAddr(path), nil
}

// youngFile is how long a socket file that nobody answers on is given before
// it counts as left behind: its maker may be between bind and listen.
const youngFile = 250 * time.Millisecond

// A unixPath is a socket file of ours; nil is none.
type unixPath struct {
	name   string
	mode   uint32
	info   fs.FileInfo // nil where only listening makes the file
	unlock func()      // releases the lock of the directory; nil once it is released
}

// release lets others make sockets in the directory.
func (p *unixPath) release() {
	if p != nil && p.unlock != nil {
		p.unlock()
		p.unlock = nil
	}
}

// remove unlinks the file if it is still the one we made.
func (p *unixPath) remove() {
	if p == nil {
		return
	}
	defer p.release()
	if p.info == nil {
		return
	}
	if now, err := os.Lstat(p.name); err == nil && os.SameFile(now, p.info) {
		os.Remove(p.name)
	}
}

// bindUnix binds s to path and returns the file it made, with its directory
// still locked.
func bindUnix(s *sys.Socket, path string, mode *uint32) (*unixPath, error) {
	if path[0] == '@' {
		return nil, s.Bind(sys.UnixAddr(path))
	}
	m := uint32(DefaultUnixMode)
	if mode != nil {
		m = *mode
	}
	unlock, err := sys.LockDir(filepath.Dir(path))
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		unlock = func() {}
	case err != nil:
		return nil, err
	}
	p, err := makeSocketFile(s, path, m)
	if err != nil {
		unlock()
		return nil, err
	}
	p.unlock = unlock
	return p, nil
}

// makeSocketFile binds in a locked directory.
func makeSocketFile(s *sys.Socket, path string, mode uint32) (*unixPath, error) {
	// The mode goes on the descriptor first, so that the file is never more
	// open than asked for (docs/notes/unix-endings).
	if err := s.SetMode(mode); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	err := s.Bind(sys.UnixAddr(path))
	if sys.ClassOf(err) == sys.InUse {
		if rerr := removeStale(path); rerr != nil {
			return nil, rerr
		}
		err = s.Bind(sys.UnixAddr(path))
	}
	if err != nil {
		return nil, err
	}
	p := &unixPath{name: path, mode: mode}
	if err := p.learn(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.remove()
		return nil, err
	}
	return p, nil
}

// learn finds out which file is ours and puts its mode right: the umask may
// have taken a bit that was asked for.
func (p *unixPath) learn() error {
	info, err := os.Lstat(p.name)
	if err != nil {
		return err
	}
	p.info = info
	if uint32(info.Mode().Perm()) != p.mode && runtime.GOOS != "windows" {
		return os.Chmod(p.name, fs.FileMode(p.mode))
	}
	return nil
}

// listening is told that listen has succeeded: where package net is below,
// the file is there only now.
func (p *unixPath) listening() {
	if p == nil {
		return
	}
	if p.info == nil {
		_ = p.learn() // without it the file is not removed at Close
	}
	p.release()
}

// removeStale removes the socket at path if nobody answers on it. The error
// is what stands in the way otherwise.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return &causeError{KindInUse, fmt.Errorf("%s exists and is no socket", path)}
	}
	for {
		refused, err := nobodyAnswers(path)
		if err != nil {
			return err
		}
		if !refused {
			return &causeError{KindInUse, fmt.Errorf("another server answers on %s", path)}
		}
		age := time.Since(info.ModTime())
		if age >= youngFile || age < 0 {
			return os.Remove(path)
		}
		<-time.After(youngFile - age)
	}
}

// nobodyAnswers: connected, a full queue (EAGAIN), or no permission to try mean
// that somebody does.
func nobodyAnswers(path string) (bool, error) {
	probe, err := sys.Open(sys.Unix)
	if err != nil {
		return false, err
	}
	defer probe.Close()
	fd, err := probe.Connect(sys.UnixAddr(path))
	if err == nil {
		fd.Close()
	}
	return sys.ClassOf(err) == sys.Refused, nil
}
