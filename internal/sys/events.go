package sys

import "syscall"

// ErrWouldBlock is the error of a raw call that would have to wait.
const ErrWouldBlock = syscall.EAGAIN

// Events is what an event loop is told of a socket, in the bits of Linux
// (epoll_ctl(2)).
type Events uint32

// The conditions. EventError and EventHangUp are always reported. EventEdge
// and EventExclusive are ways of asking.
const (
	EventIn        Events = 0x1
	EventOut       Events = 0x4
	EventError     Events = 0x8
	EventHangUp    Events = 0x10
	EventPeerEnd   Events = 0x2000
	EventExclusive Events = 1 << 28
	EventEdge      Events = 1 << 31
)
