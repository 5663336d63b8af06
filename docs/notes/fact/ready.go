//go:build linux

// Waiting: poll(2) for one descriptor, edge-triggered epoll, and a bounded wait for a condition.

package fact

import (
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Patience bounds a wait for something that must happen; Quiet is how long nothing must happen
// before the note says that nothing does.
const (
	Patience = 5 * time.Second
	Quiet    = 150 * time.Millisecond
)

// Events of poll(2) and epoll(7), which share their values.
const (
	In    = syscall.EPOLLIN
	Out   = syscall.EPOLLOUT
	Err   = syscall.EPOLLERR
	Hup   = syscall.EPOLLHUP
	RdHup = syscall.EPOLLRDHUP
)

// Events spells a set of events; none is "nothing".
func Events(set uint32) string {
	var names []string
	for _, e := range []struct {
		bit  uint32
		name string
	}{{In, "IN"}, {Out, "OUT"}, {RdHup, "RDHUP"}, {Hup, "HUP"}, {Err, "ERR"}} {
		if set&e.bit != 0 {
			names = append(names, e.name)
		}
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, "|")
}

// Wait is poll(2): it returns the events that hold, "nothing" at the timeout. It consumes nothing.
func Wait(fd int, events uint32, timeout time.Duration) string {
	type pollFD struct {
		fd      int32
		events  int16
		revents int16
	}
	deadline := time.Now().Add(timeout)
	for {
		p := pollFD{fd: int32(fd), events: int16(events)}
		ts := syscall.NsecToTimespec(max(0, time.Until(deadline)).Nanoseconds())
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != syscall.EINTR { // the runtime's preemption signals interrupt the wait
			return Events(uint32(uint16(p.revents)))
		}
	}
}

// Poll returns the events that hold now, among all that a reader or a writer could ask for.
func Poll(fd int) string {
	return Wait(fd, In|Out|RdHup, 0)
}

// Until calls the condition every millisecond until it holds or Patience is over, and says whether it held.
func Until(condition func() bool) bool {
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

// Edges is an edge-triggered epoll set of one descriptor.
type Edges struct{ epfd int }

// Edges watches fd for all events, edge-triggered, and takes away the events that hold already.
func (r *Report) Edges(fd int) Edges {
	e := r.epoll(fd, In|Out|RdHup|syscall.EPOLLET&0xffffffff)
	e.Next(0)
	return e
}

// Levels watches fd for the given events, level-triggered.
func (r *Report) Levels(fd int, events uint32) Edges {
	return r.epoll(fd, events)
}

func (r *Report) epoll(fd int, events uint32) Edges {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	r.Must("make an epoll set", err)
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	r.Must("add to the epoll set", syscall.EpollCtl(epfd, syscall.EPOLL_CTL_ADD, fd, &ev))
	return Edges{epfd}
}

// Next returns the next wakeup, "nothing" at the timeout.
func (e Edges) Next(timeout time.Duration) string {
	ev := make([]syscall.EpollEvent, 1)
	deadline := time.Now().Add(timeout)
	for {
		n, err := syscall.EpollWait(e.epfd, ev, int(max(0, time.Until(deadline)).Milliseconds()))
		switch {
		case err == syscall.EINTR:
		case n == 1:
			return Events(ev[0].Events)
		case !time.Now().Before(deadline) || timeout == 0:
			return "nothing"
		}
	}
}
