//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly) || anysock_portable

package sys

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An FD is a connection or a listener of package net.
type FD struct {
	family Family
	conn   net.Conn
	ln     net.Listener
	opts   map[Option]int
	closed atomic.Bool
	local  Addr
	peer   Addr

	cancel  context.CancelFunc // ends a connect in flight
	dialed  chan struct{}      // closed when it has ended
	dialErr error
	wake    chan struct{} // a new write deadline while connecting
	until   atomic.Pointer[time.Time]

	mu       sync.Mutex // guards what follows, of a listener
	deadline time.Time
	looking  bool // Readiness uses a deadline of its own
	ahead    *FD  // accepted by Readiness
}

// lookTime is how long Readiness looks at a listener's queue: package net
// cannot look without waiting.
const lookTime = 20 * time.Millisecond

// dial is owned by FinishConnect and Close: both wait for it.
func (fd *FD) dial(ctx context.Context, d net.Dialer, network, addr string) {
	defer close(fd.dialed)
	fd.conn, fd.dialErr = d.DialContext(ctx, network, addr)
}

// Adopt says ErrUnsupported.
func Adopt(int) (*FD, error) { return nil, errors.ErrUnsupported }

// FromConn builds an FD on a TCP or Unix stream connection of package net, which
// must not be used otherwise from then on.
func FromConn(c interface {
	net.Conn
	syscall.Conn
},
) (*FD, error) {
	fd := &FD{conn: c, local: fromNet(c.LocalAddr()), peer: fromNet(c.RemoteAddr())}
	switch c := c.(type) {
	case *net.TCPConn:
	case *net.UnixConn:
		if c.LocalAddr().Network() != "unix" {
			return nil, errors.ErrUnsupported
		}
	default:
		return nil, errors.ErrUnsupported
	}
	fd.family = fd.local.Family
	return fd, nil
}

// Num is always -1.
func (fd *FD) Num() int { return -1 }

// Family is the protocol family.
func (fd *FD) Family() Family { return fd.family }

// LocalAddr is the bound address.
func (fd *FD) LocalAddr() Addr { return fd.local }

// PeerAddr is the connected address.
func (fd *FD) PeerAddr() Addr { return fd.peer }

// SyscallConn is package net's, nil where there is none.
func (fd *FD) SyscallConn() syscall.RawConn {
	var sc syscall.Conn
	switch {
	case fd.conn != nil:
		sc, _ = fd.conn.(syscall.Conn)
	case fd.ln != nil:
		sc, _ = fd.ln.(syscall.Conn)
	}
	if sc == nil {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

// FinishConnect waits for the connect's outcome.
func (fd *FD) FinishConnect() error {
	if err := checkAgain(CallConnectError); err != nil {
		return err
	}
	for {
		var timeout <-chan time.Time
		if t := fd.until.Load(); t != nil && !t.IsZero() {
			tm := time.NewTimer(time.Until(*t))
			defer tm.Stop()
			timeout = tm.C
		}
		select {
		case <-fd.dialed:
			if fd.closed.Load() {
				return net.ErrClosed
			}
			if fd.dialErr != nil {
				return errno(fd.dialErr)
			}
			fd.local, fd.peer = fromNet(fd.conn.LocalAddr()), fromNet(fd.conn.RemoteAddr())
			applyOptions(fd, fd.opts)
			return nil
		case <-timeout:
			return os.ErrDeadlineExceeded
		case <-fd.wake:
		}
	}
}

// SetReadDeadline bounds receiving calls.
func (fd *FD) SetReadDeadline(t time.Time) error {
	switch {
	case fd.ln != nil:
		fd.mu.Lock()
		defer fd.mu.Unlock()
		fd.deadline = t
		if fd.looking {
			return nil
		}
		return fd.listenerDeadline(t)
	case fd.dialed != nil && !fd.connected():
		return nil
	}
	return errno(fd.conn.SetReadDeadline(t))
}

// listenerDeadline is what bounds package net's Accept.
func (fd *FD) listenerDeadline(t time.Time) error {
	return errno(fd.ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(t))
}

func (fd *FD) connected() bool {
	select {
	case <-fd.dialed:
		return fd.conn != nil
	default:
		return false
	}
}

// SetWriteDeadline bounds sending calls and FinishConnect.
func (fd *FD) SetWriteDeadline(t time.Time) error {
	if fd.dialed != nil && !fd.connected() {
		fd.until.Store(&t)
		select {
		case fd.wake <- struct{}{}:
		default:
		}
		return nil
	}
	if fd.conn == nil {
		return errors.ErrUnsupported
	}
	return errno(fd.conn.SetWriteDeadline(t))
}

// Read receives.
func (fd *FD) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := checkAgain(CallRecv); err != nil {
		return 0, err
	}
	n, err := fd.conn.Read(p)
	return n, errno(err)
}

// Peek says ErrUnsupported: the caller keeps a buffer.
func (fd *FD) Peek([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Write sends.
func (fd *FD) Write(p []byte) (int, error) {
	if err := checkAgain(CallSend); err != nil {
		return 0, err
	}
	n, err := fd.conn.Write(p)
	return n, errno(err)
}

// CloseWrite ends our direction.
func (fd *FD) CloseWrite() error {
	if err := checkAgain(CallShutdown); err != nil {
		return err
	}
	if c, ok := fd.conn.(interface{ CloseWrite() error }); ok {
		return errno(c.CloseWrite())
	}
	return errors.ErrUnsupported
}

// CloseRead ends theirs, for us.
func (fd *FD) CloseRead() error {
	if err := checkAgain(CallShutdown); err != nil {
		return err
	}
	if c, ok := fd.conn.(interface{ CloseRead() error }); ok {
		return errno(c.CloseRead())
	}
	return errors.ErrUnsupported
}

// DiscardOnClose makes the next Close a reset on TCP.
func (fd *FD) DiscardOnClose() error {
	if err := checkAgain(CallSetsockopt); err != nil {
		return err
	}
	if c, ok := fd.conn.(*net.TCPConn); ok {
		return errno(c.SetLinger(0))
	}
	return nil
}

// Abort is DiscardOnClose and Close.
func (fd *FD) Abort() error {
	if fd.closed.Load() {
		return nil
	}
	return errors.Join(fd.DiscardOnClose(), fd.Close())
}

// Close releases the connection or listener and ends a connect in flight.
func (fd *FD) Close() error {
	if fd.closed.Swap(true) {
		return nil
	}
	if fd.dialed != nil {
		fd.cancel()
		<-fd.dialed
	}
	switch {
	case fd.ln != nil:
		err := errno(fd.ln.Close())
		fd.mu.Lock()
		defer fd.mu.Unlock()
		if fd.ahead != nil {
			_ = fd.ahead.Abort() // as the kernel does with its queue
			fd.ahead = nil
		}
		return err
	case fd.conn != nil:
		return errno(fd.conn.Close())
	}
	return nil
}

// Accept waits for a connection.
func (fd *FD) Accept() (*FD, error) {
	if err := checkAgain(CallAccept); err != nil {
		return nil, err
	}
	fd.mu.Lock()
	n := fd.ahead
	fd.ahead = nil
	fd.mu.Unlock()
	if n != nil {
		return n, nil
	}
	return fd.accept()
}

func (fd *FD) accept() (*FD, error) {
	c, err := fd.ln.Accept()
	if err != nil {
		return nil, errno(err)
	}
	n := &FD{family: fd.family, conn: c, opts: fd.opts, local: fromNet(c.LocalAddr()), peer: fromNet(c.RemoteAddr())}
	applyOptions(n, fd.opts)
	return n, nil
}

// Readiness looks at a listener: Readable is that somebody waits, whom it
// accepts ahead of the next Accept. It has the turn of Accept and takes up to
// lookTime. Of a connection it says ErrUnsupported.
func (fd *FD) Readiness() (Ready, error) {
	if fd.ln == nil {
		return 0, errors.ErrUnsupported
	}
	if err := checkAgain(CallPoll); err != nil {
		return 0, err
	}
	fd.mu.Lock()
	if fd.ahead != nil {
		fd.mu.Unlock()
		return Readable, nil
	}
	fd.looking = true
	err := fd.listenerDeadline(time.Now().Add(lookTime))
	fd.mu.Unlock()
	var n *FD
	if err == nil {
		n, err = fd.accept()
	}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.looking = false
	_ = fd.listenerDeadline(fd.deadline) // it fails once the listener is closed
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil
	case err != nil:
		return 0, err
	case fd.closed.Load():
		_ = n.Abort() // as the kernel does with its queue
		return 0, net.ErrClosed
	}
	fd.ahead = n
	return Readable, nil
}

// SetBacklog says ErrUnsupported.
func (fd *FD) SetBacklog(int) error { return errors.ErrUnsupported }

// SetInt sets the options package net has a call for.
func (fd *FD) SetInt(o Option, v int) error {
	if err := checkAgain(CallSetsockopt); err != nil {
		return err
	}
	c, ok := fd.conn.(*net.TCPConn)
	if !ok {
		return errors.ErrUnsupported
	}
	seconds := time.Duration(v) * time.Second
	switch o {
	case NoDelay:
		return errno(c.SetNoDelay(v != 0))
	case KeepAlive:
		return errno(c.SetKeepAlive(v != 0))
	case KeepIdle:
		return errno(c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: seconds, Interval: -1, Count: -1}))
	case KeepInterval:
		return errno(c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: seconds, Count: -1}))
	case KeepCount:
		return errno(c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: v}))
	case ReceiveBuffer:
		return errno(c.SetReadBuffer(v))
	case SendBuffer:
		return errno(c.SetWriteBuffer(v))
	}
	return errors.ErrUnsupported
}

// Int says ErrUnsupported.
func (fd *FD) Int(Option) (int, error) { return 0, errors.ErrUnsupported }

// Unread is the number of bytes that wait to be received, where the platform
// tells; ErrUnsupported elsewhere.
func (fd *FD) Unread() (int, error) {
	if err := checkAgain(CallUnread); err != nil {
		return 0, err
	}
	return fd.ask(unread)
}

// TakeError reads and thereby consumes the socket's pending error, where the
// platform tells. It is for the very last moment before Close: anywhere else the
// error belongs to the read or write that will report it.
func (fd *FD) TakeError() error {
	v, err := fd.ask(pendingError)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return err
	case v != 0:
		return syscall.Errno(v)
	}
	return nil
}

// ask calls f with the descriptor.
func (fd *FD) ask(f func(n uintptr) (int, error)) (v int, err error) {
	rc := fd.SyscallConn()
	if rc == nil {
		return 0, errors.ErrUnsupported
	}
	if cerr := rc.Control(func(n uintptr) { v, err = f(n) }); cerr != nil {
		return 0, errno(cerr)
	}
	return v, err
}

// checkAgain asks the switch again when that says EINTR: package net never
// reports it.
func checkAgain(call Call) error {
	for {
		if err := check(call, -1); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// errno reduces package net's error to what the callers of this package know.
func errno(err error) error {
	var no syscall.Errno
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.As(err, &no):
		return no
	}
	return err
}

func fromNet(a net.Addr) Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return IPAddr(a.AddrPort())
	case *net.UnixAddr:
		return UnixAddr(a.Name)
	}
	return Addr{}
}
