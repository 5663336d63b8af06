//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly) || anysock_portable

package sys

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// errAgain and the errnos below come from package syscall, which has them on
// every platform that package net supports.

// A Socket remembers what it is told until Listen or Connect carries it out
// through package net. What package net cannot do says ErrUnsupported.
type Socket struct {
	family Family
	open   bool
	bound  *Addr
	opts   map[Option]int
}

// Open makes a Socket.
func Open(family Family) (*Socket, error) {
	if err := check(CallSocket, -1); err != nil {
		return nil, err
	}
	if family == Vsock {
		return nil, errors.ErrUnsupported
	}
	return &Socket{family: family, open: true, opts: map[Option]int{}}, nil
}

// Num is always -1: package net keeps the descriptor.
func (s *Socket) Num() int { return -1 }

// Family is the protocol family.
func (s *Socket) Family() Family { return s.family }

// SetInt remembers the options package net can carry out and says
// ErrUnsupported for the others.
func (s *Socket) SetInt(o Option, v int) error {
	if err := check(CallSetsockopt, -1); err != nil {
		return err
	}
	switch o {
	case NoDelay, KeepAlive, KeepIdle, KeepInterval, KeepCount, ReceiveBuffer, SendBuffer, V6Only:
		s.opts[o] = v
		return nil
	}
	return errors.ErrUnsupported
}

// Int reads back what SetInt remembered.
func (s *Socket) Int(o Option) (int, error) {
	if v, ok := s.opts[o]; ok {
		return v, nil
	}
	return 0, errors.ErrUnsupported
}

// SetVsockConnectTimeout says ErrUnsupported.
func (s *Socket) SetVsockConnectTimeout(time.Duration) error { return errors.ErrUnsupported }

// SetInterface says ErrUnsupported.
func (s *Socket) SetInterface(string) error { return errors.ErrUnsupported }

// SetMode says ErrUnsupported.
func (s *Socket) SetMode(uint32) error { return errors.ErrUnsupported }

// Bind remembers the address; a conflict shows in Listen or Connect.
func (s *Socket) Bind(a Addr) error {
	if err := check(CallBind, -1); err != nil {
		return err
	}
	s.bound = &a
	return nil
}

// LocalAddr is the address Bind was given.
func (s *Socket) LocalAddr() (Addr, error) {
	if s.bound == nil {
		return Addr{}, errors.ErrUnsupported
	}
	return *s.bound, nil
}

func (s *Socket) network() string {
	switch {
	case s.family == Unix:
		return "unix"
	case s.family == Inet4:
		return "tcp4"
	case s.opts[V6Only] != 0:
		return "tcp6"
	}
	return "tcp"
}

// Listen listens through package net, which chooses the backlog.
func (s *Socket) Listen(int) (*FD, error) {
	if err := check(CallListen, -1); err != nil {
		return nil, err
	}
	addr := ""
	if s.bound != nil {
		addr = s.bound.Net().String()
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), s.network(), addr)
	if err != nil {
		return nil, errno(err)
	}
	if ul, ok := ln.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false) // the owner of the path does that
	}
	s.open = false
	return &FD{family: s.family, ln: ln, opts: s.opts, local: fromNet(ln.Addr())}, nil
}

// Connect starts connecting in the background; FinishConnect tells the
// outcome.
func (s *Socket) Connect(a Addr) (*FD, error) {
	if err := check(CallConnect, -1); err != nil {
		return nil, err
	}
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	if s.bound != nil {
		d.LocalAddr = s.bound.Net()
	}
	network := s.network()
	if network == "tcp" {
		network = "tcp6"
		if a.IP.Addr().Is4In6() {
			network = "tcp4"
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	fd := &FD{family: s.family, opts: s.opts, cancel: cancel, dialed: make(chan struct{}), wake: make(chan struct{}, 1)}
	go fd.dial(ctx, d, network, a.Net().String())
	s.open = false
	return fd, nil
}

// Close forgets the socket.
func (s *Socket) Close() error { s.open = false; return nil }

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
}

// dial is owned by FinishConnect and Close: both wait for it.
func (fd *FD) dial(ctx context.Context, d net.Dialer, network, addr string) {
	defer close(fd.dialed)
	fd.conn, fd.dialErr = d.DialContext(ctx, network, addr)
}

// Adopt says ErrUnsupported.
func Adopt(int) (*FD, error) { return nil, errors.ErrUnsupported }

// FromConn says ErrUnsupported: the caller wraps the connection.
func FromConn(interface {
	net.Conn
	syscall.Conn
},
) (*FD, error) {
	return nil, errors.ErrUnsupported
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
	if err := check(CallConnectError, -1); err != nil {
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
			fd.applyOptions()
			return nil
		case <-timeout:
			return os.ErrDeadlineExceeded
		case <-fd.wake:
		}
	}
}

func (fd *FD) applyOptions() {
	for o, v := range fd.opts {
		fd.SetInt(o, v) // a hint that failed stays a hint
	}
}

// SetReadDeadline bounds receiving calls.
func (fd *FD) SetReadDeadline(t time.Time) error {
	switch {
	case fd.ln != nil:
		if d, ok := fd.ln.(interface{ SetDeadline(time.Time) error }); ok {
			return d.SetDeadline(t)
		}
		return errors.ErrUnsupported
	case fd.dialed != nil && !fd.connected():
		return nil
	}
	return errno(fd.conn.SetReadDeadline(t))
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
	if err := check(CallRecv, -1); err != nil {
		return 0, err
	}
	n, err := fd.conn.Read(p)
	return n, errno(err)
}

// Peek says ErrUnsupported: the caller keeps a buffer.
func (fd *FD) Peek([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Write sends.
func (fd *FD) Write(p []byte) (int, error) {
	if err := check(CallSend, -1); err != nil {
		return 0, err
	}
	n, err := fd.conn.Write(p)
	return n, errno(err)
}

// CloseWrite ends our direction.
func (fd *FD) CloseWrite() error {
	if err := check(CallShutdown, -1); err != nil {
		return err
	}
	if c, ok := fd.conn.(interface{ CloseWrite() error }); ok {
		return errno(c.CloseWrite())
	}
	return errors.ErrUnsupported
}

// CloseRead ends theirs, for us.
func (fd *FD) CloseRead() error {
	if err := check(CallShutdown, -1); err != nil {
		return err
	}
	if c, ok := fd.conn.(interface{ CloseRead() error }); ok {
		return errno(c.CloseRead())
	}
	return errors.ErrUnsupported
}

// DiscardOnClose makes the next Close a reset on TCP.
func (fd *FD) DiscardOnClose() error {
	if err := check(CallSetsockopt, -1); err != nil {
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
		return errno(fd.ln.Close())
	case fd.conn != nil:
		return errno(fd.conn.Close())
	}
	return nil
}

// Accept waits for a connection.
func (fd *FD) Accept() (*FD, error) {
	if err := check(CallAccept, -1); err != nil {
		return nil, err
	}
	c, err := fd.ln.Accept()
	if err != nil {
		return nil, errno(err)
	}
	n := &FD{family: fd.family, conn: c, opts: fd.opts, local: fromNet(c.LocalAddr()), peer: fromNet(c.RemoteAddr())}
	n.applyOptions()
	return n, nil
}

// SetBacklog says ErrUnsupported.
func (fd *FD) SetBacklog(int) error { return errors.ErrUnsupported }

// SetInt sets the options package net has a call for.
func (fd *FD) SetInt(o Option, v int) error {
	if err := check(CallSetsockopt, -1); err != nil {
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

// Unread says ErrUnsupported.
func (fd *FD) Unread() (int, error) { return 0, errors.ErrUnsupported }

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
