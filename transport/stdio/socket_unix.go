//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

// This file takes over sockets that the process has inherited.

package stdio

import (
	"os"
	"syscall"

	"github.com/anysock/anysock/internal/sys"
)

// adoptSocket makes the stream socket behind f an FD. It takes over f, unless
// it is no such socket, which is false.
func adoptSocket(f *os.File) (*sys.FD, bool) {
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeSocket == 0 {
		return nil, false
	}
	n, ok := number(f)
	if !ok {
		return nil, false
	}
	m, err := duplicate(n)
	if err != nil {
		return nil, false
	}
	fd, err := sys.Adopt(m)
	if err != nil {
		syscall.Close(m)
		return nil, false
	}
	f.Close() // the copy is enough, and an abort must be the last one's close
	return fd, true
}

// duplicate copies descriptor n (dup(2)), closed on exec.
func duplicate(n int) (int, error) {
	// No program is started between the two calls.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	m, err := syscall.Dup(n)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(m)
	return m, nil
}

// copyOf copies a standard descriptor: package os ends the process when one of
// them turns out to be a broken pipe (see os/signal). False for any other.
func copyOf(f *os.File) (*os.File, bool) {
	n, ok := number(f)
	if !ok || n > syscall.Stderr {
		return nil, false
	}
	m, err := duplicate(n)
	if err != nil {
		return nil, false
	}
	return os.NewFile(uintptr(m), f.Name()), true
}

// sameSocket reports whether both are one socket.
func sameSocket(f, g *os.File) bool {
	fst, err := f.Stat()
	if err != nil || fst.Mode()&os.ModeSocket == 0 {
		return false
	}
	gst, err := g.Stat()
	return err == nil && os.SameFile(fst, gst)
}

// muteTo gives a standard descriptor that is the same socket as a stream's
// another meaning: nothing that is written to it may get between the bytes.
func muteTo(f *os.File, null *os.File) error {
	n, ok := number(f)
	if !ok {
		return os.ErrClosed
	}
	m, ok := number(null)
	if !ok {
		return os.ErrClosed
	}
	return dupTo(m, n)
}
