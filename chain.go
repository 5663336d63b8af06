package anysock

import (
	"context"
	"errors"
	"net"
	"time"
)

// This file dials an address: hop by hop, each from its base up.

// DialAddress is Dial for a parsed address.
func (d *Dialer) DialAddress(ctx context.Context, a Address) (*Conn, error) {
	hops, err := a.plan(forDialing)
	if err != nil {
		return nil, opError("parse", a.String(), err)
	}
	if err := feasible(hops, false); err != nil {
		return nil, err
	}
	if err := prepare(hops, false); err != nil {
		return nil, opError("parse", a.String(), err)
	}
	if len(hops) == 1 && isOurs(hops[0].transports[len(hops[0].transports)-1].Scheme) {
		return d.dialHops(ctx, hops, false) // which retries by itself
	}
	return d.retryHops(ctx, a, hops)
}

// retryHops retries a chain as a whole, so that a target which a hop cannot
// reach yet is tried again too.
func (d *Dialer) retryHops(ctx context.Context, a Address, hops []plannedHop) (*Conn, error) {
	base := hops[0].targets[len(hops[0].targets)-1]
	once := *d.with(base)
	policy := once.Retry
	once.Retry = Retry{}
	base.drop("retry", "retryinterval")
	if policy.Attempts == 0 || policy.Attempts == 1 {
		return once.dialHops(ctx, hops, false)
	}
	outer := once
	outer.Retry = policy
	return outer.retry(ctx, hops[0].hop.Layers[0].Scheme, a.String(), func(ctx context.Context, r *dialRound) (*Conn, error) {
		start := time.Now()
		c, err := once.dialHops(ctx, hops, false)
		if err != nil {
			r.note(start, a.String(), err)
		}
		return c, err
	})
}

// note lists what made a round fail: the attempts of connecting, or what came
// after them.
func (r *dialRound) note(start time.Time, addr string, err error) {
	attempts := []Attempt{{Addr: addr, Duration: time.Since(start), Err: err}}
	var e *Error
	listed := errors.As(err, &e) && len(e.Attempts) > 0
	if listed {
		attempts = e.Attempts
	}
	for _, at := range attempts {
		at.Round = r.round
		at.Started += start.Sub(r.began)
		if !listed && r.d.OnAttempt != nil {
			r.d.OnAttempt(at)
		}
		r.mu.Lock()
		if len(r.attempts) < maxAttempts {
			r.attempts = append(r.attempts, at)
		}
		r.mu.Unlock()
	}
}

// prepare lets the transports look at their options; listening says that the
// last hop is listened on.
func prepare(hops []plannedHop, listening bool) error {
	for n, p := range hops {
		for i, t := range p.transports {
			if t.Prepare == nil || i == len(p.transports)-1 && n > 0 { // behind a hop the base is its stream
				continue
			}
			v, err := t.Prepare(p.targets[i], listening && n == len(hops)-1)
			if err != nil {
				return err
			}
			p.targets[i].Prepared = v
		}
	}
	return nil
}

// dialHops connects along the hops; onward says that there is one more behind
// them, which the last one's top layer is to reach.
func (d *Dialer) dialHops(ctx context.Context, hops []plannedHop, onward bool) (c *Conn, err error) {
	for i, p := range hops {
		var prev *plannedHop
		if i > 0 {
			prev = &hops[i-1]
		}
		if c, err = d.dialHop(ctx, c, prev, p, onward || i < len(hops)-1); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// feasible finds out whether every part of the chain can play its role, before
// anything is dialed; more says that a hop to listen through follows.
func feasible(hops []plannedHop, more bool) error {
	for h, p := range hops {
		onward := more || h < len(hops)-1
		for i, t := range p.transports {
			switch base := i == len(p.transports)-1; {
			case i == 0 && h == len(hops)-1 && more:
				if t.ListenThrough == nil {
					return unsupported(OpListen, t.Scheme, "listening through a "+t.Scheme+" hop")
				}
			case i == 0 && onward:
				if t.Through == nil {
					return &Error{Op: "parse", Addr: t.Scheme, Kind: KindAddress, Err: errors.New("a " + t.Scheme + " address cannot lead to another")}
				}
			case !base && t.Client == nil && t.Through != nil:
				return &Error{Op: "parse", Addr: t.Scheme, Kind: KindAddress, Err: errors.New("a " + t.Scheme + " address must lead to another"), Hint: "add a comma and the address to reach through it"}
			case !base && t.Client == nil:
				return unsupported(OpHandshake, t.Scheme, t.Scheme+" has no client side")
			}
		}
		if base := p.transports[len(p.transports)-1]; h == 0 && base.Dial == nil {
			return unsupported(OpConnect, base.Scheme, base.Scheme+" cannot be dialed")
		}
	}
	return nil
}

// dialHop connects to one hop, through the connection to the one before, and
// performs the handshakes of its layers from the base up.
func (d *Dialer) dialHop(ctx context.Context, below *Conn, prev *plannedHop, p plannedHop, onward bool) (*Conn, error) {
	d = d.with(p.targets[len(p.targets)-1])
	top := 0
	if onward {
		top = 1 // the top layer is what the next hop is reached through
	}
	c, err := d.dialBase(ctx, below, prev, p)
	if err != nil {
		return nil, err
	}
	for i := len(p.transports) - 2; i >= top; i-- {
		if c, err = d.climb(ctx, c, p, i); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (d *Dialer) dialBase(ctx context.Context, below *Conn, prev *plannedHop, p plannedHop) (*Conn, error) {
	last := len(p.transports) - 1
	t, target := p.transports[last], p.targets[last]
	start := time.Now()
	if prev == nil {
		nc, err := t.Dial(ctx, d, target)
		if err != nil {
			if d.Trace != nil && !isOurs(t.Scheme) && t.Scheme != "quic" { // which goes through DialIP
				d.Trace(Event{Time: start, Duration: time.Since(start), Op: OpConnect, Network: t.Scheme, State: StateConnecting, Err: err})
			}
			return nil, opError(OpConnect, t.Scheme, err)
		}
		return d.adopt(nc, OpConnect, "", start, t.Scheme, target.Caps)
	}
	hctx, cancel := context.WithTimeout(ctx, DefaultHandshake)
	defer cancel()
	nc, err := prev.transports[0].Through(hctx, below, prev.targets[0], p.hop)
	below.emit(Event{Time: start, Duration: time.Since(start), Op: OpHandshake, Detail: prev.hop.Layers[0].Scheme, Err: err})
	if err != nil {
		_ = below.Abort()
		return nil, handshakeError(prev.hop.Layers[0].Scheme+" with "+below.peerName(), err)
	}
	if c, ok := nc.(*Conn); ok {
		c.startOver(d.Options, target.Caps)
		return c, nil
	}
	return d.adopt(nc, OpConnect, "", start, t.Scheme, target.Caps)
}

// climb performs the client's handshake of layer i over c.
func (d *Dialer) climb(ctx context.Context, c *Conn, p plannedHop, i int) (*Conn, error) {
	t := p.transports[i]
	hctx, cancel := context.WithTimeout(ctx, DefaultHandshake)
	defer cancel()
	start := time.Now()
	nc, err := t.Client(hctx, c, p.targets[i])
	if err != nil {
		c.emit(Event{Time: start, Duration: time.Since(start), Op: OpHandshake, Detail: t.Scheme, Err: err})
		_ = c.Abort()
		return nil, handshakeError(t.Scheme+" with "+c.peerName(), err)
	}
	return d.adopt(nc, OpHandshake, t.Scheme, start, t.Scheme, p.targets[i].Caps)
}

// handshakeError is opError for a handshake. What failed in it may be a read or
// write of the connection below, which says nothing of the layer.
func handshakeError(addr string, err error) *Error {
	e := opError(OpHandshake, addr, err)
	switch e.Op {
	case OpRead, OpWrite, OpWait, OpPeek, OpShutdown:
		return &Error{Op: OpHandshake, Addr: addr, Kind: e.Kind, Err: e, Hint: e.Hint}
	}
	return e
}

// startOver makes the connection to a hop the one through it, which begins now:
// what the hop was told and answered belongs to no stream. Nobody else has c
// yet.
func (c *Conn) startOver(o Options, caps Caps) {
	kept := int64(len(c.unread()))
	c.opened = time.Now()
	c.sent.Store(0)
	c.received.Store(kept)
	if kept == 0 {
		c.firstReceived.Store(0)
	}
	c.opts, c.caps = o.shared(), c.caps&caps
}

// adopt makes a transport's stream a Conn with the Dialer's wishes, and
// reports the step that brought it. A Conn has reported its own.
func (d *Dialer) adopt(nc net.Conn, op, detail string, start time.Time, network string, caps Caps) (*Conn, error) {
	if c, ok := nc.(*Conn); ok {
		return c, nil
	}
	s := asStream(nc)
	if k, ok := s.(*kernelStream); ok {
		if err := d.Options.apply(k.Family(), k.SetInt); err != nil {
			_ = s.Abort()
			return nil, err
		}
	}
	c := newConn(0, network, s, capsFor(s, caps), d.Options, d.Group, d.Trace)
	c.emit(Event{Time: start, Duration: time.Since(start), Op: op, Detail: detail})
	return c, nil
}

// isOurs: the transports that report their own steps.
func isOurs(scheme string) bool {
	switch scheme {
	case "tcp", "tcp4", "tcp6", "unix", "mem", "echo", "discard", "chargen":
		return true
	}
	return false
}
