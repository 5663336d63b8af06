//go:build (darwin || freebsd || netbsd || openbsd || dragonfly) && !anysock_portable

package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

const vsockDomain = 0

func vsockSockaddr(Addr) (unix.Sockaddr, error) { return nil, unix.EAFNOSUPPORT }

func fromVsock(unix.Sockaddr) (Addr, error) { return Addr{}, unix.EAFNOSUPPORT }

// SetVsockConnectTimeout says EAFNOSUPPORT.
func (s *Socket) SetVsockConnectTimeout(time.Duration) error { return unix.EAFNOSUPPORT }
