//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly) || anysock_portable

package sys

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// This file makes sockets of package net look like those that are made step by
// step; what they do once they are made is in fd_net.go.

// A Socket remembers what it is told until Listen or Connect carries it out
// through package net. What package net cannot do says ErrUnsupported.
type Socket struct {
	family Family
	bound  *Addr
	held   net.Listener // of a Unix path: package net binds and listens in one
	opts   map[Option]int
}

// Open makes a Socket.
func Open(family Family) (*Socket, error) {
	if err := checkAgain(CallSocket); err != nil {
		return nil, err
	}
	if family == Vsock {
		return nil, errors.ErrUnsupported
	}
	return &Socket{family: family, opts: map[Option]int{}}, nil
}

// Num is always -1: package net keeps the descriptor.
func (s *Socket) Num() int { return -1 }

// Family is the protocol family.
func (s *Socket) Family() Family { return s.family }

// SetInt remembers the options package net can carry out and says
// ErrUnsupported for the others. ReuseAddr is how package net binds; it cannot
// be turned off.
func (s *Socket) SetInt(o Option, v int) error {
	if err := checkAgain(CallSetsockopt); err != nil {
		return err
	}
	switch o {
	case NoDelay, KeepAlive, KeepIdle, KeepInterval, KeepCount, ReceiveBuffer, SendBuffer, V6Only, BindNoPort:
	case ReuseAddr:
		if v == 0 {
			return errors.ErrUnsupported
		}
	default:
		return errors.ErrUnsupported
	}
	s.opts[o] = v
	return nil
}

// Int reads back what SetInt remembered.
func (s *Socket) Int(o Option) (int, error) {
	if v, ok := s.opts[o]; ok {
		return v, nil
	}
	return 0, errors.ErrUnsupported
}

// SetVsockConnectTimeout says ErrUnsupported.
func (s *Socket) SetVsockConnectTimeout(time.Duration) error { return errors.ErrUnsupported }

// SetInterface says ErrUnsupported.
func (s *Socket) SetInterface(string) error { return errors.ErrUnsupported }

// SetMode says ErrUnsupported.
func (s *Socket) SetMode(uint32) error { return errors.ErrUnsupported }

// Bind takes a Unix path by listening on it at once: who connects before Listen
// is queued. An IP address is only tried, and a free port chosen: package net
// binds where it listens or connects, so that nothing is held until then, and a
// conflict may show late.
func (s *Socket) Bind(a Addr) error {
	if err := checkAgain(CallBind); err != nil {
		return err
	}
	if s.opts[BindNoPort] != 0 && a.Family.Inet() && a.IP.Port() == 0 {
		if err := ownAddress(a); err != nil {
			return err
		}
		s.bound = &a
		return nil
	}
	ln, err := s.listen(a)
	if err != nil {
		return err
	}
	s.bound = &a
	if a.Family == Unix {
		s.held = ln
		return nil
	}
	a.IP = netip.AddrPortFrom(a.IP.Addr(), fromNet(ln.Addr()).IP.Port())
	return errno(ln.Close())
}

// ownAddress says EADDRNOTAVAIL of an address that is not this machine's.
func ownAddress(a Addr) error {
	if a.IP.Addr().IsUnspecified() {
		return nil
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a.IP))
	if err != nil {
		return errno(err)
	}
	return c.Close()
}

// LocalAddr is the bound address.
func (s *Socket) LocalAddr() (Addr, error) {
	if s.bound == nil {
		return Addr{}, errors.ErrUnsupported
	}
	return *s.bound, nil
}

func (s *Socket) network() string {
	switch {
	case s.family == Unix:
		return "unix"
	case s.family == Inet4:
		return "tcp4"
	case s.opts[V6Only] != 0:
		return "tcp6"
	}
	return "tcp"
}

func (s *Socket) listen(a Addr) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), s.network(), a.Net().String())
	if err != nil {
		return nil, errno(err)
	}
	if ul, ok := ln.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false) // the owner of the path does that
	}
	return ln, nil
}

// Listen listens through package net, which chooses the backlog.
func (s *Socket) Listen(int) (*FD, error) {
	if err := checkAgain(CallListen); err != nil {
		return nil, err
	}
	ln := s.held
	if ln == nil {
		a := IPAddr(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
		switch {
		case s.bound != nil:
			a = *s.bound
		case s.family == Inet4:
			a = IPAddr(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
		}
		var err error
		if ln, err = s.listen(a); err != nil {
			return nil, err
		}
	}
	s.held = nil
	return &FD{family: s.family, ln: ln, opts: s.opts, local: fromNet(ln.Addr())}, nil
}

// Connect starts connecting in the background; FinishConnect tells the
// outcome. On a Unix socket the outcome is there at once, and a failure is
// returned here.
func (s *Socket) Connect(a Addr) (*FD, error) {
	if err := checkAgain(CallConnect); err != nil {
		return nil, err
	}
	if err := s.letGo(); err != nil {
		return nil, err
	}
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	network := s.network()
	if network == "tcp" {
		network = "tcp6"
		if a.IP.Addr().Is4In6() {
			network = "tcp4"
		}
	}
	if s.bound != nil {
		from := *s.bound
		if network == "tcp4" && from.IP.Addr() == netip.IPv6Unspecified() {
			from = IPAddr(netip.AddrPortFrom(netip.IPv4Unspecified(), from.IP.Port()))
		}
		d.LocalAddr = from.Net()
	}
	ctx, cancel := context.WithCancel(context.Background())
	fd := &FD{family: s.family, opts: s.opts, cancel: cancel, dialed: make(chan struct{}), wake: make(chan struct{}, 1)}
	go fd.dial(ctx, d, network, a.Net().String())
	if s.family == Unix {
		<-fd.dialed
		if fd.dialErr != nil {
			cancel()
			return nil, errno(fd.dialErr)
		}
	}
	return fd, nil
}

// letGo gives up the path that Bind listened on, for a connection from there.
func (s *Socket) letGo() error {
	ln := s.held
	if ln == nil {
		return nil
	}
	s.held = nil
	err := ln.Close()
	if s.bound.Path[0] != '@' {
		err = errors.Join(err, os.Remove(s.bound.Path))
	}
	return err
}

// Close forgets the socket.
func (s *Socket) Close() error {
	ln := s.held
	if ln == nil {
		return nil
	}
	s.held = nil
	return errno(ln.Close())
}
