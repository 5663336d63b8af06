//go:build linux && !anysock_portable

package sys

import (
	"errors"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file has the system calls of an event loop. They take descriptor
// numbers that the loop owns, and wait for nothing: every socket is
// non-blocking. So they go through the raw entry, which spares the scheduler's
// bookkeeping around each call, and must never be made on a blocking
// descriptor. Each passes the switch, and each goes on after EINTR.

// rawErr is an errno as an error; the hot one is preallocated.
func rawErr(e unix.Errno) error {
	switch e {
	case 0:
		return nil
	case unix.EAGAIN:
		return errAgain
	}
	return e
}

// RawRecv receives into p; 0 without an error is the peer's end.
func RawRecv(fd int, p []byte) (int, error) {
	for {
		if err := check(CallRecv, fd); err != nil {
			if err == unix.EINTR {
				continue
			}
			return 0, err
		}
		n, err := recv(fd, p, 0)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// RawSend sends from p, as much as there is room for.
func RawSend(fd int, p []byte) (int, error) {
	for {
		if err := check(CallSend, fd); err != nil {
			if err == unix.EINTR {
				continue
			}
			return 0, err
		}
		n, err := send(fd, p)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// RawSplice moves at most n bytes from one descriptor to the other, one of
// which is a pipe (splice(2)).
func RawSplice(from, to, n int) (int, error) {
	for {
		if err := check(CallSplice, from); err != nil {
			if err == unix.EINTR {
				continue
			}
			return 0, err
		}
		m, err := splice(from, to, n)
		if err == unix.EINTR {
			continue
		}
		return m, err
	}
}

// A RawAddr is an address in the kernel's form, without pointers, so that a
// loop can keep many. The zero RawAddr is no address.
type RawAddr struct {
	ip     [16]byte
	zone   uint32
	port   uint16
	family uint16
}

// Addr is the address in the form of this package; a Unix peer is unnamed.
func (a RawAddr) Addr() Addr {
	switch a.family {
	case unix.AF_INET:
		return Addr{Family: Inet4, IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte(a.ip[:4])), a.port)}
	case unix.AF_INET6:
		sa := &unix.SockaddrInet6{Port: int(a.port), Addr: a.ip, ZoneId: a.zone}
		addr, _ := fromSockaddr(sa)
		return addr
	case unix.AF_UNIX:
		return Addr{Family: Unix}
	}
	return Addr{}
}

// swap is a number in network byte order.
func swap(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p))
	return uint16(b[0])<<8 | uint16(b[1])
}

func rawAddr(sa *unix.RawSockaddrAny) RawAddr {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		a := RawAddr{family: unix.AF_INET, port: swap(in.Port)}
		copy(a.ip[:], in.Addr[:])
		return a
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return RawAddr{family: unix.AF_INET6, port: swap(in.Port), ip: in.Addr, zone: in.Scope_id}
	}
	return RawAddr{family: sa.Addr.Family}
}

// RawAccept takes a connection from a listening socket: non-blocking, closed
// on exec.
func RawAccept(l int) (int, RawAddr, error) {
	for {
		if err := check(CallAccept, l); err != nil {
			if err == unix.EINTR {
				continue
			}
			return -1, RawAddr{}, err
		}
		var sa unix.RawSockaddrAny
		size := uint32(unix.SizeofSockaddrAny)
		n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch e {
		case 0:
			return int(n), rawAddr(&sa), nil
		case unix.EINTR:
			continue
		}
		return -1, RawAddr{}, rawErr(e)
	}
}

// RawPeer asks for the peer's address (getpeername(2)), with the path of a
// Unix socket.
func RawPeer(fd int) (Addr, error) {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return Addr{}, err
	}
	return fromSockaddr(sa)
}

// RawLocal asks for the socket's own address (getsockname(2)).
func RawLocal(fd int) (Addr, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return Addr{}, err
	}
	return fromSockaddr(sa)
}

// RawShutdown ends our direction (shutdown(2), SHUT_WR).
func RawShutdown(fd int) error {
	if err := check(CallShutdown, fd); err != nil {
		return err
	}
	_, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return rawErr(e)
}

// checkAgain is check for a call that is to go on after EINTR.
func checkAgain(c Call, fd int) error {
	for {
		if err := check(c, fd); err != unix.EINTR {
			return err
		}
	}
}

// RawUnacked is FD.Unacked for a TCP socket.
func RawUnacked(fd int) (int, error) {
	if err := checkAgain(CallUnacked, fd); err != nil {
		return 0, err
	}
	var n int32
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	return int(n), rawErr(e)
}

// RawUnread is how many bytes wait to be received (SIOCINQ).
func RawUnread(fd int) (int, error) {
	if err := checkAgain(CallUnread, fd); err != nil {
		return 0, err
	}
	var n int32
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCINQ, uintptr(unsafe.Pointer(&n)))
	return int(n), rawErr(e)
}

// RawLiveness is FD.Liveness for a TCP socket.
func RawLiveness(fd int) (Liveness, error) { return liveness(fd) }

// RawTakeError reads and thereby consumes the pending error (SO_ERROR).
func RawTakeError(fd int) error {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	if e == 0 {
		e = unix.Errno(v)
	}
	return rawErr(e)
}

// RawConnectError is RawTakeError after a connect that was under way.
func RawConnectError(fd int) error {
	if err := check(CallConnectError, fd); err != nil {
		return err
	}
	return RawTakeError(fd)
}

// RawSetInt sets an option.
func RawSetInt(fd int, o Option, v int) error {
	if err := check(CallSetsockopt, fd); err != nil {
		return err
	}
	level, name, ok := optionName(o)
	if !ok {
		return errors.ErrUnsupported
	}
	return rawSetsockopt(fd, level, name, unsafe.Pointer(&[1]int32{int32(v)}), 4)
}

// RawDiscardOnClose is FD.DiscardOnClose.
func RawDiscardOnClose(fd int) error {
	err := check(CallSetsockopt, fd)
	if err == nil {
		err = rawSetsockopt(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&unix.Linger{Onoff: 1}), unix.SizeofLinger)
	}
	if err != nil && resetNow(fd) {
		return nil
	}
	return err
}

func rawSetsockopt(fd, level, name int, v unsafe.Pointer, size uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(v), size, 0)
	return rawErr(e)
}

// RawClose releases a descriptor; what the kernel holds it goes on sending.
func RawClose(fd int) {
	// Linux releases the descriptor whatever it returns (close(2)).
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Detach takes the descriptor out of the Go runtime's poller, for a loop: fd
// is closed, and the number returned is another one for the same socket.
func (fd *FD) Detach() (int, error) {
	n := -1
	err := fd.control(func(d int) error {
		var err error
		n, err = RawDup(d)
		return err
	})
	if err != nil {
		return -1, err
	}
	_ = fd.Close() // the other descriptor keeps the socket
	return n, nil
}

// RawDup is another descriptor for the same socket, closed on exec.
func RawDup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// RawBacklog changes a listening socket's backlog.
func RawBacklog(fd, n int) error { return unix.Listen(fd, n) }

// EpollBatch is how many descriptors one Wait reports at most.
const EpollBatch = 256

// An Epoll is an epoll instance (epoll(7)) that belongs to one goroutine,
// which blocks its thread in Wait.
type Epoll struct {
	fd  int
	buf [EpollBatch]unix.EpollEvent
}

// NewEpoll makes an empty one; it costs one descriptor.
func NewEpoll() (*Epoll, error) {
	if err := check(CallPoll, -1); err != nil {
		return nil, err
	}
	n, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &Epoll{fd: n}, nil
}

// Add watches fd for want under key.
func (e *Epoll) Add(fd int, want Events, key uint64) error {
	return e.ctl(unix.EPOLL_CTL_ADD, fd, want, key)
}

// Modify changes what fd is watched for, and looks at its state anew.
func (e *Epoll) Modify(fd int, want Events, key uint64) error {
	return e.ctl(unix.EPOLL_CTL_MOD, fd, want, key)
}

// Remove stops watching fd. A descriptor that is closed leaves by itself,
// unless another number stands for the same socket.
func (e *Epoll) Remove(fd int) error { return e.ctl(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (e *Epoll) ctl(op, fd int, want Events, key uint64) error {
	for {
		// Changing and removing allocate nothing, and do not fail.
		if op == unix.EPOLL_CTL_ADD {
			if err := check(CallPoll, fd); err != nil {
				if err == unix.EINTR {
					continue
				}
				return err
			}
		}
		ev := unix.EpollEvent{Events: uint32(want), Fd: int32(key), Pad: int32(key >> 32)}
		_, _, no := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(e.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
		if no == unix.EINTR {
			continue
		}
		return rawErr(no)
	}
}

// Wait waits for at most d, negative for ever, and says how many events there
// are; 0 also after a signal. It tells the scheduler that it blocks.
func (e *Epoll) Wait(d time.Duration) (int, error) {
	if err := check(CallPoll, e.fd); err != nil {
		return 0, ignoreEINTR(err)
	}
	ms := -1
	if d >= 0 { // rounded up: a wait that ends early would be made again for nothing
		ms = int(min((d+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
	}
	n, _, no := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.buf[0])), EpollBatch, uintptr(ms), 0, 0)
	return e.waited(n, no)
}

// Look is Wait for no time at all. It does not tell the scheduler.
func (e *Epoll) Look() (int, error) {
	if err := check(CallPoll, e.fd); err != nil {
		return 0, ignoreEINTR(err)
	}
	n, _, no := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.buf[0])), EpollBatch, 0, 0, 0)
	return e.waited(n, no)
}

func (e *Epoll) waited(n uintptr, no unix.Errno) (int, error) {
	if no != 0 {
		return 0, ignoreEINTR(no)
	}
	return int(n), nil
}

func ignoreEINTR(err error) error {
	if err == unix.EINTR {
		return nil
	}
	return err
}

// Event is the i-th of what Wait found.
func (e *Epoll) Event(i int) (key uint64, found Events) {
	ev := &e.buf[i]
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32, Events(ev.Events)
}

// Close releases the descriptor; nobody may be in Wait.
func (e *Epoll) Close() { RawClose(e.fd) }

// NewWaker makes an eventfd (eventfd(2)): readable once Wake was called, until
// Rest.
func NewWaker() (int, error) { return unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC) }

// Wake makes a waker readable.
func Wake(fd int) {
	one := [8]byte{1}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 8)
}

// Rest makes a waker unreadable.
func Rest(fd int) {
	var n [8]byte
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&n)), 8)
}

// RawReserve opens a descriptor that can be given up where there are no more.
func RawReserve() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) }
