// This file is the server's side of BIND: a client that is connected to a
// server outside lets that server call back (RFC 1928 section 4, SOCKS4).

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// errNobodyCalled is the reason of a BIND whose caller did not come.
var errNobodyCalled = errors.New("nobody called in time")

// errWrongCaller is what a caller that is not expected is reset with.
var errWrongCaller = errors.New("another caller is expected")

// bind listens for one caller:
//
//	who may call is asked of the rules          else refused
//	listen on a port that the kernel chooses    the first reply says which
//	a caller that is not expected               is reset, and the wait goes on
//	the expected caller                         the second reply says its address
//	BindTimeout, the client leaves, Shutdown    the listener is closed
//
// After the second reply nobody else is accepted.
func (x *session) bind(ctx context.Context) (*anysock.Conn, error) {
	if !x.s.Via.IsZero() {
		return nil, refuse(becauseCommand, "the client asks for BIND, which is not passed on")
	}
	callers, err := x.callers(ctx)
	if err != nil {
		return nil, err
	}
	ln, err := x.listen(ctx)
	if err != nil {
		return nil, &refusal{becauseFailure, err}
	}
	defer ln.Close()
	text, reply := x.say.grant(boundEndpoint(ln.Addr()))
	if err := x.reply(text, reply); err != nil {
		return nil, err
	}
	out, err := x.awaitCaller(ln, callers)
	if err != nil {
		return nil, err
	}
	// Before the second reply, so that who hears it knows the port is closed.
	_ = ln.Close()
	x.rec.Connected = time.Now()
	return x.grant(out, boundEndpoint(out.RemoteAddr()))
}

func boundEndpoint(a net.Addr) endpoint {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return ipEndpoint(unmapped(tcp.AddrPort()))
	}
	return endpoint{}
}

// callers are the addresses that may call; nil is anybody's.
func (x *session) callers(ctx context.Context) ([]netip.Addr, error) {
	t := x.req.target
	if t.isUnspecified() {
		if err := x.s.Rules.askAnybody(x.question()); err != nil {
			return nil, &refusal{becauseNotAllowed, err}
		}
		return nil, nil
	}
	if err := x.judgeTarget(); err != nil {
		return nil, err
	}
	if t.name == "" {
		return []netip.Addr{t.ip.Unmap()}, nil
	}
	r := x.s.Dialer.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	ips, err := r.LookupNetIP(ctx, "ip", t.name)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) && !dns.IsTimeout {
			return nil, &refusal{becauseName, err}
		}
		return nil, &refusal{reasonOf(err), err}
	}
	var allowed []netip.Addr
	for _, ip := range ips {
		if err = x.judge(netip.AddrPortFrom(ip.Unmap(), t.port)); err == nil {
			allowed = append(allowed, ip.Unmap())
		}
	}
	if len(allowed) == 0 {
		return nil, &refusal{becauseNotAllowed, err}
	}
	return allowed, nil
}

// listen opens the port for the caller, where the client has reached us unless
// BindAddress says otherwise.
func (x *session) listen(ctx context.Context) (*anysock.Listener, error) {
	ip := x.s.BindAddress
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if tcp, ok := x.in.LocalAddr().(*net.TCPAddr); ok {
			ip = tcp.AddrPort().Addr().Unmap()
		}
	}
	lc := anysock.ListenConfig{
		Backlog: bindBacklog, Options: x.s.Dialer.Options, Group: x.s.Dialer.Group, Trace: x.s.Dialer.Trace,
	}
	// A zone's % begins an escape in an address.
	return lc.Listen(ctx, "tcp://"+strings.ReplaceAll(netip.AddrPortFrom(ip, 0).String(), "%", "%25"))
}

// awaitCaller accepts the one caller, while the client waits.
func (x *session) awaitCaller(ln *anysock.Listener, callers []netip.Addr) (*anysock.Conn, error) {
	limit := x.s.BindTimeout
	if limit <= 0 {
		limit = DefaultBindTimeout
	}
	tctx, stop := context.WithTimeoutCause(x.s.ctx, limit, errNobodyCalled)
	defer stop()
	ctx, cancel := x.whileClientWaits(tctx)
	defer cancel()
	for {
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			switch cause := context.Cause(ctx); {
			case errors.Is(cause, errNobodyCalled):
				return nil, &refusal{becauseTimeout, fmt.Errorf("%w: %s", errNobodyCalled, limit)}
			case cause != nil:
				return nil, cause // relay.ErrClientLeft, relay.ErrDrainDeadline
			}
			return nil, &refusal{becauseFailure, err}
		}
		if err := x.judgeCaller(c, callers); err != nil {
			_ = c.AbortAs(anysock.Refused, err)
			continue
		}
		return c, nil
	}
}

// judgeCaller looks at who has called. Anybody may mean anybody, but not those
// whom the rules deny.
func (x *session) judgeCaller(c *anysock.Conn, callers []netip.Addr) error {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return errWrongCaller
	}
	ip := from.AddrPort().Addr().Unmap().WithZone("")
	if callers != nil {
		if !slices.Contains(callers, ip) {
			return errWrongCaller
		}
		return nil
	}
	q := x.question()
	q.ip, q.port = ip, from.AddrPort().Port()
	return x.s.Rules.ask(q)
}
