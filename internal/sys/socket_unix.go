//go:build (linux || darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// A Socket is a descriptor that is neither connected nor listening. It is not
// safe for concurrent use. Listen and Connect consume it.
type Socket struct {
	n      int
	family Family
	opts   map[Option]int // for accepted sockets; nil where they inherit them
}

// Open makes a stream socket (socket(2)): non-blocking, closed on exec, and
// plain TCP, never MPTCP.
func Open(family Family) (*Socket, error) {
	if err := check(CallSocket, -1); err != nil {
		return nil, err
	}
	if family == Vsock && vsockDomain == 0 {
		return nil, unix.EAFNOSUPPORT
	}
	n, err := openSocket(domain(family))
	if err != nil {
		return nil, err
	}
	return &Socket{n: n, family: family}, nil
}

func domain(f Family) int {
	switch f {
	case Inet4:
		return unix.AF_INET
	case Inet6:
		return unix.AF_INET6
	case Vsock:
		return vsockDomain
	default:
		return unix.AF_UNIX
	}
}

// Num is the descriptor's number, -1 once it is consumed or closed.
func (s *Socket) Num() int { return s.n }

// Family is the protocol family.
func (s *Socket) Family() Family { return s.family }

// SetInt sets an option (setsockopt(2)); ErrUnsupported where the platform
// has no such option.
func (s *Socket) SetInt(o Option, v int) error {
	err := setInt(s.n, o, v)
	if err == nil && !optionsInherited {
		if s.opts == nil {
			s.opts = make(map[Option]int)
		}
		s.opts[o] = v
	}
	return err
}

// Int reads an option (getsockopt(2)).
func (s *Socket) Int(o Option) (int, error) { return getInt(s.n, o) }

// SetInterface binds the socket to a network interface.
func (s *Socket) SetInterface(name string) error {
	if err := check(CallSetsockopt, s.n); err != nil {
		return err
	}
	return bindToInterface(s.n, s.family, name)
}

// SetMode sets the mode that binding a Unix path gives the socket file; the
// umask applies on top. ErrUnsupported where a socket has no mode before it has a
// file (fchmod(2) of the BSDs and macOS): who binds sets it on the file then,
// before listening.
func (s *Socket) SetMode(mode uint32) error { return setMode(s.n, mode) }

// Bind names the socket (bind(2)).
func (s *Socket) Bind(a Addr) error {
	if err := check(CallBind, s.n); err != nil {
		return err
	}
	sa, err := a.sockaddr()
	if err != nil {
		return err
	}
	return unix.Bind(s.n, sa)
}

// LocalAddr is the bound address (getsockname(2)).
func (s *Socket) LocalAddr() (Addr, error) {
	sa, err := unix.Getsockname(s.n)
	if err != nil {
		return Addr{}, err
	}
	return fromSockaddr(sa)
}

// Listen makes the socket accept connections; backlog reaches the kernel,
// which caps it at net.core.somaxconn and admits one more (listen(2),
// docs/notes/backlog). On success the FD owns the descriptor.
func (s *Socket) Listen(backlog int) (*FD, error) {
	if err := check(CallListen, s.n); err != nil {
		return nil, err
	}
	if err := unix.Listen(s.n, backlog); err != nil {
		return nil, err
	}
	fd, err := s.handOver()
	if err != nil {
		return nil, err
	}
	fd.opts = s.opts
	if err := fd.learnLocal(); err != nil {
		fd.Close()
		return nil, err
	}
	return fd, nil
}

// Connect starts connecting (connect(2)) and returns without waiting; the FD
// owns the descriptor and FinishConnect tells the outcome. An immediate
// failure is returned here and leaves the Socket as it was.
func (s *Socket) Connect(a Addr) (*FD, error) {
	sa, err := a.sockaddr()
	if err != nil {
		return nil, err
	}
	if err := check(CallConnect, s.n); err != nil {
		return nil, err
	}
	switch err := unix.Connect(s.n, sa); err {
	case nil, unix.EINPROGRESS, unix.EALREADY, unix.EINTR, unix.EISCONN:
		// An interrupted connect goes on (connect(2)).
	default:
		return nil, err
	}
	return s.handOver()
}

func (s *Socket) handOver() (*FD, error) {
	fd, err := newFD(s.n, s.family)
	if err != nil {
		return nil, err
	}
	s.n = -1
	return fd, nil
}

// Close releases the descriptor unless an FD owns it.
func (s *Socket) Close() error {
	if s.n < 0 {
		return nil
	}
	n := s.n
	s.n = -1
	return os.NewSyscallError("close", unix.Close(n))
}

// SetBacklog changes the backlog of a listening FD: listen(2) may be called
// again and keeps what is queued.
func (fd *FD) SetBacklog(n int) error {
	return fd.control(func(d int) error {
		if err := check(CallListen, d); err != nil {
			return err
		}
		return unix.Listen(d, n)
	})
}

// SetInt sets an option on a connected or listening socket.
func (fd *FD) SetInt(o Option, v int) error {
	return fd.control(func(n int) error { return setInt(n, o, v) })
}

// Int reads an option.
func (fd *FD) Int(o Option) (v int, err error) {
	err = fd.control(func(n int) error {
		v, err = getInt(n, o)
		return err
	})
	return v, err
}
