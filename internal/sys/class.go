package sys

import (
	"errors"
	"runtime"
	"syscall"
)

// A Class groups the errnos that mean the same to a stream socket.
type Class int

// The classes. Other is everything that has no meaning of its own.
const (
	Other        Class = iota
	Reset              // the peer aborted: ECONNRESET, EPIPE
	TimedOut           // nothing was heard: ETIMEDOUT
	Unreachable        // EHOSTUNREACH, ENETUNREACH, ENETDOWN, EHOSTDOWN
	Refused            // ECONNREFUSED; for a Unix path also ENOENT
	InUse              // EADDRINUSE
	NotLocal           // EADDRNOTAVAIL
	Denied             // EACCES, EPERM
	Exhausted          // EMFILE, ENFILE, ENOBUFS, ENOMEM
	Aborted            // ECONNABORTED: one connection died in the accept queue
	Again              // EAGAIN: a Unix listener's queue is full
	NotConnected       // ENOTCONN
	Missing            // ENOENT
	Unsupported        // EAFNOSUPPORT, EPROTONOSUPPORT, EOPNOTSUPP
)

var classes = map[syscall.Errno]Class{
	syscall.ECONNRESET:      Reset,
	syscall.EPIPE:           Reset,
	syscall.ETIMEDOUT:       TimedOut,
	syscall.EHOSTUNREACH:    Unreachable,
	syscall.ENETUNREACH:     Unreachable,
	syscall.ENETDOWN:        Unreachable,
	syscall.EHOSTDOWN:       Unreachable,
	syscall.ECONNREFUSED:    Refused,
	syscall.EADDRINUSE:      InUse,
	syscall.EADDRNOTAVAIL:   NotLocal,
	syscall.EACCES:          Denied,
	syscall.EPERM:           Denied,
	syscall.EMFILE:          Exhausted,
	syscall.ENFILE:          Exhausted,
	syscall.ENOBUFS:         Exhausted,
	syscall.ENOMEM:          Exhausted,
	syscall.ECONNABORTED:    Aborted,
	syscall.EAGAIN:          Again,
	syscall.ENOTCONN:        NotConnected,
	syscall.ENOENT:          Missing,
	syscall.EAFNOSUPPORT:    Unsupported,
	syscall.EPROTONOSUPPORT: Unsupported,
	syscall.EOPNOTSUPP:      Unsupported,
}

// winsock has the same for the numbers Windows uses (winsock2.h).
var winsock = map[syscall.Errno]Class{
	10013: Denied,
	10024: Exhausted,
	10045: Unsupported,
	10047: Unsupported,
	10048: InUse,
	10049: NotLocal,
	10050: Unreachable,
	10051: Unreachable,
	10053: Reset, // WSAECONNABORTED: also how a local time-out of a live connection shows
	10054: Reset,
	10055: Exhausted,
	10057: NotConnected,
	10060: TimedOut,
	10061: Refused,
	10065: Unreachable,
}

// ClassOf finds the class of the errno in err, Other if there is none.
func ClassOf(err error) Class {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return Other
	}
	if runtime.GOOS == "windows" {
		if c, ok := winsock[errno]; ok {
			return c
		}
	}
	return classes[errno]
}

// OneConnections knows the errors of accept(2) that concern one connection
// and not the listener: it died in the queue, a firewall forbids it, or its
// network error is passed on, as Linux does.
func OneConnections(err error) bool {
	switch ClassOf(err) {
	case Aborted, Unreachable, Denied, Unsupported:
		return true
	}
	return errors.Is(err, syscall.EPROTO) || errors.Is(err, syscall.ENOPROTOOPT)
}
