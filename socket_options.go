package anysock

import (
	"errors"
	"strconv"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// The socket options, one method each, by level and name. Each is set at once
// (setsockopt(2)) and again on every descriptor that Connect makes anew. A
// platform without the option says ErrUnsupported; a socket that listens, is
// connected or closed is KindState or KindClosed.

func (s *Socket) setInt(name string, o sys.Option, v int) error {
	return s.set(name, strconv.Itoa(v), func(d *sys.Socket) error { return d.SetInt(o, v) })
}

func boolInt(on bool) int {
	if on {
		return 1
	}
	return 0
}

// SetReuseAddr lets Bind take a port whose earlier connections are still in
// TIME_WAIT (SO_REUSEADDR, socket(7)). Set it before Bind.
func (s *Socket) SetReuseAddr(on bool) error {
	return s.setInt("SO_REUSEADDR", sys.ReuseAddr, boolInt(on))
}

// SetReusePort lets several sockets listen on the same port, among which the
// kernel spreads connections (SO_REUSEPORT, socket(7)). Set it before Bind.
func (s *Socket) SetReusePort(on bool) error {
	return s.setInt("SO_REUSEPORT", sys.ReusePort, boolInt(on))
}

// SetReceiveBuffer sets the kernel's receive buffer in bytes (SO_RCVBUF;
// Linux doubles it and turns automatic sizing off). Before Listen or Connect
// it also decides the TCP window scale.
func (s *Socket) SetReceiveBuffer(bytes int) error {
	return s.setInt("SO_RCVBUF", sys.ReceiveBuffer, bytes)
}

// SetSendBuffer sets the kernel's send buffer in bytes (SO_SNDBUF).
func (s *Socket) SetSendBuffer(bytes int) error {
	return s.setInt("SO_SNDBUF", sys.SendBuffer, bytes)
}

// SetInterface binds to a network interface by name (SO_BINDTODEVICE,
// socket(7); IP_BOUND_IF on macOS).
func (s *Socket) SetInterface(name string) error {
	return s.set("SO_BINDTODEVICE", name, func(d *sys.Socket) error { return d.SetInterface(name) })
}

// SetV6Only decides whether a "tcp" socket bound to an IPv6 address takes
// IPv4 connections too (IPV6_V6ONLY, ipv6(7)). Set it before Bind.
func (s *Socket) SetV6Only(on bool) error {
	return s.setInt("IPV6_V6ONLY", sys.V6Only, boolInt(on))
}

// SetBindNoPort delays the choice of a port from Bind with port 0 to Connect,
// which then needs only a unique pair (IP_BIND_ADDRESS_NO_PORT, ip(7), Linux).
func (s *Socket) SetBindNoPort(on bool) error {
	return s.setInt("IP_BIND_ADDRESS_NO_PORT", sys.BindNoPort, boolInt(on))
}

// SetNoDelay turns Nagle's algorithm off, which is the default here
// (TCP_NODELAY, tcp(7)). It is short for Options.Delay.
func (s *Socket) SetNoDelay(on bool) error {
	err := s.setInt("TCP_NODELAY", sys.NoDelay, boolInt(on))
	if err == nil {
		s.mu.Lock()
		s.Options.Delay = !on
		s.mu.Unlock()
	}
	return err
}

// SetKeepAlive sets TCP keep-alive (SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL,
// TCP_KEEPCNT). It is short for Options.KeepAlive.
func (s *Socket) SetKeepAlive(k KeepAlive) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	if err := s.in(OpOption, "SO_KEEPALIVE", StateNew, StateBound); err != nil {
		return err
	}
	s.Options.KeepAlive = k
	err := s.applyOptions(s.s)
	s.emit(start, OpOption, "SO_KEEPALIVE="+strconv.Itoa(boolInt(!k.Disable)), "", "", err)
	return err
}

// SetMode sets the permissions of the socket file that Bind makes for a Unix
// path; 0600 without it. Set it before Bind.
func (s *Socket) SetMode(mode uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.network != "unix" {
		return unsupported(OpOption, "mode", s.network+" has no file")
	}
	if err := s.in(OpOption, "mode", StateNew); err != nil {
		return err
	}
	s.mode = &mode
	return nil
}

// applyOptions sets what Options asks for on a descriptor about to listen or
// connect.
func (s *Socket) applyOptions(d *sys.Socket) error {
	return s.Options.apply(d.Family(), d.SetInt)
}

// apply sets the options through set. Those the platform lacks are left out:
// they tune, and the contract holds without them.
func (o Options) apply(f sys.Family, set func(sys.Option, int) error) error {
	o = o.withDefaults()
	try := func(name string, opt sys.Option, v int) error {
		err := set(opt, v)
		if err == nil || errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		return opError(OpOption, name+"="+strconv.Itoa(v), err)
	}
	var errs []error
	if o.ReceiveBuffer > 0 {
		errs = append(errs, try("SO_RCVBUF", sys.ReceiveBuffer, o.ReceiveBuffer))
	}
	if o.SendBuffer > 0 {
		errs = append(errs, try("SO_SNDBUF", sys.SendBuffer, o.SendBuffer))
	}
	if f.Inet() {
		errs = append(errs, try("TCP_NODELAY", sys.NoDelay, boolInt(!o.Delay)))
		k := o.KeepAlive
		errs = append(errs, try("SO_KEEPALIVE", sys.KeepAlive, boolInt(!k.Disable)))
		if !k.Disable {
			errs = append(errs,
				try("TCP_KEEPIDLE", sys.KeepIdle, wholeSeconds(k.Idle)),
				try("TCP_KEEPINTVL", sys.KeepInterval, wholeSeconds(k.Interval)),
				try("TCP_KEEPCNT", sys.KeepCount, k.Count))
		}
		if o.LostAfter > 0 {
			_ = set(sys.MaxRetransmit, retransmitCap(o.LostAfter)) // makes a verdict prompt; kernels before 6.15 lack it
		}
	}
	return errors.Join(errs...)
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
