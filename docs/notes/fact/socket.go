//go:build linux

// Sockets as bare descriptors, outside the Go runtime's poller, and names for what their calls
// return. Every descriptor made here is non-blocking; the Wait calls of ready.go do the waiting.

package fact

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"
)

// Options of newer kernels that package syscall does not name.
const (
	IPBindAddressNoPort = 24 // linux/in.h IP_BIND_ADDRESS_NO_PORT, since 4.2
	TCPUserTimeout      = 18 // linux/tcp.h TCP_USER_TIMEOUT
	TCPRTOMaxMS         = 44 // linux/tcp.h TCP_RTO_MAX_MS, since 6.15
)

// Result names what a read or a write returned.
func Result(n int, err error) string {
	if err != nil {
		return Name(err)
	}
	return fmt.Sprintf("%d bytes", n)
}

// Name gives an errno its constant's name; nil is "nil".
func Name(err error) string {
	if err == nil {
		return "nil"
	}
	names := map[syscall.Errno]string{
		syscall.EADDRINUSE:    "EADDRINUSE",
		syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL",
		syscall.EAGAIN:        "EAGAIN",
		syscall.ECONNABORTED:  "ECONNABORTED",
		syscall.ECONNREFUSED:  "ECONNREFUSED",
		syscall.ECONNRESET:    "ECONNRESET",
		syscall.EINPROGRESS:   "EINPROGRESS",
		syscall.EINVAL:        "EINVAL",
		syscall.EMFILE:        "EMFILE",
		syscall.ENOPROTOOPT:   "ENOPROTOOPT",
		syscall.ENOTCONN:      "ENOTCONN",
		syscall.EOPNOTSUPP:    "EOPNOTSUPP",
		syscall.EPIPE:         "EPIPE",
		syscall.ETIMEDOUT:     "ETIMEDOUT",
	}
	if errno, ok := err.(syscall.Errno); ok {
		if name, ok := names[errno]; ok {
			return name
		}
	}
	return err.Error()
}

// Loopback is 127.0.0.1 with the given port; 0 lets the kernel choose.
func Loopback(port int) *syscall.SockaddrInet4 {
	return &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// TCP makes a TCP socket.
func (r *Report) TCP() int {
	return r.socket(syscall.AF_INET, 0)
}

// Unix makes a unix stream socket.
func (r *Report) Unix() int {
	return r.socket(syscall.AF_UNIX, 0)
}

func (r *Report) socket(family, protocol int) int {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, protocol)
	r.Must("make a socket", err)
	return fd
}

// ListenTCP listens on a free loopback port. Accepted sockets inherit what configure sets.
func (r *Report) ListenTCP(backlog int, configure ...func(fd int)) (fd int, addr syscall.Sockaddr) {
	return r.listen(r.TCP(), Loopback(0), backlog, configure)
}

// ListenUnix listens on a socket file in a directory of its own.
func (r *Report) ListenUnix(backlog int, configure ...func(fd int)) (fd int, addr *syscall.SockaddrUnix) {
	addr = &syscall.SockaddrUnix{Name: filepath.Join(r.TempDir(), "s")}
	fd, _ = r.listen(r.Unix(), addr, backlog, configure)
	return fd, addr
}

func (r *Report) listen(fd int, addr syscall.Sockaddr, backlog int, configure []func(int)) (int, syscall.Sockaddr) {
	for _, set := range configure {
		set(fd)
	}
	r.Must("bind", syscall.Bind(fd, addr))
	r.Must("listen", syscall.Listen(fd, backlog))
	bound, err := syscall.Getsockname(fd)
	r.Must("read the bound address", err)
	return fd, bound
}

// Connect starts a connect on a new socket and waits for its result.
func (r *Report) Connect(addr syscall.Sockaddr, configure ...func(fd int)) int {
	fd := r.TCP()
	for _, set := range configure {
		set(fd)
	}
	r.Must("connect", r.Finish(fd, syscall.Connect(fd, addr)))
	return fd
}

// Finish waits for the outcome of a connect that returned EINPROGRESS.
func (r *Report) Finish(fd int, err error) error {
	if err != syscall.EINPROGRESS {
		return err
	}
	Wait(fd, Out, Patience)
	return SocketError(fd)
}

// Accept waits for a connection and takes it.
func (r *Report) Accept(listener int) int {
	if Wait(listener, In, Patience) == "nothing" {
		r.Must("accept", syscall.ETIMEDOUT)
	}
	fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	r.Must("accept", err)
	return fd
}

// TCPPair connects two TCP sockets over loopback. Configure, if given, is applied to the listener
// (the accepted end inherits it) and to the connecting socket before it connects.
func (r *Report) TCPPair(configure ...func(fd int)) (client, server int) {
	listener, addr := r.ListenTCP(1, configure...)
	client = r.Connect(addr, configure...)
	server = r.Accept(listener)
	r.Close(listener)
	return client, server
}

// UnixPair connects two unix stream sockets.
func (r *Report) UnixPair() (a, b int) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	r.Must("make a socket pair", err)
	return pair[0], pair[1]
}

// Option returns a configure step that sets one integer option.
func (r *Report) Option(level, option, value int) func(fd int) {
	return func(fd int) { r.Set(fd, level, option, value) }
}

// Set sets one integer option.
func (r *Report) Set(fd, level, option, value int) {
	r.Must(fmt.Sprintf("set option %d/%d", level, option), syscall.SetsockoptInt(fd, level, option, value))
}

// Get reads one integer option.
func (r *Report) Get(fd, level, option int) int {
	v, err := syscall.GetsockoptInt(fd, level, option)
	r.Must(fmt.Sprintf("read option %d/%d", level, option), err)
	return v
}

// SocketError reads SO_ERROR, which also clears it.
func SocketError(fd int) error {
	v, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return err
	}
	if v != 0 {
		return syscall.Errno(v)
	}
	return nil
}

// Recv reads once, at most size bytes. 0 bytes is the end of file.
func Recv(fd, size int) string {
	n, _, err := syscall.Recvfrom(fd, make([]byte, size), syscall.MSG_DONTWAIT)
	return Result(n, err)
}

// Send writes once, without SIGPIPE.
func Send(fd, size int) string {
	n, err := send(fd, make([]byte, size))
	return Result(n, err)
}

// send returns the count, which syscall.Sendto does not.
func send(fd int, p []byte) (int, error) {
	return syscall.SendmsgN(fd, p, nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

// Fill sends pieces of the given size until the socket takes no more, or until limit bytes are taken.
func Fill(fd, piece, limit int) (sent int) {
	p := make([]byte, piece)
	for sent < limit {
		n, err := send(fd, p[:min(piece, limit-sent)])
		if err != nil {
			return sent
		}
		sent += n
	}
	return sent
}

// Drain reads until nothing comes for Quiet and returns the bytes read and what the last read said.
func Drain(fd int) (total int, last string) {
	p := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(fd, p, syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EAGAIN:
			if Wait(fd, In, Quiet) == "nothing" {
				return total, Name(err)
			}
		case err != nil || n == 0:
			return total, Result(n, err)
		default:
			total += n
		}
	}
}

// CloseWrite is shutdown(2) of the sending direction.
func (r *Report) CloseWrite(fd int) {
	r.Must("shut down", syscall.Shutdown(fd, syscall.SHUT_WR))
}

// Close closes a descriptor.
func (r *Report) Close(fd int) {
	r.Must("close", syscall.Close(fd))
}

// Abort closes with linger 0: on TCP the peer gets a reset.
func (r *Report) Abort(fd int) {
	r.Must("set linger", syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}))
	r.Close(fd)
}

// OutQ is SIOCOUTQ: on TCP the bytes not yet acknowledged, on unix the memory the peer has not read.
func (r *Report) OutQ(fd int) int {
	return r.queue(fd, syscall.TIOCOUTQ)
}

// InQ is SIOCINQ: the bytes that a read would return.
func (r *Report) InQ(fd int) int {
	return r.queue(fd, syscall.TIOCINQ)
}

func (r *Report) queue(fd int, request uintptr) int {
	var n int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		r.Must("read the queue length", errno)
	}
	return int(n)
}

// Deaf makes a socket drop every segment that arrives for it, with a socket filter that lets nothing
// through: the other end then sees a silent path. Where the kernel asks for a privilege, it skips.
func (r *Report) Deaf(fd int) {
	const returnNothing = syscall.BPF_RET | syscall.BPF_K
	program := []syscall.SockFilter{{Code: returnNothing, K: 0}}
	fprog := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := syscall.Syscall6(sysSetsockopt, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_ATTACH_FILTER,
		uintptr(unsafe.Pointer(&fprog)), unsafe.Sizeof(fprog), 0)
	switch errno {
	case 0:
	case syscall.EPERM:
		r.Skip("this kernel lets only root attach a socket filter")
	default:
		r.Must("attach a socket filter", errno)
	}
}

// Hearing undoes Deaf.
func (r *Report) Hearing(fd int) {
	r.Set(fd, syscall.SOL_SOCKET, syscall.SO_DETACH_FILTER, 0)
}

// RequireRoot skips the experiment for other users.
func (r *Report) RequireRoot(why string) {
	if os.Geteuid() != 0 {
		r.Skip("needs root: %s", why)
	}
}
