//go:build linux && !anysock_portable

package sys

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Poller is an epoll instance (epoll(7)) whose wait is on the Go runtime's
// own poller: it blocks a goroutine, not a thread, and Close or a deadline
// ends it. It holds no read or write side of the FDs it watches. Add, Modify
// and Remove are safe for concurrent use; one goroutine may Wait.
type Poller struct {
	file   *os.File
	rc     syscall.RawConn
	closed atomic.Bool
	buf    [64]unix.EpollEvent
}

// NewPoller makes an empty Poller; it costs one descriptor.
func NewPoller() (*Poller, error) {
	if err := check(CallPoll, -1); err != nil {
		return nil, err
	}
	n, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// The runtime takes a descriptor into its poller if it is non-blocking.
	if err := unix.SetNonblock(n, true); err != nil {
		unix.Close(n)
		return nil, err
	}
	f := os.NewFile(uintptr(n), "epoll")
	rc, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Poller{file: f, rc: rc}, nil
}

// Add watches fd for want, level- or edge-triggered, under key. A closed FD
// leaves by itself.
func (p *Poller) Add(fd *FD, key uint64, want Ready, edge bool) error {
	return p.ctl(unix.EPOLL_CTL_ADD, fd, key, want, edge)
}

// Modify changes what fd is watched for and looks at its state anew.
func (p *Poller) Modify(fd *FD, key uint64, want Ready, edge bool) error {
	return p.ctl(unix.EPOLL_CTL_MOD, fd, key, want, edge)
}

// Remove stops watching fd.
func (p *Poller) Remove(fd *FD) error { return p.ctl(unix.EPOLL_CTL_DEL, fd, 0, 0, false) }

func (p *Poller) ctl(op int, fd *FD, key uint64, want Ready, edge bool) error {
	ev := unix.EpollEvent{Events: epollMask(want), Fd: int32(key), Pad: int32(key >> 32)}
	if edge {
		ev.Events |= unix.EPOLLET
	}
	return fd.control(func(n int) error {
		if err := check(CallPoll, n); err != nil {
			return err
		}
		var err error
		if cerr := p.rc.Control(func(ep uintptr) { err = unix.EpollCtl(int(ep), op, n, &ev) }); cerr != nil {
			return net.ErrClosed
		}
		return err
	})
}

func epollMask(r Ready) uint32 {
	var m uint32
	if r&Readable != 0 {
		m |= unix.EPOLLIN
	}
	if r&Writable != 0 {
		m |= unix.EPOLLOUT
	}
	if r&PeerEnd != 0 {
		m |= unix.EPOLLRDHUP
	}
	return m
}

func readyMask(m uint32) Ready {
	var r Ready
	for _, x := range [...]struct {
		ep uint32
		r  Ready
	}{{unix.EPOLLIN, Readable}, {unix.EPOLLOUT, Writable}, {unix.EPOLLRDHUP, PeerEnd}, {unix.EPOLLHUP, HungUp}, {unix.EPOLLERR, Failed}} {
		if m&x.ep != 0 {
			r |= x.r
		}
	}
	return r
}

// SetDeadline bounds Wait; a deadline in the past wakes it.
func (p *Poller) SetDeadline(t time.Time) error { return p.file.SetReadDeadline(t) }

// Wait appends what became ready to events, at least one, and returns it. The
// error is os.ErrDeadlineExceeded, net.ErrClosed or an errno.
func (p *Poller) Wait(events []PollEvent) ([]PollEvent, error) {
	var n int
	var perr error
	err := p.rc.Read(func(ep uintptr) bool {
		for {
			if perr = check(CallPoll, int(ep)); perr == nil {
				n, perr = unix.EpollWait(int(ep), p.buf[:], 0)
			}
			if perr != unix.EINTR {
				return perr != nil || n > 0
			}
		}
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return events, os.ErrDeadlineExceeded
	case err != nil && p.closed.Load():
		return events, net.ErrClosed
	case err != nil:
		return events, err
	case perr != nil:
		return events, perr
	}
	for _, ev := range p.buf[:n] {
		events = append(events, PollEvent{
			Key:   uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32,
			Ready: readyMask(ev.Events),
		})
	}
	return events, nil
}

// Close ends a pending Wait and releases the descriptor.
func (p *Poller) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	return p.file.Close()
}

// Readiness looks at fd without waiting and consumes nothing (poll(2)).
func (fd *FD) Readiness() (Ready, error) {
	var r Ready
	err := fd.control(func(n int) error {
		p := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP}}
		err := retryEINTR(func() error {
			if err := check(CallPoll, n); err != nil {
				return err
			}
			_, err := unix.Poll(p, 0)
			return err
		})
		// poll's bits are epoll's (epoll_ctl(2)).
		r = readyMask(uint32(uint16(p[0].Revents)))
		return err
	})
	return r, err
}
