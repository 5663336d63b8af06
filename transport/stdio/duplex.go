// This file holds the stream of two descriptors, one for each direction.

package stdio

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// pipeCaps is what two pipes can do: each direction ends by itself, an end is
// all there is, and nobody says what was read.
const pipeCaps = anysock.CapHalfClose | anysock.CapDeadline

// An input is the descriptor that a stream reads. One call of Read is at work
// at a time.
type input interface {
	Read(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	Unread() (int, error) // bytes that wait to be read
	Close() error
}

// An output is the descriptor that a stream writes. One call of Write is at
// work at a time.
type output interface {
	Write(p []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	Unacked() (int, error) // bytes that the other side has not read
	Close() error          // end of file for the other side, behind what was written
}

// An addr describes one end for messages.
type addr struct{ network, name string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.name }

// A duplex is a stream of an input and an output. Its methods mean what those
// of anysock.Conn do; those that pipes lack are missing.
type duplex struct {
	in            input
	out           output
	local, remote addr

	ended  atomic.Bool // our direction: the output is closed
	endErr error       // of closing it, set by endOnce
	once   struct{ end, close sync.Once }
	closed chan struct{}
}

func newDuplex(in input, out output, local, remote addr) *duplex {
	return &duplex{in: in, out: out, local: local, remote: remote, closed: make(chan struct{})}
}

// Caps is pipeCaps, and more where a goroutine writes: it knows when the
// kernel has taken our bytes.
func (d *duplex) Caps() anysock.Caps {
	if _, ok := d.out.(flusher); ok {
		return pipeCaps | anysock.CapCloseAck
	}
	return pipeCaps
}

// A flusher is an output that takes bytes before the kernel does.
type flusher interface {
	waitFlushed() error // until the kernel has them; bounded by the write deadline
	drop()              // closes without regard to them
}

// WaitAcked waits until the kernel has our bytes.
func (d *duplex) WaitAcked() error {
	if out, ok := d.out.(flusher); ok {
		return carrierError(out.waitFlushed())
	}
	return errors.ErrUnsupported
}

// LocalAddr describes this process.
func (d *duplex) LocalAddr() net.Addr { return d.local }

// RemoteAddr describes the descriptors.
func (d *duplex) RemoteAddr() net.Addr { return d.remote }

func (d *duplex) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := d.in.Read(p)
	return n, carrierError(err)
}

func (d *duplex) Write(p []byte) (int, error) {
	n, err := d.out.Write(p)
	return n, carrierError(err)
}

// CloseWrite closes the output.
func (d *duplex) CloseWrite() error {
	d.once.end.Do(func() {
		d.ended.Store(true)
		d.endErr = carrierError(d.out.Close())
	})
	return d.endErr
}

// Close closes both. The error is that of an output which was still open: what
// was written to a file may fail to be stored at the very end.
func (d *duplex) Close() error {
	var err error
	d.once.close.Do(func() {
		close(d.closed)
		fresh := !d.ended.Load()
		if err = d.CloseWrite(); !fresh {
			err = nil
		}
		_ = d.in.Close()
	})
	return err
}

// Abort closes both at once. The other side cannot tell it from an end, so the
// error is always errors.ErrUnsupported.
func (d *duplex) Abort() error {
	if out, ok := d.out.(flusher); ok {
		out.drop()
	}
	_ = d.Close()
	return errors.ErrUnsupported
}

// Unread is how many bytes wait to be read, where that is known.
func (d *duplex) Unread() (int, error) { return d.in.Unread() }

// Unacked is how many of our bytes the other side has not read, where that is
// known: after our end only that some were not even taken.
func (d *duplex) Unacked() (int, error) {
	n, err := d.out.Unacked()
	if err != nil {
		return 0, errors.ErrUnsupported
	}
	return n, nil
}

// SetDeadline sets both.
func (d *duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.SetReadDeadline(t), d.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read, a pending one too.
func (d *duplex) SetReadDeadline(t time.Time) error { return carrierError(d.in.SetReadDeadline(t)) }

// SetWriteDeadline bounds Write, a pending one too, which returns its count.
// After our end there is nothing left to bound.
func (d *duplex) SetWriteDeadline(t time.Time) error {
	err := d.out.SetWriteDeadline(t)
	if d.ended.Load() && !isClosed(d.closed) {
		return nil
	}
	return carrierError(err)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// carrierError is what a descriptor reported, without the name that package os
// gives it.
func carrierError(err error) error {
	var path *fs.PathError
	switch {
	case err == nil, err == io.EOF: //nolint:errorlint // io.EOF comes bare
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.As(err, &path):
		return path.Err
	}
	return err
}
