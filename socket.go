package anysock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// A Socket is a stream socket before it is connected or listening: it is
// created, given options and a name, and then listens or connects, each by
// its own call, in the order of the classical interface. A call in the wrong
// order is an error of KindState that says what is missing.
//
// Listen and Connect hand the descriptor to a Listener or a Conn, and the
// Socket is used up. A failed Connect leaves it as it was before, with a new
// descriptor, so that connecting again is how to retry.
//
// Methods may be called from several goroutines; they take turns, except
// Close, which also ends a Connect at work.
type Socket struct {
	// Options, Group and Trace go to the Conn or the Listener. Set them
	// before the calls they concern.
	Options Options
	Group   *Group
	Trace   Trace
	// AttemptTimeout bounds each address that Connect tries; 0 is
	// DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// Resolver is used by Connect for host names; nil is net.DefaultResolver.
	Resolver *net.Resolver

	id      uint64
	network string

	mu          sync.Mutex // held by every call but Close
	s           *sys.Socket
	replay      []setting // options set so far, for a new descriptor
	bound       *sys.Addr // as given to Bind
	stale       bool      // the descriptor has been used, and making it anew failed
	untilListen bool      // keep a Unix path's directory locked from Bind to Listen
	mode        *uint32
	path        *unixPath

	smu    sync.Mutex // guards what follows
	state  State
	cancel context.CancelFunc // ends a Connect at work
}

// A setting is an option as it was set.
type setting struct {
	name  string
	apply func(*sys.Socket) error
}

// NewSocket makes a stream socket (socket(2)) of network "tcp", "tcp4", "tcp6"
// or "unix". "tcp" is dual-stack, or IPv4 once it is bound to or connected
// with an IPv4 address, or where there is no IPv6. The errors are KindAddress
// for another network, KindLimit, KindPermission.
func NewSocket(network string) (*Socket, error) {
	s := &Socket{id: nextSocket(), network: network}
	var err error
	switch network {
	case "tcp":
		s.s, err = sys.Open(sys.Inet6)
		if kindOf(err) == KindUnsupported {
			s.s, err = sys.Open(sys.Inet4)
		}
	case "tcp4":
		s.s, err = sys.Open(sys.Inet4)
	case "tcp6":
		s.s, err = sys.Open(sys.Inet6)
	case "unix":
		s.s, err = sys.Open(sys.Unix)
	default:
		return nil, &Error{Op: OpSocket, Addr: network, Kind: KindAddress, Err: errors.New("unknown network"), Hint: "use tcp, tcp4, tcp6 or unix; other transports start at Dial and Listen"}
	}
	if err != nil {
		return nil, opError(OpSocket, network, err)
	}
	if err := s.familyDefaults(s.s); err != nil {
		s.s.Close()
		return nil, opError(OpOption, "IPV6_V6ONLY", err)
	}
	return s, nil
}

// familyDefaults makes "tcp" dual-stack and "tcp6" IPv6 only, whatever the
// system's default.
func (s *Socket) familyDefaults(d *sys.Socket) error {
	if d.Family() != sys.Inet6 {
		return nil
	}
	v := 0
	if s.network == "tcp6" {
		v = 1
	}
	err := d.SetInt(sys.V6Only, v)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// ID is the socket's number in this process, as in Event.Socket.
func (s *Socket) ID() uint64 { return s.id }

// State is where the socket is in its life.
func (s *Socket) State() State {
	s.smu.Lock()
	defer s.smu.Unlock()
	return s.state
}

func (s *Socket) setState(st State) {
	s.smu.Lock()
	if s.state != StateClosed {
		s.state = st
	}
	s.smu.Unlock()
}

// in reports an error unless the socket is in one of the states; say names
// what a socket in each other state lacks.
func (s *Socket) in(op, addr string, ok ...State) error {
	st := s.State()
	for _, x := range ok {
		if st == x {
			return nil
		}
	}
	switch st {
	case StateNew:
		return stateError(op, addr, "the socket has no name yet: call Bind first")
	case StateBound:
		return stateError(op, addr, "the socket is bound already: make a new one for another name")
	case StateListening:
		return stateError(op, addr, "the socket is listening: accept from its Listener, or make a new one")
	case StateConnecting, StateWaiting:
		return stateError(op, addr, "the socket is connecting")
	case StateConnected:
		return stateError(op, addr, "the socket is connected: use its Conn, or make a new one")
	}
	return closedError(op, addr)
}

// emit reports a step.
func (s *Socket) emit(start time.Time, op, detail, local, peer string, err error) {
	if s.Trace == nil {
		return
	}
	s.Trace(Event{
		Time: start, Duration: time.Since(start), Op: op, Socket: s.id, Network: s.network,
		Local: local, Peer: peer, Detail: detail, State: s.State(), Err: err,
	})
}

// set applies an option now and to every descriptor made later.
func (s *Socket) set(name, value string, apply func(*sys.Socket) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	detail := name + "=" + value
	if err := s.in(OpOption, detail, StateNew, StateBound); err != nil {
		return err
	}
	err := apply(s.s)
	if err != nil {
		err = opError(OpOption, detail, err)
	} else {
		s.replay = append(s.replay, setting{detail, apply})
	}
	s.emit(start, OpOption, detail, "", "", err)
	return err
}

// Bind names the socket (bind(2)): for tcp "host:port" with a numeric host, or
// an empty one for all addresses, and port 0 for a free port; for unix a path,
// or "@name" for an abstract name. A client binds an address with port 0 to
// choose its network.
//
// A Unix path is made with the mode of SetMode, 0600 otherwise. A socket file
// that nobody answers on is replaced, under a lock of its directory; anything
// else in the way is KindInUse. Binding twice is KindState.
func (s *Socket) Bind(addr string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	if err := s.in(OpBind, addr, StateNew); err != nil {
		return err
	}
	a, err := s.parse(addr)
	if err == nil {
		err = s.bind(a)
	}
	if err != nil {
		err = opError(OpBind, s.network+":"+addr, err)
		s.emit(start, OpBind, "", addr, "", err)
		return err
	}
	s.bound = &a
	s.setState(StateBound)
	s.emit(start, OpBind, "", s.localName(), "", nil)
	return nil
}

// parse reads a numeric address of the socket's network.
func (s *Socket) parse(addr string) (sys.Addr, error) {
	if s.network == "unix" {
		return parseUnixPath(addr)
	}
	wildcard := netip.IPv6Unspecified()
	if s.s.Family() == sys.Inet4 {
		wildcard = netip.IPv4Unspecified()
	}
	return parseNumeric(s.network, addr, wildcard)
}

// parseNumeric reads "host:port" with an IP address, or with the wildcard for
// an empty host or "*".
func parseNumeric(network, addr string, wildcard netip.Addr) (sys.Addr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return sys.Addr{}, badAddress(err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return sys.Addr{}, badAddress(errors.New("the port must be a number up to 65535"))
	}
	ip := wildcard
	if host != "" && host != "*" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return sys.Addr{}, errNotNumeric
		}
		ip = ip.Unmap()
	}
	if network == "tcp4" && !ip.Is4() || network == "tcp6" && ip.Is4() {
		return sys.Addr{}, badAddress(errors.New(host + " is not an address of " + network))
	}
	return sys.IPAddr(netip.AddrPortFrom(ip, uint16(p))), nil
}

// errNotNumeric is a host name where an address is needed.
var errNotNumeric = &Error{Op: "parse", Kind: KindAddress, Err: errors.New("a numeric address is needed here, not a name")}

func badAddress(err error) error { return &causeError{KindAddress, err} }

// A causeError gives a cause its kind.
type causeError struct {
	kind Kind
	err  error
}

func (e *causeError) Error() string { return e.err.Error() }
func (e *causeError) Unwrap() error { return e.err }

// bind carries out bind(2) on a descriptor of a's family.
func (s *Socket) bind(a sys.Addr) error {
	if err := s.useFamily(a.Family); err != nil {
		return err
	}
	if a.Family == sys.Unix {
		p, err := bindUnix(s.s, a.Path, s.mode)
		if p != nil && !s.untilListen {
			p.release()
		}
		s.path = p
		return err
	}
	return s.s.Bind(a)
}

// useFamily makes the descriptor anew if it has another family: "tcp" starts
// as IPv6 and becomes IPv4 where that is what is needed.
func (s *Socket) useFamily(f sys.Family) error {
	if s.s.Family() == f {
		return nil
	}
	return s.remake(f)
}

// remake replaces the descriptor, with the options replayed.
func (s *Socket) remake(f sys.Family) error {
	n, err := sys.Open(f)
	if err != nil {
		return err
	}
	if err := s.familyDefaults(n); err != nil {
		n.Close()
		return err
	}
	for _, o := range s.replay {
		if f == sys.Inet4 && strings.HasPrefix(o.name, "IPV6_") {
			continue
		}
		if err := o.apply(n); err != nil {
			n.Close()
			return opError(OpOption, o.name, err)
		}
	}
	s.s.Close()
	s.s = n
	return nil
}

// LocalAddr is the bound address, nil before Bind.
func (s *Socket) LocalAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.localAddr()
}

func (s *Socket) localAddr() net.Addr {
	if s.bound == nil || s.s == nil {
		return nil
	}
	a, err := s.s.LocalAddr()
	if err != nil {
		return nil
	}
	return a.Net()
}

func (s *Socket) localName() string {
	if a := s.localAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Listen makes the bound socket accept connections (listen(2)) and uses it
// up. The backlog reaches the kernel, which caps it at net.core.somaxconn and
// admits one more; 0 is DefaultBacklog. On Windows package net chooses it.
// Without Bind it is KindState.
func (s *Socket) Listen(backlog int) (*Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	if err := s.in(OpListen, s.network, StateBound); err != nil {
		return nil, err
	}
	if backlog <= 0 {
		backlog = DefaultBacklog
	}
	name := s.localName()
	detail := "backlog=" + strconv.Itoa(backlog)
	// Accepted connections inherit what is set here (tcp(7)).
	err := s.applyOptions(s.s)
	var fd *sys.FD
	if err == nil {
		fd, err = s.s.Listen(backlog)
	}
	if err != nil {
		err = opError(OpListen, s.network+":"+name, err)
		s.emit(start, OpListen, detail, name, "", err)
		return nil, err
	}
	s.path.listening()
	s.setState(StateListening)
	ln := newListener(s.id, s.network, newKernelAcceptor(fd, s.Options, s.path, false), kernelCaps(fd.Family()), s.Options, s.Group, s.Trace)
	s.path = nil
	s.emit(start, OpListen, detail, name, "", nil)
	return ln, nil
}

// Connect connects the socket (connect(2)) and uses it up. addr is "host:port"
// (a path for unix); a numeric host is used as it is, a name is resolved and
// its addresses of the socket's family are tried one after the other, each
// for AttemptTimeout, each with a descriptor made anew with the same options
// and name. ctx bounds it all.
//
// The error lists every attempt; its kind is that of the last. After it the
// socket is as it was before Connect.
func (s *Socket) Connect(ctx context.Context, addr string) (*Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.in(OpConnect, addr, StateNew, StateBound); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.smu.Lock()
	before := s.state
	s.state, s.cancel = StateConnecting, cancel
	s.smu.Unlock()

	fd, err := s.connect(ctx, addr)
	if err == nil {
		s.setState(StateConnected)
		return newConn(s.id, s.network, newKernelStream(fd), kernelCaps(fd.Family()), s.Options, s.Group, s.Trace), nil
	}
	s.smu.Lock()
	s.cancel = nil
	closed := s.state == StateClosed
	if !closed {
		s.state = before
	}
	s.smu.Unlock()
	if closed {
		return nil, closedError(OpConnect, addr)
	}
	return nil, err
}

func (s *Socket) connect(ctx context.Context, addr string) (*sys.FD, error) {
	began := time.Now()
	addrs, err := s.resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	var attempts []Attempt
	for i, a := range addrs {
		start := time.Now()
		fd, err := s.attempt(ctx, a, i > 0)
		at := Attempt{Round: 1, Addr: a.Net().String(), Started: start.Sub(began), Duration: time.Since(start), Err: err}
		if err == nil {
			s.emit(start, OpConnect, "", fd.LocalAddr().Net().String(), at.Addr, nil)
			return fd, nil
		}
		s.emit(start, OpConnect, "", s.localName(), at.Addr, err)
		attempts = append(attempts, at)
		if ctx.Err() != nil {
			break
		}
	}
	// The next Connect starts with a descriptor that has tried nothing.
	if err := s.renew(); err != nil {
		attempts = append(attempts, Attempt{Round: 1, Addr: addr, Err: err})
	}
	return nil, connectError(s.network, addr, attempts, ctx.Err())
}

// attempt tries one address; renewed descriptors follow the first.
func (s *Socket) attempt(ctx context.Context, a sys.Addr, again bool) (*sys.FD, error) {
	if again || s.stale {
		if err := s.renew(); err != nil {
			return nil, err
		}
	}
	if s.bound == nil || s.bound.Family == a.Family {
		if err := s.useFamily(a.Family); err != nil {
			return nil, err
		}
	} else if s.s.Family() == sys.Inet6 && a.Family == sys.Inet4 {
		// A dual-stack name: the address in its mapped form.
		a = sys.IPAddr(netip.AddrPortFrom(netip.AddrFrom16(a.IP.Addr().As16()), a.IP.Port()))
	}
	if err := s.applyOptions(s.s); err != nil {
		return nil, err
	}
	fd, err := connectOne(ctx, s.s, a, orDefault(s.AttemptTimeout, DefaultAttemptTimeout))
	if err != nil && s.s.Num() < 0 {
		s.s.Close()
	}
	return fd, err
}

// renew replaces the descriptor after a failed attempt, with options and name
// replayed.
func (s *Socket) renew() error {
	err := s.remake(s.s.Family())
	if err == nil && s.bound != nil {
		err = s.bind(*s.bound)
	}
	s.stale = err != nil
	return err
}

// resolve finds the addresses to try.
func (s *Socket) resolve(ctx context.Context, addr string) ([]sys.Addr, error) {
	a, err := s.parse(addr)
	if err == nil {
		return []sys.Addr{orLoopback(a)}, nil
	}
	if !errors.Is(err, errNotNumeric) {
		return nil, opError(OpConnect, s.network+":"+addr, err)
	}
	host, port, _ := net.SplitHostPort(addr)
	p, _ := strconv.ParseUint(port, 10, 16) // parse has looked at it
	start := time.Now()
	ips, err := lookup(ctx, s.Resolver, s.lookupNetwork(), host)
	s.emit(start, OpResolve, joinAddrs(ips), "", host, err)
	if err != nil {
		return nil, opError(OpResolve, host, err)
	}
	var addrs []sys.Addr
	for _, ip := range ips {
		addrs = append(addrs, sys.IPAddr(netip.AddrPortFrom(ip, uint16(p))))
	}
	return addrs, nil
}

// lookupNetwork is the family to resolve for: the socket's, or that of its
// name.
func (s *Socket) lookupNetwork() string {
	switch {
	case s.network == "tcp4", s.s.Family() == sys.Inet4 && s.bound != nil:
		return "ip4"
	case s.network == "tcp6", s.bound != nil && !s.bound.IP.Addr().IsUnspecified():
		return "ip6"
	}
	return "ip"
}

// Close closes a socket that is not used up, and ends a Connect at work. After
// Listen or a successful Connect, and a second time, it does nothing.
func (s *Socket) Close() error {
	s.smu.Lock()
	st := s.state
	if st == StateListening || st == StateConnected || st == StateClosed {
		s.smu.Unlock()
		return nil
	}
	s.state = StateClosed
	if s.cancel != nil {
		s.cancel()
	}
	s.smu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	// The file first: once nobody answers on it, it may be another's.
	s.path.remove()
	s.path = nil
	err := s.s.Close()
	if s.Trace != nil {
		s.emit(time.Now(), OpClose, "", "", "", err)
	}
	return err
}
