// Package sys holds every system call anysock makes: it is the only importer
// of golang.org/x/sys/unix, and each call passes one switch (Inject) through
// which a test can make it fail with any error.
//
// Two types carry a descriptor through its life. A Socket is a descriptor
// that is neither connected nor listening; its owner serialises the calls. An
// FD is connected, connecting or listening; it is registered with the Go
// runtime's poller, every wait is cancelled by a deadline, and the descriptor
// number is released only after the last call on it has returned.
//
// On platforms without a back end of their own (see backendNet) the same two
// types stand on package net.
package sys

import "sync/atomic"

// A Call names a system call at the place where it is made.
type Call string

// The calls that pass the switch.
const (
	CallSocket       Call = "socket"
	CallSetsockopt   Call = "setsockopt"
	CallBind         Call = "bind"
	CallListen       Call = "listen"
	CallAccept       Call = "accept"
	CallConnect      Call = "connect"
	CallConnectError Call = "connect-error" // getsockopt(SO_ERROR) after a non-blocking connect
	CallRecv         Call = "recv"
	CallPeek         Call = "peek"
	CallSend         Call = "send"
	CallSendv        Call = "sendv"
	CallSendfile     Call = "sendfile"
	CallSplice       Call = "splice"
	CallPipe         Call = "pipe"
	CallShutdown     Call = "shutdown"
	CallReset        Call = "reset"        // connect(AF_UNSPEC), where SO_LINGER was refused
	CallUnacked      Call = "unacked"      // ioctl(SIOCOUTQ)
	CallUnread       Call = "unread"       // ioctl(SIOCINQ)
	CallInfo         Call = "info"         // getsockopt(TCP_INFO)
	CallOriginalDst  Call = "original-dst" // getsockopt(SO_ORIGINAL_DST)
	CallPoll         Call = "poll"         // epoll_create1, epoll_ctl, epoll_wait
)

// A Fault decides what a system call does instead of running. It is asked
// before every call with the name of the call and the descriptor (-1 where
// there is none yet); a nil error lets the call run. It must be safe for
// concurrent use and must not make calls of this package.
type Fault func(call Call, fd int) error

var fault atomic.Pointer[Fault]

// Inject installs f until restore is called. One fault is active at a time;
// installing a second while one is active is a programming error and panics.
// Inject is for tests: production code never calls it.
func Inject(f Fault) (restore func()) {
	if !fault.CompareAndSwap(nil, &f) {
		panic("sys.Inject: a fault is installed already")
	}
	return func() { fault.Store(nil) }
}

// check asks the installed fault, if there is one.
func check(call Call, fd int) error {
	f := fault.Load()
	if f == nil {
		return nil
	}
	return (*f)(call, fd)
}
