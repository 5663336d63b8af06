//go:build linux

// The epoll server: one edge-triggered set, one buffer, recvfrom and sendto through the raw entry.

package main

import (
	"syscall"
	"unsafe"
)

// received is how much one call receives; the io_uring server has buffers of this size.
const received = 64 << 10

// recv and send must not be called on a blocking descriptor: the scheduler does not know of them.
func recv(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(sysRecvfrom, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func send(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(sysSendto, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// An epollSet is bare, because package syscall's EpollWait copies.
type epollSet struct {
	fd     int
	events [512]syscall.EpollEvent
}

func newEpollSet() (*epollSet, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return &epollSet{fd: fd}, err
}

func (s *epollSet) watch(op, fd int, events uint32) error {
	return syscall.EpollCtl(s.fd, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait waits at most so many milliseconds, -1 is for ever. The scheduler knows that it blocks.
func (s *epollSet) wait(milliseconds int) int {
	n, _, errno := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events[0])),
		uintptr(len(s.events)), uintptr(milliseconds), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Events of a connection. Edge-triggered, the kernel does not look at a socket again after it was emptied.
const (
	wanted = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLET&0xffffffff
	ending = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
)

type epollServer struct {
	*epollSet
	held   [][]byte // by descriptor: what a peer did not take; nothing more is read from it meanwhile
	buffer []byte
}

// serveEpoll echoes until the process ends.
func serveEpoll(listener int) error {
	set, err := newEpollSet()
	if err != nil {
		return err
	}
	s := &epollServer{set, make([][]byte, files+most()), make([]byte, received)}
	if err := s.watch(syscall.EPOLL_CTL_ADD, listener, syscall.EPOLLIN); err != nil {
		return err
	}
	for {
		for i := range s.wait(-1) {
			if fd := int(s.events[i].Fd); fd == listener {
				s.accept(listener)
			} else if !s.ready(fd, s.events[i].Events) {
				s.held[fd] = nil
				syscall.Close(fd)
			}
		}
	}
}

func (s *epollServer) accept(listener int) {
	for {
		fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if fd >= len(s.held) || s.watch(syscall.EPOLL_CTL_ADD, fd, wanted) != nil {
			syscall.Close(fd)
		}
	}
}

// ready tells whether the connection goes on.
func (s *epollServer) ready(fd int, events uint32) bool {
	if rest := s.held[fd]; len(rest) > 0 {
		n, errno := send(fd, rest)
		if errno != 0 {
			return errno == syscall.EAGAIN
		}
		if s.held[fd] = rest[n:]; n < len(rest) {
			return true
		}
		s.held[fd] = nil
		return s.watch(syscall.EPOLL_CTL_MOD, fd, wanted) == nil // tells anew what there is to read
	}
	for {
		n, errno := recv(fd, s.buffer)
		if errno != 0 || n == 0 {
			return errno == syscall.EAGAIN
		}
		sent, errno := send(fd, s.buffer[:n])
		if errno != 0 && errno != syscall.EAGAIN {
			return false
		}
		if sent = max(0, sent); sent < n {
			s.held[fd] = append([]byte(nil), s.buffer[sent:n]...)
			return s.watch(syscall.EPOLL_CTL_MOD, fd, wanted|syscall.EPOLLOUT) == nil
		}
		// A short read has emptied the socket; what comes next is an event of its own, unless the end came
		// with the bytes.
		if n < len(s.buffer) && events&ending == 0 {
			return true
		}
	}
}
