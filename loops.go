package anysock

import (
	"context"
	"net"

	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/sys"
)

// This file is what the event loops of package loop and of the relay need of
// the root.

func init() {
	bridge.Listener = func(l any) (bridge.Listening, bool) {
		ln, ok := l.(*Listener)
		if !ok || ln.trace != nil {
			return bridge.Listening{}, false
		}
		k, ok := ln.a.(*kernelAcceptor)
		if !ok || k.inherited { // what it accepts would lack the options
			return bridge.Listening{}, false
		}
		return bridge.Listening{
			Socket: k.fd, Taken: k.taken, Options: *ln.opts.shared(), Group: ln.group, Limit: cap(ln.slots),
			Exhausted: func() { ln.exhausted.Add(1) }, Shed: func() { ln.shed.Add(1) },
			Closed: ln.closed,
		}, true
	}
	bridge.Conn = func(c any) (*sys.FD, bool) {
		if c, ok := c.(*Conn); ok {
			return c.giveSocket()
		}
		return nil, false
	}
	bridge.ChargenText = chargenText
	bridge.OpError = func(op, addr string, err error) error { return opError(op, addr, err) }
	bridge.Failure = func(op, addr string, err error) (int, error) {
		e := opError(op, addr, err)
		how, ends := howOf(e.Kind)
		if !ends {
			how = Truncated
		}
		if how == Truncated {
			e.Kind = KindTruncated
		}
		return int(how), e
	}
}

// giveSocket gives away the kernel socket of a connection that nobody has used
// yet. The Conn is used up: its calls say closed, nothing watches it, and it has
// no End.
func (c *Conn) giveSocket() (*sys.FD, bool) {
	k, ok := c.s.(*kernelStream)
	if !ok || c.trace != nil || c.kept.Load() != nil || c.flags.Load() != 0 {
		return nil, false
	}
	c.set(flagClosing | flagDisconnecting | flagReleased)
	c.turnAway()
	c.unwatchForLoss()
	return k.FD, true
}

// taken gives up the reserve: who has the socket now keeps its own.
func (k *kernelAcceptor) taken() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.giveUpReserve()
}

// ListenEach listens on an address n times, so that each of n loops accepts on
// a socket of its own and the kernel spreads the connections over them
// (SO_REUSEPORT, socket(7)). Unlike with the option reuseport, a port that
// somebody has is refused, whatever their options; ours can be joined afterwards
// only by a process of the same user that asks for reuseport. Where the address is not one of TCP, has layers, or the platform
// cannot, there is one listener. The errors are those of Listen.
func (lc *ListenConfig) ListenEach(ctx context.Context, a Address, n int) ([]*Listener, error) {
	hops, err := a.plan(forListening)
	if err != nil {
		return nil, opError("parse", a.String(), err)
	}
	p := hops[len(hops)-1]
	t := p.targets[len(p.targets)-1]
	network := p.transports[0].Scheme
	shared := t.Bool("reuseport", lc.ReusePort) // the user's own wish
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		n = 1
	}
	if len(hops) > 1 || len(p.transports) > 1 || n <= 1 || shared {
		return lc.listenOnce(ctx, a)
	}
	if err := prepare(hops, true); err != nil {
		return nil, opError("parse", a.String(), err)
	}
	if err := ctx.Err(); err != nil {
		return nil, opError(OpListen, a.String(), err)
	}
	lc = lc.with(t)
	sockets := make([]*Socket, 0, n)
	give := func() {
		for _, s := range sockets {
			s.Close()
		}
	}
	addr := net.JoinHostPort(t.Hop.Host, t.Hop.Port)
	for i := range n {
		s, err := lc.listeningSocket(network, t)
		if err == nil {
			sockets = append(sockets, s)
			// The first takes the port for itself: nobody has it. Only then it
			// is opened to the others.
			if i > 0 {
				err = s.SetReusePort(true)
			}
		}
		if err == nil {
			err = s.Bind(addr)
		}
		if err == nil && i == 0 {
			addr = s.LocalAddr().String()
			if s.SetReusePort(true) != nil { // the platform cannot: it is one
				give()
				return lc.listenOnce(ctx, a)
			}
		}
		if err != nil {
			give()
			return nil, err
		}
	}
	listeners := make([]*Listener, 0, n)
	for _, s := range sockets {
		l, err := s.Listen(t.Int("backlog", orDefault(lc.Backlog, DefaultBacklog)))
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			give()
			return nil, err
		}
		l.limit(t.Int("maxconns", lc.MaxConns))
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func (lc *ListenConfig) listenOnce(ctx context.Context, a Address) ([]*Listener, error) {
	l, err := lc.ListenAddress(ctx, a)
	if err != nil {
		return nil, err
	}
	return []*Listener{l}, nil
}
