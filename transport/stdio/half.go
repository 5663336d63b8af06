// This file chooses how a descriptor is read or written so that deadlines
// work: by the runtime's poller where it can be waited for, by a goroutine
// elsewhere.
//
//	a socket                        adopted
//	already non-blocking            as it is
//	a pipe or a terminal (Linux)    opened anew, non-blocking: the descriptor
//	                                we inherited shares its blocking mode with
//	                                other processes, which must not change
//	a regular file, anything else   a goroutine reads or writes it

package stdio

import (
	"errors"
	"os"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// newInput takes over f for reading.
func newInput(f *os.File) input {
	if fd, ok := adoptSocket(f); ok {
		return fd
	}
	if f.SetReadDeadline(time.Time{}) == nil {
		return &fileHalf{File: f}
	}
	if g, ok := reopen(f, os.O_RDONLY); ok {
		return &fileHalf{File: g, origin: f}
	}
	return newPumpedInput(f)
}

// newOutput takes over f for writing.
func newOutput(f *os.File) output {
	if fd, ok := adoptSocket(f); ok {
		return socketOutput{fd}
	}
	if f.SetWriteDeadline(time.Time{}) == nil {
		return &fileHalf{File: f}
	}
	if g, ok := reopen(f, os.O_WRONLY); ok {
		return &fileHalf{File: g, origin: f}
	}
	return newPumpedOutput(f)
}

// A fileHalf is one direction on the runtime's poller.
type fileHalf struct {
	*os.File
	origin *os.File // what it was opened from, which keeps the other side open too; or nil
}

func (h *fileHalf) Close() error {
	err := h.File.Close()
	if h.origin != nil {
		err = errors.Join(err, h.origin.Close())
	}
	return err
}

// Unread is how many bytes are in the pipe.
func (h *fileHalf) Unread() (int, error) { return queued(h.File) }

// Unacked is how many bytes of ours are still in the pipe.
func (h *fileHalf) Unacked() (int, error) { return queued(h.File) }

// A socketOutput is a socket that is only written: closing our descriptor ends
// nothing as long as others have the socket too, so its end is a shutdown.
type socketOutput struct{ *sys.FD }

func (s socketOutput) Close() error {
	return errors.Join(s.CloseWrite(), s.FD.Close())
}

// number is the descriptor of f, valid as long as f is open. Unlike f.Fd it
// leaves the blocking mode alone.
func number(f *os.File) (int, bool) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, false
	}
	n := -1
	err = rc.Control(func(fd uintptr) { n = int(fd) })
	return n, err == nil && n >= 0
}
