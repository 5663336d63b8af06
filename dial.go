package anysock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// A Dialer connects to addresses of any registered transport, through any
// hops. The zero value is ready; what an address says by its options goes
// before the fields. A Dialer is not changed by dialing and may be used by
// several goroutines.
type Dialer struct {
	// Local is the local address to connect from: "host:port" with a numeric
	// host, port 0 to choose only the network. With a fixed port addresses
	// are tried one after the other, since it cannot be in two attempts.
	Local string
	// Interface is the network interface to connect from, by name.
	Interface string
	// Retry says whether and how a failed Dial is tried again.
	Retry Retry
	// AttemptTimeout bounds one attempt at one address. 0 is
	// DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// AttemptDelay is the time after which the next address is tried while
	// the one before has not answered (RFC 8305 section 5). 0 is
	// DefaultAttemptDelay, negative tries one after the other.
	AttemptDelay time.Duration
	// Options tunes the connection.
	Options Options
	// Group owns its disconnect after Close; nil is the process's own.
	Group *Group
	// Trace is told of every step; nil is nobody.
	Trace Trace
	// OnAttempt is told of every attempt that failed, as it fails; nil is
	// nobody. It may be called from several goroutines at once.
	OnAttempt func(Attempt)
	// Resolver finds addresses of host names; nil is net.DefaultResolver.
	Resolver *net.Resolver
	// OnConnected is told of every TCP socket as soon as it has connected, before
	// any handshake over it; nil is nobody. It may be called from several
	// goroutines at once.
	OnConnected func(local, peer netip.AddrPort)
	// Allow is asked before each attempt at a numeric TCP address, after names
	// were resolved; an error makes the attempt fail with KindPermission. nil
	// allows all. It may be called from several goroutines at once.
	Allow func(netip.AddrPort) error
}

// Retry is a policy of trying again. The zero value tries once.
type Retry struct {
	// Attempts is how often to try in all; 0 and 1 are once, negative is
	// until the context is done.
	Attempts int
	// Interval is the least time from the start of one try to the start of
	// the next. 0 is DefaultRetryInterval.
	Interval time.Duration
}

// Dial connects to addr with the zero Dialer: see Dialer.Dial.
func Dial(ctx context.Context, addr string) (*Conn, error) { return new(Dialer).Dial(ctx, addr) }

// Dial connects to an address as ParseAddress reads it.
//
// A host name is resolved for both families at once and its addresses are
// raced (Happy Eyeballs v2, RFC 8305); the first to answer wins. The error is
// a *Error: KindAddress with an *AddressError inside for an address that
// makes no sense, KindName, KindRefused, KindUnreachable, KindTimeout and so
// on otherwise, with every attempt of every retry in Attempts. ctx bounds it
// all; the Conn does not depend on ctx afterwards.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Conn, error) {
	a, err := ParseAddress(addr)
	if err != nil {
		return nil, opError("parse", addr, err)
	}
	return d.DialAddress(ctx, a)
}

// DialContext is Dial in package net's form, for http.Transport and the like:
// network is tcp, tcp4, tcp6 or unix, address a host:port or a path. The
// net.Conn is a *Conn.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var c *Conn
	var err error
	switch network {
	case "tcp", "tcp4", "tcp6":
		var host, port string
		if host, port, err = net.SplitHostPort(address); err != nil {
			return nil, &Error{Op: OpConnect, Addr: address, Kind: KindAddress, Err: err}
		}
		c, err = d.dialTCP(ctx, network, host, port)
	case "unix":
		c, err = d.dialUnix(ctx, address)
	default:
		return nil, &Error{Op: OpConnect, Addr: network + ":" + address, Kind: KindAddress, Err: net.UnknownNetworkError(network), Hint: "use tcp, tcp4, tcp6 or unix; other transports go through Dial with a URL"}
	}
	if err != nil {
		return nil, err // not a nil *Conn in a net.Conn
	}
	return c, nil
}

// dialTCP resolves, races and retries.
func (d *Dialer) dialTCP(ctx context.Context, network, host, port string) (*Conn, error) {
	return d.dialIP(ctx, network, host, port, nil)
}

// dialIP is dialTCP, or with via another transport's dial.
func (d *Dialer) dialIP(ctx context.Context, network, host, port string, via func(ctx context.Context, local, to netip.AddrPort) (net.Conn, error)) (*Conn, error) {
	addr := net.JoinHostPort(host, port)
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, &Error{Op: OpConnect, Addr: addr, Kind: KindAddress, Err: errors.New("the port must be a number up to 65535")}
	}
	if ip, err := netip.ParseAddr(host); err == nil && (network == "tcp4" && !ip.Unmap().Is4() || network == "tcp6" && ip.Unmap().Is4()) {
		return nil, &Error{Op: OpConnect, Addr: addr, Kind: KindAddress, Err: errors.New(host + " is not an address of " + network)}
	}
	var local *sys.Addr
	if d.Local != "" {
		wildcard := netip.IPv6Unspecified()
		if network == "tcp4" {
			wildcard = netip.IPv4Unspecified()
		}
		a, err := parseNumeric(network, d.Local, wildcard)
		if err != nil {
			return nil, opError(OpBind, d.Local, err)
		}
		local = &a
	}
	return d.retry(ctx, network, addr, func(ctx context.Context, r *dialRound) (*Conn, error) {
		r.network, r.host, r.port, r.local, r.via = network, host, uint16(p), local, via
		return r.race(ctx)
	})
}

// DialIP is for transports that are a base of their own over IP: it does all
// that Dial does for tcp (the host's addresses of both families, their race,
// retries, Allow, Local, the record of attempts), and calls attempt for each
// address where tcp would connect. local is the zero AddrPort unless the
// Dialer has a Local. ctx is done after AttemptTimeout, and when another attempt has won. network is the
// name for events and errors. A stream that comes second is closed. The result
// is a *Conn.
func (d *Dialer) DialIP(ctx context.Context, network, host, port string, attempt func(ctx context.Context, local, to netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	c, err := d.dialIP(ctx, network, host, port, attempt)
	if err != nil {
		return nil, err // not a nil *Conn in a net.Conn
	}
	return c, nil
}

// dialUnix connects to a path or an abstract name.
func (d *Dialer) dialUnix(ctx context.Context, path string) (*Conn, error) {
	a, err := parseUnixPath(path)
	if err != nil {
		return nil, opError(OpConnect, "unix:"+path, err)
	}
	if d.Local != "" {
		return nil, unsupported(OpBind, d.Local, "a Dialer does not name its end of a Unix socket: use Socket.Bind")
	}
	return d.retry(ctx, "unix", path, func(ctx context.Context, r *dialRound) (*Conn, error) {
		r.network = "unix"
		c, err := r.attempt(ctx, a)
		if err != nil {
			return nil, errRoundFailed
		}
		return c, nil
	})
}

// errRoundFailed says that the reasons are in the attempts.
var errRoundFailed = errors.New("every attempt failed")

// retry runs rounds, paced by their start.
func (d *Dialer) retry(ctx context.Context, network, addr string, round func(context.Context, *dialRound) (*Conn, error)) (*Conn, error) {
	r := &dialRound{d: d, id: nextSocket(), began: time.Now()}
	interval := orDefault(d.Retry.Interval, DefaultRetryInterval)
	for r.round = 1; ; r.round++ {
		start := time.Now()
		c, err := round(ctx, r)
		if err == nil {
			return c, nil
		}
		var e *Error
		if !errors.As(err, &e) {
			e = connectError(network, addr, r.attempts, ctx.Err())
		} else if r.round > 1 {
			e.Attempts = r.attempts
		}
		if ctx.Err() != nil || !worthRetrying(e.Kind) || d.Retry.Attempts >= 0 && r.round >= max(d.Retry.Attempts, 1) {
			return nil, e
		}
		wait := time.Until(start.Add(interval))
		r.emit(Event{Op: OpWait, Detail: fmt.Sprintf("retry %d in %s", r.round, wait.Round(time.Millisecond)), State: StateWaiting, Peer: addr, Err: e})
		if sleep(ctx, wait) != nil {
			e.Err, e.Kind = ctx.Err(), kindOf(ctx.Err())
			return nil, e
		}
	}
}

// worthRetrying: what another try may cure.
func worthRetrying(k Kind) bool {
	switch k {
	case KindAddress, KindState, KindUnsupported, KindPermission, KindCanceled, KindClosed, KindAuth:
		return false
	}
	return true
}

// A dialRound is one Dial; its attempts are all rounds'.
type dialRound struct {
	d       *Dialer
	id      uint64
	began   time.Time
	round   int
	network string
	host    string
	port    uint16
	local   *sys.Addr
	via     func(ctx context.Context, local, to netip.AddrPort) (net.Conn, error) // nil: tcp

	connected atomic.Bool

	mu       sync.Mutex
	attempts []Attempt
}

// maxAttempts bounds what an error lists.
const maxAttempts = 100

func (r *dialRound) emit(ev Event) {
	if r.d.Trace == nil {
		return
	}
	ev.Socket, ev.Network = r.id, orDefault(r.network, ev.Network)
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	if ev.State == StateNew {
		ev.State = StateConnecting
	}
	r.d.Trace(ev)
}

// race tries the addresses of the host as RFC 8305 section 5 says: each
// AttemptDelay after the one before, or at once when that has failed.
func (r *dialRound) race(ctx context.Context) (*Conn, error) {
	rctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer)
	results := make(chan raceResult)
	var running int
	defer func() {
		cancel()
		for range answers { // until the resolver is done
		}
		for ; running > 0; running-- {
			if res := <-results; res.c != nil {
				res.c.Close() // it came second
			}
		}
	}()
	go r.resolve(rctx, answers)

	delay := orDefault(r.d.AttemptDelay, DefaultAttemptDelay)
	sequential := delay < 0 || r.local != nil && r.local.IP.Port() != 0
	next := time.NewTimer(0)
	defer next.Stop()
	due := true
	var queue []sys.Addr
	pending := answers
	var resolveErr error
	for {
		if due && len(queue) > 0 && (!sequential || running == 0) {
			a := queue[0]
			queue = queue[1:]
			running++
			go func() {
				c, err := r.attempt(rctx, a)
				results <- raceResult{c, err}
			}()
			due = false
			next.Reset(max(delay, 0))
		}
		if pending == nil && len(queue) == 0 && running == 0 {
			if resolveErr != nil {
				return nil, opError(OpResolve, r.host, resolveErr)
			}
			if r.local != nil && len(r.attempts) == 0 {
				return nil, &Error{
					Op: OpConnect, Addr: r.network + ":" + net.JoinHostPort(r.host, strconv.Itoa(int(r.port))), Kind: KindAddress,
					Err:  errors.New(r.host + " has no address of the family of the local address " + r.local.IP.Addr().String()),
					Hint: "choose a local address of the same family",
				}
			}
			return nil, errRoundFailed
		}
		select {
		case a, ok := <-pending:
			if !ok {
				pending = nil
				break
			}
			if a.err != nil {
				resolveErr = a.err
			}
			queue = r.enqueue(queue, a)
		case <-next.C:
			due = true
		case res := <-results:
			running--
			if res.err == nil {
				return res.c, nil
			}
			due = true
		case <-ctx.Done():
			if running == 0 {
				return nil, connectError(r.network, net.JoinHostPort(r.host, strconv.Itoa(int(r.port))), r.attempts, ctx.Err())
			}
			// The attempts end by themselves and say how far they came.
			queue, pending = nil, nil
			res := <-results
			running--
			if res.err == nil {
				return res.c, nil
			}
		}
	}
}

// enqueue adds a later answer, alternating with what is left of the earlier.
func (r *dialRound) enqueue(queue []sys.Addr, a answer) []sys.Addr {
	var fresh []sys.Addr
	for _, ip := range a.ips {
		if r.local != nil && r.local.Family != sys.IPAddr(netip.AddrPortFrom(ip, 0)).Family && !r.local.IP.Addr().IsUnspecified() {
			continue
		}
		fresh = append(fresh, sys.IPAddr(netip.AddrPortFrom(ip, r.port)))
	}
	if len(queue) == 0 {
		return fresh
	}
	out := make([]sys.Addr, 0, len(queue)+len(fresh))
	for i := 0; i < len(queue) || i < len(fresh); i++ {
		if i < len(fresh) {
			out = append(out, fresh[i])
		}
		if i < len(queue) {
			out = append(out, queue[i])
		}
	}
	return out
}

type raceResult struct {
	c   *Conn
	err error
}

// resolve sends the addresses to try and closes out. race owns it.
func (r *dialRound) resolve(ctx context.Context, out chan<- answer) {
	host := r.host
	if ips := literal(r.network, host); ips != nil {
		defer close(out)
		out <- answer{ips: ips}
		return
	}
	start := time.Now()
	relay := make(chan answer)
	network := r.network
	if r.via != nil {
		network = "tcp"
	}
	if r.local != nil && !r.local.IP.Addr().IsUnspecified() {
		network = "tcp6"
		if r.local.Family == sys.Inet4 {
			network = "tcp4"
		}
	}
	if network == "tcp" {
		go lookupBoth(ctx, r.d.Resolver, host, relay)
	} else {
		go func() {
			defer close(relay)
			ips, err := lookup(ctx, r.d.Resolver, "ip"+strings.TrimPrefix(network, "tcp"), host)
			relay <- answer{ips: ips, err: err}
		}()
	}
	defer close(out)
	for a := range relay {
		r.emit(Event{Time: start, Duration: time.Since(start), Op: OpResolve, Detail: joinAddrs(a.ips), Peer: host, Err: a.err})
		out <- a
	}
}

// literal is the addresses of a host that needs no resolver: a number, or the
// wildcard, which means this machine.
func literal(network, host string) []netip.Addr {
	if host != "" && host != "*" {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil
		}
		return []netip.Addr{orLoopback(sys.IPAddr(netip.AddrPortFrom(ip.Unmap(), 0))).IP.Addr()}
	}
	four, six := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	switch network {
	case "tcp4":
		return []netip.Addr{four}
	case "tcp6":
		return []netip.Addr{six}
	}
	return []netip.Addr{six, four}
}

// attempt tries one address and records the try.
func (r *dialRound) attempt(ctx context.Context, a sys.Addr) (*Conn, error) {
	start := time.Now()
	s, err := r.stream(ctx, a)
	peer := a.Net().String()
	ev := Event{Time: start, Duration: time.Since(start), Op: OpConnect, Peer: peer, Err: err}
	if err != nil {
		at := Attempt{Round: r.round, Addr: peer, Started: start.Sub(r.began), Duration: ev.Duration, Err: err}
		if r.d.OnAttempt != nil {
			r.d.OnAttempt(at)
		}
		r.mu.Lock()
		if len(r.attempts) < maxAttempts {
			r.attempts = append(r.attempts, at)
			slices.SortStableFunc(r.attempts, func(x, y Attempt) int { return cmp.Compare(x.Started, y.Started) })
		}
		r.mu.Unlock()
		r.emit(ev)
		return nil, err
	}
	if k, ok := s.(*kernelStream); ok && r.d.OnConnected != nil && k.Family().Inet() {
		r.d.OnConnected(unmapped(k.FD.LocalAddr().IP), unmapped(k.FD.PeerAddr().IP))
	}
	ev.Local, ev.State = s.LocalAddr().String(), StateConnected
	r.emit(ev)
	id := r.id
	if r.connected.Swap(true) {
		id = nextSocket() // came second: a socket of its own, to be closed
	}
	return newConn(id, r.network, s, capsFor(s, 0), r.d.Options, r.d.Group, r.d.Trace), nil
}

// stream connects to one address.
func (r *dialRound) stream(ctx context.Context, a sys.Addr) (stream, error) {
	if r.via == nil {
		fd, err := r.connect(ctx, a)
		if err != nil {
			return nil, err
		}
		return newKernelStream(fd), nil
	}
	if err := r.allow(a); err != nil {
		return nil, err
	}
	var local netip.AddrPort
	if r.local != nil {
		local = r.local.IP
		if r.local.Family != a.Family { // the wildcard, to choose a port
			local = netip.AddrPortFrom(wildcardOf(a.Family), local.Port())
		}
	}
	timeout := orDefault(r.d.AttemptTimeout, DefaultAttemptTimeout)
	actx, cancel := context.WithTimeoutCause(ctx, timeout, &attemptTimeoutError{timeout})
	defer cancel()
	nc, err := r.via(actx, local, a.IP)
	if err != nil {
		if ctx.Err() == nil && actx.Err() != nil {
			err = context.Cause(actx)
		}
		return nil, opError(OpConnect, r.network+":"+a.IP.String(), err)
	}
	return asStream(nc), nil
}

// unmapped folds an IPv4-mapped address.
func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// allow asks the Dialer's Allow.
func (r *dialRound) allow(a sys.Addr) error {
	if r.d.Allow == nil || a.Family == sys.Unix {
		return nil
	}
	to := unmapped(a.IP)
	err := r.d.Allow(to)
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Op: OpConnect, Addr: to.String(), Kind: KindPermission, Err: err}
}

// connect makes a socket, sets it up and connects it.
func (r *dialRound) connect(ctx context.Context, a sys.Addr) (*sys.FD, error) {
	start := time.Now()
	if err := r.allow(a); err != nil {
		return nil, err
	}
	s, err := sys.Open(a.Family)
	r.emit(Event{Time: start, Duration: time.Since(start), Op: OpSocket, Err: err})
	if err != nil {
		return nil, opError(OpSocket, r.network, err)
	}
	defer func() { s.Close() }() // nothing once the FD owns the descriptor
	if err := r.d.Options.apply(a.Family, s.SetInt); err != nil {
		return nil, err
	}
	if r.d.Interface != "" && a.Family != sys.Unix {
		if err := s.SetInterface(r.d.Interface); err != nil {
			return nil, opError(OpOption, "interface="+r.d.Interface, err)
		}
	}
	if r.local != nil {
		local := *r.local
		if local.Family != a.Family { // the wildcard, to choose a port
			local = sys.IPAddr(netip.AddrPortFrom(a.IP.Addr(), local.IP.Port()))
			local.IP = netip.AddrPortFrom(wildcardOf(a.Family), local.IP.Port())
		}
		if local.IP.Port() == 0 {
			_ = s.SetInt(sys.BindNoPort, 1) // more ports to choose from; without it the choice is smaller
		}
		start := time.Now()
		err := s.Bind(local)
		r.emit(Event{Time: start, Duration: time.Since(start), Op: OpBind, Local: local.Net().String(), Err: err})
		if err != nil {
			return nil, opError(OpBind, local.Net().String(), err)
		}
	}
	return connectOne(ctx, s, a, orDefault(r.d.AttemptTimeout, DefaultAttemptTimeout))
}

func wildcardOf(f sys.Family) netip.Addr {
	if f == sys.Inet4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
