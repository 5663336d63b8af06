package anysock

import (
	"context"
	"errors"
	"time"
)

// A ListenConfig listens on addresses of any registered transport. The zero
// value is ready; what an address says by its options goes before the fields.
type ListenConfig struct {
	// Backlog is how many connections may wait to be accepted; it reaches the
	// kernel, except on Windows, where package net chooses. 0 is DefaultBacklog.
	Backlog int
	// NoReuseAddr leaves SO_REUSEADDR off. It is on by default, so that a
	// restarted server gets its port back at once; a port that somebody
	// listens on is still refused. On Windows it is package net's choice.
	NoReuseAddr bool
	// ReusePort lets several listeners share the port (SO_REUSEPORT).
	ReusePort bool
	// V6Only keeps a "tcp" listener on an IPv6 wildcard from taking IPv4.
	V6Only bool
	// Interface is the network interface to listen on, by name.
	Interface string
	// MaxConns bounds the accepted connections that are open; further ones
	// wait in the backlog. 0 is no limit.
	MaxConns int
	// Mode is the mode of a socket file. 0 is DefaultUnixMode.
	Mode uint32
	// Options tunes accepted connections.
	Options Options
	// Group owns their disconnects after Close; nil is the process's own.
	Group *Group
	// Trace is told of every step, theirs too; nil is nobody.
	Trace Trace
}

// Listen listens on addr with the zero ListenConfig: see
// ListenConfig.Listen.
func Listen(ctx context.Context, addr string) (*Listener, error) {
	return new(ListenConfig).Listen(ctx, addr)
}

// Listen listens on an address as ParseAddress reads it: tcp://:3005 is
// dual-stack, tcp://127.0.0.1:0 any free port (see Listener.Addr), unix:/path
// a socket file, mem:name a name in this process. ctx bounds the setting up
// only. The error is a *Error: KindAddress, KindInUse, KindPermission,
// KindUnreachable for an address that is not this machine's, and so on.
func (lc *ListenConfig) Listen(ctx context.Context, addr string) (*Listener, error) {
	a, err := ParseAddress(addr)
	if err != nil {
		return nil, opError("parse", addr, err)
	}
	return lc.ListenAddress(ctx, a)
}

// ListenAddress is Listen for a parsed address.
func (lc *ListenConfig) ListenAddress(ctx context.Context, a Address) (*Listener, error) {
	hops, err := a.plan(forListening)
	if err != nil {
		return nil, opError("parse", a.String(), err)
	}
	if err := ctx.Err(); err != nil {
		return nil, opError(OpListen, a.String(), err)
	}
	p := hops[len(hops)-1]
	last := len(p.transports) - 1
	t, target := p.transports[last], p.targets[last]
	for i := last - 1; i >= 0; i-- {
		if !p.transports[i].serves() {
			return nil, unsupported(OpListen, a.String(), p.transports[i].Scheme+" has no server side")
		}
	}
	if err := prepare(hops, true); err != nil {
		return nil, opError("parse", a.String(), err)
	}
	var dl DeadlineListener
	switch {
	case len(hops) > 1:
		dl, err = lc.listenThrough(ctx, hops[:len(hops)-1], target)
	case t.Listen == nil:
		err = unsupported(OpListen, a.String(), t.Scheme+" cannot be listened on")
	default:
		dl, err = t.Listen(ctx, lc, target)
	}
	if err != nil {
		return nil, opError(OpListen, a.String(), err)
	}
	lc = lc.with(target)
	l, ok := dl.(*Listener)
	if !ok {
		l = lc.adopt(dl, t.Scheme, target.Caps)
	}
	if last > 0 {
		l = lc.over(l, p)
	}
	limit := target.Int("maxconns", lc.MaxConns)
	if m, ok := dl.(interface{ MaxConns() int }); ok {
		limit = m.MaxConns()
	}
	l.limit(limit)
	return l, nil
}

// listenThrough asks the last of the hops for a listener at its side.
func (lc *ListenConfig) listenThrough(ctx context.Context, hops []plannedHop, next Target) (DeadlineListener, error) {
	if err := feasible(hops, true); err != nil {
		return nil, err
	}
	d := &Dialer{Options: lc.Options, Group: lc.Group, Trace: lc.Trace}
	hop := &hops[len(hops)-1]
	dial := func(ctx context.Context) (*Conn, error) { return d.dialHops(ctx, hops, true) }
	hctx, cancel := context.WithTimeout(ctx, DefaultAttemptTimeout+DefaultHandshake)
	defer cancel()
	return hop.transports[0].ListenThrough(hctx, dial, hop.targets[0], next)
}

// adopt makes a transport's listener one of ours.
func (lc *ListenConfig) adopt(dl DeadlineListener, network string, caps Caps) *Listener {
	k, ok := dl.(kernelSocket)
	if !ok {
		return newListener(0, network, foreignAcceptor{dl}, caps, lc.Options, lc.Group, lc.Trace)
	}
	// Inherited: what it was made with may not be what accepted ones need.
	a := newKernelAcceptor(k.Kernel(), lc.Options, nil, true)
	return newListener(0, network, a, kernelCaps(a.fd.Family()), lc.Options, lc.Group, lc.Trace)
}

// over puts the layers of p on the connections that base accepts.
func (lc *ListenConfig) over(base *Listener, p plannedHop) *Listener {
	a := newHandshaker(base, lc, p)
	l := newListener(base.id, p.hop.Layers[0].Scheme, a, p.caps(), lc.Options, lc.Group, lc.Trace)
	return l
}

// kernelListen makes a listening kernel socket through the classical calls.
func (lc *ListenConfig) kernelListen(network, addr string, t Target) (*Listener, error) {
	s, err := lc.listeningSocket(network, t)
	if err != nil {
		return nil, err
	}
	if err := s.Bind(addr); err != nil {
		s.Close()
		return nil, err
	}
	l, err := s.Listen(t.Int("backlog", orDefault(lc.Backlog, DefaultBacklog)))
	if err != nil {
		s.Close()
		return nil, err
	}
	return l, nil
}

// listeningSocket is a socket that is ready to be bound and to listen.
func (lc *ListenConfig) listeningSocket(network string, t Target) (*Socket, error) {
	s, err := NewSocket(network)
	if err != nil {
		return nil, err
	}
	s.Options, s.Group, s.Trace = lc.Options, lc.Group, lc.Trace
	s.untilListen = true
	if s.Trace != nil {
		s.emit(time.Now(), OpSocket, "", "", "", nil)
	}
	if err := lc.setUp(s, network, t); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// setUp sets what must be set before bind. Options the platform lacks are an
// error only if they were asked for.
func (lc *ListenConfig) setUp(s *Socket, network string, t Target) error {
	optional := func(err error) error {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		return err
	}
	if network == "unix" {
		return optional(s.SetMode(t.Mode("mode", orDefault(lc.Mode, DefaultUnixMode))))
	}
	if t.Bool("reuseaddr", !lc.NoReuseAddr) {
		if err := optional(s.SetReuseAddr(true)); err != nil {
			return err
		}
	}
	if t.Bool("reuseport", lc.ReusePort) {
		if err := s.SetReusePort(true); err != nil {
			return err
		}
	}
	if network == "tcp" && t.Bool("v6only", lc.V6Only) {
		if err := s.SetV6Only(true); err != nil {
			return err
		}
	}
	if name := t.String("interface", lc.Interface); name != "" {
		return s.SetInterface(name)
	}
	return nil
}
