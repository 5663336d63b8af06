// This file is the server: it accepts, keeps count and shuts down. A
// connection's own life is in server_session.go.

package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/attendance"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/relay"
)

// A Server is a proxy for SOCKS4, SOCKS4a, SOCKS5 (RFC 1928, RFC 1929) and HTTP
// CONNECT (RFC 9110 section 9.3.6) on one port: the first byte tells which is
// spoken. It grants CONNECT, and BIND where the protocol has it; UDP ASSOCIATE
// is answered with "command not supported". After its reply the two
// connections are joined as package relay joins them, with the endings that it
// keeps. Set the fields before the first Serve and leave them alone; every
// method may be called from several goroutines.
//
// A request is answered with what is true of its target, where the protocol
// has a word for it:
//
//	                                   SOCKS5  SOCKS4  HTTP
//	granted                            0       90      200
//	not allowed by the rules           2       91      403
//	the name is not found              4       91      502
//	the network is out of reach        3       91      502
//	the host is out of reach           4       91      502
//	no answer in time                  6       91      504
//	refused                            5       91      502
//	another command, method            7       -       405, 501
//	another form of address            8       -       -
//	no or a wrong password             FF, 1   91      407
//	a request that makes no sense      1, FF   91      400, 431
//	anything else                      1       91      502
//
// A reply is delivered: the connection is then closed in order and not reset.
// A client that is beyond its limits, or takes more than Handshake, is reset.
//
// This is not for HTTP proxies that cache or filter: requests other than
// CONNECT are refused. It speaks no UDP.
type Server struct {
	// Rules say which requests are granted.
	Rules Rules
	// Users are who may use it, by SOCKS5's user and password and HTTP's
	// Basic; SOCKS4, which has no password, is then refused. nil asks nobody.
	Users *Users
	// Dialer makes the outbound connections. Its Allow, if set, is asked
	// before the Rules.
	Dialer anysock.Dialer
	// Via, unless it is the zero Address, is one or more hops through which
	// every target is reached. Names are then resolved behind them, so that
	// rules about addresses match no name, and what a name stands for is for
	// the last hop to refuse. BIND is not passed on, and refused.
	Via anysock.Address
	// Options tunes how the connections are joined.
	Options relay.Options
	// Handshake bounds everything before data: the request, the login,
	// connecting. 0 is DefaultHandshake; there is always a bound.
	Handshake time.Duration
	// Handshakes bounds the clients whose request has not been read, over all
	// listeners; further ones wait in the backlog. HandshakesPerClient bounds
	// those of one client (an IPv4 address, or 64 bits of an IPv6 one); further
	// ones are reset.
	Handshakes          int
	HandshakesPerClient int
	// MaxConns bounds the connections, over all listeners; further ones wait
	// in the backlog. MaxConnsPerClient bounds those of one client; further
	// ones are reset. RatePerClient bounds the new connections of one client
	// in a second; ten seconds' worth may come at once, further ones are
	// reset.
	//
	// The defaults of the bounds per client are not for clients on this
	// machine, who share an address; a bound that is set is for all.
	MaxConns          int
	MaxConnsPerClient int
	RatePerClient     int
	// BindAddress is where callers are waited for. The zero Addr is the
	// address at which the client has reached the server.
	BindAddress netip.Addr
	// BindTimeout bounds the wait for the caller. 0 is DefaultBindTimeout;
	// there is always a bound.
	BindTimeout time.Duration
	// Drain bounds how long Shutdown lets connections finish. 0 is
	// DefaultDrain; negative aborts at once.
	Drain time.Duration
	// OnEnd is told of every connection that has ended, on that connection's
	// goroutine and possibly from several at once; its place is taken until
	// OnEnd returns. nil is nobody.
	OnEnd func(Record)

	// identify is clientOf, unless a test says who its clients are.
	identify func(net.Addr) client

	once       sync.Once
	ctx        context.Context // ended when the drain deadline has passed
	cut        context.CancelCauseFunc
	count      *attendance.Count
	places     attendance.Places // of connections
	handshakes attendance.Places // of clients whose request has not been read
	shaking    tally             // handshakes of each client
	open       tally             // connections of each client
	pace       pace              // new connections of each client

	mu        sync.Mutex // guards what follows, and out and base of sessions
	listeners map[*anysock.Listener]struct{}
	sessions  map[*session]struct{}
	stats     relay.Stats // of sessions that have ended
}

var errShutdown = errors.New("the proxy was shut down")

// init makes the private fields, once.
func (s *Server) init() {
	s.once.Do(func() {
		s.ctx, s.cut = context.WithCancelCause(context.Background())
		if s.identify == nil {
			s.identify = clientOf
		}
		s.count = attendance.New()
		s.listeners = make(map[*anysock.Listener]struct{})
		s.sessions = make(map[*session]struct{})
		s.places.Limit = int64(orDefault(s.MaxConns, DefaultMaxConns))
		s.handshakes.Limit = int64(orDefault(s.Handshakes, DefaultHandshakes))
	})
}

// Check reports whether the Server may serve clients at an address: whether
// its Rules and Via make sense, and whether it would be an open proxy, which
// lends itself to everybody. A proxy that others than this machine can reach
// must ask for passwords (Users), or have Rules that grant nothing unless a
// rule says from where. The error is a *anysock.Error, KindState with a Hint.
func (s *Server) Check(addr net.Addr) error {
	at := ""
	if addr != nil {
		at = addr.Network() + ":" + addr.String()
	}
	if err := s.Rules.check(s.Users != nil); err != nil {
		return &anysock.Error{Op: anysock.OpListen, Addr: at, Kind: anysock.KindState, Err: err}
	}
	if !s.Via.IsZero() {
		if _, err := s.through(endpoint{name: "name.invalid", port: 1}); err != nil {
			return &anysock.Error{Op: anysock.OpListen, Addr: at, Kind: anysock.KindAddress, Err: err}
		}
	}
	if s.Users == nil && !isLocalAddr(addr) && s.Rules.areOpen() {
		return &anysock.Error{
			Op: anysock.OpListen, Addr: at, Kind: anysock.KindState,
			Err:  errors.New("this would be an open proxy: others than this machine can reach it, and it would ask nobody who they are"),
			Hint: "listen on tcp://127.0.0.1:1080, or ask for passwords, or say which clients are allowed (a rule with from=10.0.0.0/8)",
		}
	}
	return nil
}

// isLocalAddr reports whether only this machine can reach a listener.
func isLocalAddr(a net.Addr) bool {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.IsLoopback()
	}
	return isLocalNetwork(a)
}

// Serve accepts connections from ln and serves each, until Shutdown (nil), ctx
// is done (its error), or accepting fails for good (that error). However it
// ends, the connections go on and ln stays open: both are left to Shutdown,
// which must be called. Several listeners may be served at once.
//
// The error is a *anysock.Error: Check's, KindClosed after Shutdown, otherwise
// that of ln.AcceptContext.
func (s *Server) Serve(ctx context.Context, ln *anysock.Listener) error {
	s.init()
	if err := s.Check(ln.Addr()); err != nil {
		return err
	}
	if !s.enter(ln) {
		return &anysock.Error{Op: anysock.OpAccept, Addr: ln.Addr().String(), Kind: anysock.KindClosed, Err: errShutdown}
	}
	defer s.count.Leave()
	for {
		if ok, err := s.take(ctx, &s.places); !ok {
			return err
		}
		if ok, err := s.take(ctx, &s.handshakes); !ok {
			s.places.Give()
			return err
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			s.places.Give()
			s.handshakes.Give()
			if s.count.Stopping() {
				return nil
			}
			return err
		}
		s.start(c, true)
	}
}

// enter adds a listener; false after Shutdown.
func (s *Server) enter(ln *anysock.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.count.Enter() {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

// take waits for a place. It is false, without an error, after Shutdown.
func (s *Server) take(ctx context.Context, places *attendance.Places) (bool, error) {
	ok, err := places.Wait(ctx, s.count.Closed())
	if err != nil {
		err = bridge.OpError(anysock.OpAccept, "", err)
	}
	return ok, err
}

// start takes over c. Its goroutine belongs to the Server: Shutdown waits.
// placed: it has a place and a handshake's.
func (s *Server) start(c *anysock.Conn, placed bool) {
	x := &session{s: s, in: c, client: s.identify(c.RemoteAddr()), placed: placed, shaking: placed}
	x.rec.Accepted = time.Now()
	s.count.Begin(!placed)
	s.mu.Lock()
	s.sessions[x] = struct{}{}
	s.mu.Unlock()
	go x.run()
}

// finished lets go of a session.
func (s *Server) finished(x *session) {
	s.mu.Lock()
	delete(s.sessions, x)
	s.stats.ToOutbound += x.rec.ToOutbound.Bytes
	s.stats.ToInbound += x.rec.ToInbound.Bytes
	switch x.rec.How {
	case anysock.Refused:
		s.stats.Refused++
	case anysock.Graceful:
		s.stats.Graceful++
	}
	s.mu.Unlock()
	s.count.End(errors.Is(x.rec.Err, relay.ErrDrainDeadline))
	if x.placed {
		s.places.Give()
	}
}

// isOwn reports whether an address is one of the Server's listeners: also by
// any address of this machine, where those listen on all.
func (s *Server) isOwn(to netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ln := range s.listeners {
		tcp, ok := ln.Addr().(*net.TCPAddr)
		if !ok {
			continue
		}
		at := tcp.AddrPort()
		if at.Port() != to.Port() {
			continue
		}
		if ip := at.Addr().Unmap().WithZone(""); ip == to.Addr() || ip.IsUnspecified() && isThisMachine(to.Addr()) {
			return true
		}
	}
	return false
}

// isThisMachine asks for the interfaces' addresses, which is rare: only for a
// target on the port of a listener.
func isThisMachine(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // who cannot tell refuses
	}
	return ip.IsLoopback() || slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

// Stats counts up to now, bytes of connections that still run included.
func (s *Server) Stats() relay.Stats {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Active, st.Accepted = s.count.Active()
	for x := range s.sessions {
		if x.out != nil {
			st.ToOutbound += x.out.Sent() - x.outBase
			st.ToInbound += x.in.Sent() - x.inBase
		}
	}
	return st
}

// Shutdown ends a Server so that nobody loses what it was promised: it accepts
// what waits in the queues of the listeners that were served, closes those, and
// lets every connection finish, the ones from the queues included. What still
// runs after Drain, or when ctx is done if that is earlier, is aborted on both
// legs (a reset on tcp), with relay.ErrDrainDeadline as the reason in its
// record. It returns when all goroutines of the Server have ended and OnEnd was
// told of every connection.
//
// The error is that of draining the listeners; what was cut is none, and the
// relay.Drained says so. A second Shutdown waits for the first, and its ctx
// counts too: call it with a ctx that is done to cut at once.
func (s *Server) Shutdown(ctx context.Context) (relay.Drained, error) {
	s.init()
	first, listeners := s.stop()
	var err error
	for _, ln := range listeners {
		conns, derr := ln.Drain()
		for _, c := range conns {
			s.start(c, false)
		}
		err = errors.Join(err, derr)
	}
	if first {
		s.count.Emptied()
	}
	limit := time.NewTimer(max(orDefault(s.Drain, DefaultDrain), 0))
	defer limit.Stop()
	select {
	case <-s.count.Idle():
	case <-limit.C:
	case <-ctx.Done():
	}
	s.cut(relay.ErrDrainDeadline) // nothing is left to cut after idle
	<-s.count.Idle()
	return relay.Drained(s.count.Drained()), err
}

// stop turns newcomers away. Only the first call has listeners to drain.
func (s *Server) stop() (first bool, listeners []*anysock.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.count.Stop() {
		return false, nil
	}
	for ln := range s.listeners {
		listeners = append(listeners, ln)
	}
	return true, listeners
}
