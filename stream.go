package anysock

import (
	"errors"
	"net"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// A stream is what a Conn drives: one connected byte stream of some
// transport. Close releases it at once. Calls for what the transport lacks
// return errors.ErrUnsupported; the Caps declared with the stream say which.
//
// A transport hands over a net.Conn, and these are the optional methods it
// may have; the ones it lacks are filled in by foreignStream. There are some
// more, which are asked for where they matter:
//
//	Caps() Caps                  what this very stream can do
//	AckedBy() Ack                who acknowledges, if not the next hop's kernel
//	Failed() <-chan struct{}     closed when the stream was reset or cut
//	AbortAs(How, error) error    Abort, for a stream that can tell the peer why
//	Below() *Conn                the connection that carries the stream, of a layer: it is
//	                             looked at to notice a failure without reading
//	WaitPeer() error             waits, bounded by the read deadline, until the other
//	                             side is known to be done; an error is an abort
type stream interface {
	net.Conn
	CloseWrite() error     // end our direction
	CloseRead() error      // ignore theirs
	Abort() error          // release at once; the peer sees a reset where CapAbort is declared
	Unacked() (int, error) // bytes not acknowledged, plus one for our end
	WaitAcked() error      // until Unacked is 0; bounded by the write deadline
	Unread() (int, error)  // bytes that wait to be read
	TakeError() error      // the pending error that only closing would discard
}

// A kernelStream is a connected kernel socket: tcp and unix.
type kernelStream struct{ *sys.FD }

var _ stream = (*kernelStream)(nil)

func newKernelStream(fd *sys.FD) *kernelStream {
	return &kernelStream{fd}
}

// LocalAddr is a *net.TCPAddr or *net.UnixAddr.
func (s *kernelStream) LocalAddr() net.Addr { return s.FD.LocalAddr().Net() }

// RemoteAddr is a *net.TCPAddr or *net.UnixAddr.
func (s *kernelStream) RemoteAddr() net.Addr { return s.PeerAddr().Net() }

// SetDeadline sets both.
func (s *kernelStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// kernelCaps is what a kernel socket of this family can do here. On vsock a
// reset of a connected stream reads as its end, and so may a cut (Linux,
// virtio_transport_common.c: virtio_transport_do_close): see transport/vsock.
func kernelCaps(f sys.Family) Caps {
	c := CapHalfClose | CapDeadline
	if f == sys.Vsock {
		return c
	}
	c |= CapCutDetect
	if f.Inet() {
		c |= CapAbort | CapBindSource
		if acksKnown {
			c |= CapCloseAck
		}
	}
	return c
}

// A foreignStream gives a net.Conn of unknown make the methods it lacks.
type foreignStream struct{ net.Conn }

var _ stream = foreignStream{}

func (s foreignStream) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (s foreignStream) CloseRead() error {
	if c, ok := s.Conn.(interface{ CloseRead() error }); ok {
		return c.CloseRead()
	}
	return errors.ErrUnsupported
}

func (s foreignStream) Abort() error {
	if c, ok := s.Conn.(interface{ Abort() error }); ok {
		return c.Abort()
	}
	return errors.Join(s.Conn.Close(), errors.ErrUnsupported)
}

func (s foreignStream) Unacked() (int, error) {
	if c, ok := s.Conn.(interface{ Unacked() (int, error) }); ok {
		return c.Unacked()
	}
	return 0, errors.ErrUnsupported
}

func (s foreignStream) WaitAcked() error {
	if c, ok := s.Conn.(interface{ WaitAcked() error }); ok {
		return c.WaitAcked()
	}
	return errors.ErrUnsupported
}

func (s foreignStream) Unread() (int, error) {
	if c, ok := s.Conn.(interface{ Unread() (int, error) }); ok {
		return c.Unread()
	}
	return 0, errors.ErrUnsupported
}

func (s foreignStream) TakeError() error {
	if c, ok := s.Conn.(interface{ TakeError() error }); ok {
		return c.TakeError()
	}
	return nil
}

// caps finds out what a foreign connection can do from the methods it has. A
// net.Conn promises deadlines; nothing promises that a cut is an error.
func (s foreignStream) caps() Caps {
	if c, ok := s.Conn.(interface{ Caps() Caps }); ok {
		return c.Caps()
	}
	c := CapDeadline
	if _, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		c |= CapHalfClose
	}
	if _, ok := s.Conn.(interface{ Abort() error }); ok {
		c |= CapAbort
	}
	if _, ok := s.Conn.(interface{ WaitAcked() error }); ok {
		c |= CapCloseAck
	}
	return c
}

// A kernelSocket is what a transport of this module hands over when its stream
// or its listener is a kernel socket; internal/sys is ours alone.
type kernelSocket interface{ Kernel() *sys.FD }

// optionally asserts that a stream, or the net.Conn it stands for, has an
// optional method.
func optionally[T any](s stream) (T, bool) {
	if m, ok := s.(T); ok {
		return m, true
	}
	if f, ok := s.(foreignStream); ok {
		m, ok := f.Conn.(T)
		return m, ok
	}
	var none T
	return none, false
}

// capsFor is what a stream can do: what it says itself, if it does, goes
// before what its scheme declares.
func capsFor(s stream, declared Caps) Caps {
	if k, ok := s.(*kernelStream); ok {
		return kernelCaps(k.Family())
	}
	if c, ok := optionally[interface{ Caps() Caps }](s); ok {
		return c.Caps()
	}
	return declared
}

// asStream finds the best driver for a transport's net.Conn.
func asStream(nc net.Conn) stream {
	if k, ok := nc.(kernelSocket); ok {
		return newKernelStream(k.Kernel())
	}
	if s, ok := nc.(stream); ok {
		return s
	}
	switch c := nc.(type) {
	case *net.TCPConn:
		if fd, err := sys.FromConn(c); err == nil {
			return newKernelStream(fd)
		}
	case *net.UnixConn:
		if fd, err := sys.FromConn(c); err == nil {
			return newKernelStream(fd)
		}
	}
	return foreignStream{nc}
}
