//go:build (linux || darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const errAgain = unix.EAGAIN

// maxSend bounds one send(2), so that a huge Write meets its deadline
// between calls.
const maxSend = 1 << 30

// An FD is a kernel socket that is connecting, connected or listening.
//
// At most one goroutine may be in a receiving call (Read, Peek, Accept, a
// splice from it) and one in a sending call (Write, Writev, a splice to it,
// FinishConnect, WaitAcked) at a time; the caller takes turns. Everything else is safe
// for concurrent use. Close wakes both sides; the descriptor is released
// when the last call has returned.
type FD struct {
	file   handle
	rc     syscall.RawConn
	num    int32 // for the switch and for messages; never used for a call after Close
	closed atomic.Bool
	local  Addr
	peer   Addr
	family Family
	opts   map[Option]int // a listener's, that accepted sockets do not inherit

	// receiving side
	rflags int32
	rbuf   []byte
	rn     int
	rerr   error
	readFn func(uintptr) bool

	// sending side
	wbuf    []byte
	wn      int
	werr    error
	writeFn func(uintptr) bool
}

// A handle is what keeps the descriptor on the runtime's poller: an *os.File,
// or a connection of package net.
type handle interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
}

// newFD hands the non-blocking descriptor n over to the runtime's poller.
func newFD(n int, family Family) (*FD, error) {
	f := os.NewFile(uintptr(n), "socket")
	if f == nil {
		return nil, unix.EBADF
	}
	rc, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	fd := &FD{file: f, rc: rc, num: int32(n), family: family}
	fd.readFn = fd.readReady
	fd.writeFn = fd.writeReady
	return fd, nil
}

// Adopt takes over the connected or listening stream socket with descriptor
// number n, which becomes non-blocking. On an error n is left open.
func Adopt(n int) (*FD, error) {
	typ, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if typ != unix.SOCK_STREAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	sa, err := unix.Getsockname(n)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	local, err := fromSockaddr(sa)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(n, true); err != nil {
		return nil, os.NewSyscallError("setnonblock", err)
	}
	unix.CloseOnExec(n)
	fd, err := newFD(n, local.Family)
	if err != nil {
		return nil, err
	}
	fd.local = local
	if peer, err := unix.Getpeername(n); err == nil {
		fd.peer, _ = fromSockaddr(peer)
	}
	return fd, nil
}

// FromConn builds an FD on a connected stream socket of package net, which
// stays its owner's handle: closing the FD closes it, and it must not be used
// otherwise.
func FromConn(c interface {
	handle
	syscall.Conn
},
) (*FD, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := &FD{file: c, rc: rc, num: -1}
	if err := fd.control(func(n int) error {
		fd.num = int32(n)
		return nil
	}); err != nil {
		return nil, err
	}
	if err := fd.learnLocal(); err != nil {
		return nil, err
	}
	if err := fd.learnPeer(); err != nil {
		return nil, err
	}
	fd.family = fd.local.Family
	fd.readFn = fd.readReady
	fd.writeFn = fd.writeReady
	return fd, nil
}

// Num is the descriptor's number, for messages and for the switch. It may
// have been reused once Close was called.
func (fd *FD) Num() int { return int(fd.num) }

// Family is the protocol family.
func (fd *FD) Family() Family { return fd.family }

// LocalAddr is the bound address; it stays readable after Close.
func (fd *FD) LocalAddr() Addr { return fd.local }

// PeerAddr is the connected address; it stays readable after Close.
func (fd *FD) PeerAddr() Addr { return fd.peer }

// SyscallConn gives access to the descriptor for calls this package lacks. A
// waiting RawConn.Read holds up a Read of the FD (docs/notes/rawconn-wait).
func (fd *FD) SyscallConn() syscall.RawConn { return fd.rc }

// SetReadDeadline bounds the receiving calls, pending ones included; zero is
// no bound. A call past its deadline returns os.ErrDeadlineExceeded with the
// bytes it had moved.
func (fd *FD) SetReadDeadline(t time.Time) error { return fd.fileError(fd.file.SetReadDeadline(t)) }

// SetWriteDeadline bounds the sending calls in the same way.
func (fd *FD) SetWriteDeadline(t time.Time) error { return fd.fileError(fd.file.SetWriteDeadline(t)) }

// Close releases the descriptor; what the kernel still holds it goes on
// sending, unless unread data or Abort's linger turns the close into a reset.
// Pending calls return net.ErrClosed. A second Close does nothing.
func (fd *FD) Close() error {
	if fd.closed.Swap(true) {
		return nil
	}
	return fd.fileError(fd.file.Close())
}

// DiscardOnClose makes the next Close discard what is unsent: SO_LINGER at
// zero. On TCP the peer then sees a reset (socket(7), RFC 9293 section
// 3.10.5); on a Unix socket it changes nothing.
// Where the kernel refuses the option, the connection is reset at once.
func (fd *FD) DiscardOnClose() error { return fd.control(discardOnClose) }

func discardOnClose(n int) error {
	err := check(CallSetsockopt, n)
	if err == nil {
		err = unix.SetsockoptLinger(n, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	}
	if err != nil && resetNow(n) {
		return nil // closing would have been an end of file
	}
	return err
}

// Abort is DiscardOnClose and Close.
func (fd *FD) Abort() error {
	if fd.closed.Load() {
		return nil
	}
	return errors.Join(fd.DiscardOnClose(), fd.Close())
}

// control runs f with the descriptor held open.
func (fd *FD) control(f func(n int) error) error {
	var err error
	if cerr := fd.rc.Control(func(n uintptr) { err = f(int(n)) }); cerr != nil {
		return fd.fileError(cerr)
	}
	return err
}

// fileError maps what package os reports about a closed file or a passed
// deadline; anything else keeps its errno.
func (fd *FD) fileError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case fd.closed.Load():
		return net.ErrClosed
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// Read receives what is there, at most len(p) bytes, waiting for the first.
// At the peer's end it returns io.EOF. An empty p returns at once.
func (fd *FD) Read(p []byte) (int, error) { return fd.receive(p, 0) }

// Peek is Read that leaves the bytes in the socket (MSG_PEEK, recv(2)).
func (fd *FD) Peek(p []byte) (int, error) { return fd.receive(p, unix.MSG_PEEK) }

func (fd *FD) receive(p []byte, flags int) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	fd.rbuf, fd.rflags, fd.rn, fd.rerr = p, int32(flags), 0, nil
	err := fd.rc.Read(fd.readFn)
	n, rerr := fd.rn, fd.rerr
	fd.rbuf = nil
	if err != nil {
		return 0, fd.fileError(err)
	}
	if rerr != nil {
		return 0, rerr
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readReady is one attempt of Read; false waits for readiness.
func (fd *FD) readReady(uintptr) bool {
	call := CallRecv
	if fd.rflags&unix.MSG_PEEK != 0 {
		call = CallPeek
	}
	for {
		n, err := -1, check(call, fd.Num())
		if err == nil {
			n, err = recv(fd.Num(), fd.rbuf, int(fd.rflags))
		}
		switch err {
		case nil:
			fd.rn = n
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
			continue
		default:
			fd.rerr = err
			return true
		}
	}
}

// Write sends all of p. When it returns fewer than len(p) bytes the error
// says why; the bytes it counts are in the kernel's hands.
func (fd *FD) Write(p []byte) (int, error) {
	fd.wbuf, fd.wn, fd.werr = p, 0, nil
	err := fd.rc.Write(fd.writeFn)
	n, werr := fd.wn, fd.werr
	fd.wbuf = nil
	if err != nil {
		return n, fd.fileError(err)
	}
	return n, werr
}

// writeReady sends until everything is out, the socket is full (false waits)
// or an error.
func (fd *FD) writeReady(uintptr) bool {
	for fd.wn < len(fd.wbuf) {
		p := fd.wbuf[fd.wn:]
		if len(p) > maxSend {
			p = p[:maxSend]
		}
		n, err := -1, check(CallSend, fd.Num())
		if err == nil {
			n, err = send(fd.Num(), p)
		}
		switch err {
		case nil:
			fd.wn += n
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			fd.werr = err
			return true
		}
	}
	return true
}

// CloseWrite ends our direction (shutdown(2) SHUT_WR): the peer reads what is
// queued and then end of file.
func (fd *FD) CloseWrite() error { return fd.shutdown(unix.SHUT_WR) }

// CloseRead makes our reads return end of file (shutdown(2) SHUT_RD). On TCP
// the peer is not told.
func (fd *FD) CloseRead() error { return fd.shutdown(unix.SHUT_RD) }

func (fd *FD) shutdown(how int) error {
	return fd.control(func(n int) error {
		return retryEINTR(func() error {
			if err := check(CallShutdown, n); err != nil {
				return err
			}
			return unix.Shutdown(n, how)
		})
	})
}

// Accept waits for a connection (accept4(2)) and returns it, with the options
// that were set before Listen. The error is the
// errno as it came: EMFILE, ENFILE, ENOBUFS and ENOMEM leave the listener
// alive, ECONNABORTED concerns one connection only.
func (fd *FD) Accept() (*FD, error) {
	var (
		n    int
		sa   unix.Sockaddr
		aerr error
	)
	err := fd.rc.Read(func(l uintptr) bool {
		for {
			if aerr = check(CallAccept, int(l)); aerr == nil {
				n, sa, aerr = accept(int(l))
			}
			switch aerr {
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return false
			}
			return true
		}
	})
	if err != nil {
		return nil, fd.fileError(err)
	}
	if aerr != nil {
		return nil, aerr
	}
	c, err := newFD(n, fd.family)
	if err != nil {
		unix.Close(n)
		return nil, err
	}
	// An unnamed Unix peer has no address; anything else is what accept says.
	if sa != nil {
		c.peer, _ = fromSockaddr(sa)
	}
	if err := c.learnLocal(); err != nil {
		c.Close()
		return nil, err
	}
	applyOptions(c, fd.opts)
	return c, nil
}

// learnLocal stores the bound address for the time after Close.
func (fd *FD) learnLocal() error {
	return fd.control(func(n int) error {
		sa, err := unix.Getsockname(n)
		if err != nil {
			return err
		}
		fd.local, err = fromSockaddr(sa)
		return err
	})
}

// FinishConnect waits until the connection is made or has failed. Its error
// is the errno of the connect. A passed write deadline or Close ends the wait.
func (fd *FD) FinishConnect() error {
	var cerr error
	err := fd.rc.Write(func(n uintptr) bool {
		done, err := connected(int(n))
		cerr = err
		return done
	})
	if err != nil {
		return fd.fileError(err)
	}
	if cerr != nil {
		return cerr
	}
	if err := fd.learnLocal(); err != nil {
		return err
	}
	if err := fd.learnPeer(); err != unix.ENOTCONN {
		return err
	}
	return unix.ECONNRESET // it was connected a moment ago
}

// learnPeer stores the connected address for the time after Close.
func (fd *FD) learnPeer() error {
	return fd.control(func(n int) error {
		sa, err := unix.Getpeername(n)
		if err == nil {
			fd.peer, err = fromSockaddr(sa)
		}
		return err
	})
}

// connected asks for the outcome of a non-blocking connect. SO_ERROR is read
// here, where no read or write can want it: reading consumes it
// (docs/notes/so-error).
func connected(n int) (done bool, err error) {
	if err := retryEINTR(func() error { return check(CallConnectError, n) }); err != nil {
		return true, err
	}
	v, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return true, err
	}
	switch errno := unix.Errno(v); errno {
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		return false, nil
	case unix.EISCONN:
		return true, nil
	case 0:
		// A wake-up is not an outcome: connected is what has a peer.
		if _, err := unix.Getpeername(n); err != nil {
			return false, nil
		}
		return true, nil
	default:
		return true, errno
	}
}

// Unread is the number of bytes that wait to be received (SIOCINQ, tcp(7);
// FIONREAD elsewhere).
func (fd *FD) Unread() (int, error) {
	var n int
	err := fd.control(func(d int) error {
		return retryEINTR(func() error {
			err := check(CallUnread, d)
			if err == nil {
				n, err = unread(d)
			}
			return err
		})
	})
	return n, err
}

// TakeError reads and thereby consumes the socket's pending error
// (SO_ERROR). It is for the very last moment before Close: anywhere else the
// error belongs to the read or write that will report it.
func (fd *FD) TakeError() error { return fd.control(takeError) }

func takeError(d int) error {
	v, err := unix.GetsockoptInt(d, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if v != 0 {
		return unix.Errno(v)
	}
	return nil
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
