package anysock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/sys"
)

// This file lets the event loops of the relay connect as a Dialer does.

func init() {
	bridge.Dialer = func(d, address any) (*bridge.Dialing, bool) {
		a, ok := address.(Address)
		if !ok {
			return nil, false
		}
		dialer, ok := d.(*Dialer)
		if !ok || dialer.Trace != nil || dialer.Allow != nil || dialer.OnConnected != nil || dialer.OnAttempt != nil {
			return nil, false
		}
		hops, err := a.plan(forDialing)
		if err != nil || len(hops) != 1 || len(hops[0].transports) != 1 {
			return nil, false
		}
		t := hops[0].targets[0]
		switch network := hops[0].transports[0].Scheme; network {
		case "unix":
			return dialer.with(t).unixDialing(t)
		case "tcp", "tcp4", "tcp6":
			return dialer.with(t).ipDialing(network, t)
		}
		return nil, false
	}
	bridge.OptionError = func(s bridge.Setting, err error) error {
		return opError(OpOption, optionNames[s.Option]+"="+strconv.Itoa(s.Value), err)
	}
}

// optionNames are the options of Options.
var optionNames = map[sys.Option]string{
	sys.ReceiveBuffer: "SO_RCVBUF", sys.SendBuffer: "SO_SNDBUF", sys.NoDelay: "TCP_NODELAY",
	sys.KeepAlive: "SO_KEEPALIVE", sys.KeepIdle: "TCP_KEEPIDLE", sys.KeepInterval: "TCP_KEEPINTVL", sys.KeepCount: "TCP_KEEPCNT",
}

// dialing is what both have in common. name is the address for errors.
func (d *Dialer) dialing(network, host, name string, f sys.Family) *bridge.Dialing {
	b := &bridge.Dialing{
		Network: network, Unix: f == sys.Unix,
		Interface: d.Interface, Options: *d.Options.shared(),
		Attempts: d.Retry.Attempts, Interval: orDefault(d.Retry.Interval, DefaultRetryInterval),
		AttemptTimeout: orDefault(d.AttemptTimeout, DefaultAttemptTimeout),
		AttemptDelay:   orDefault(d.AttemptDelay, DefaultAttemptDelay),
	}
	b.TimedOut = &attemptTimeoutError{b.AttemptTimeout}
	b.Sequential = b.AttemptDelay < 0
	_ = d.Options.apply(f, func(o sys.Option, v int) error { // which only notes them, and does not fail
		b.Settings = append(b.Settings, bridge.Setting{Option: o, Value: v, Tries: o == sys.MaxRetransmit})
		return nil
	})
	b.Failed = func(attempts any, resolve error, rounds int) (error, bool) {
		as, _ := attempts.([]Attempt)
		if resolve == nil {
			e := connectError(network, name, as, nil)
			return e, worthRetrying(e.Kind)
		}
		e := opError(OpResolve, host, resolve)
		if rounds > 1 {
			e.Attempts = as
		}
		return e, worthRetrying(e.Kind)
	}
	return b
}

func (d *Dialer) unixDialing(t Target) (*bridge.Dialing, bool) {
	path := t.Hop.Opaque
	a, err := parseUnixPath(path)
	if err != nil || d.Local != "" {
		return nil, false
	}
	b := d.dialing("unix", "", path, sys.Unix)
	b.Addrs = []sys.Addr{a}
	return b, true
}

func (d *Dialer) ipDialing(network string, t Target) (*bridge.Dialing, bool) {
	host, port := t.Hop.Host, t.Hop.Port
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, false
	}
	if ip, err := netip.ParseAddr(host); err == nil && (network == "tcp4" && !ip.Unmap().Is4() || network == "tcp6" && ip.Unmap().Is4()) {
		return nil, false
	}
	b := d.dialing(network, host, net.JoinHostPort(host, port), sys.Inet6)
	r := &dialRound{d: d, network: network, host: host, port: uint16(p)}
	if d.Local != "" {
		wildcard := netip.IPv6Unspecified()
		if network == "tcp4" {
			wildcard = netip.IPv4Unspecified()
		}
		local, err := parseNumeric(network, d.Local, wildcard)
		if err != nil {
			return nil, false
		}
		r.local = &local
		b.Sequential = b.Sequential || local.IP.Port() != 0
		b.Local = func(to sys.Addr) *sys.Addr {
			a := local
			if a.Family != to.Family { // the wildcard, to choose a port
				a = sys.IPAddr(netip.AddrPortFrom(wildcardOf(to.Family), a.IP.Port()))
			}
			return &a
		}
	}
	if ips := literal(network, host); ips != nil {
		b.Addrs = r.enqueue(nil, answer{ips: ips})
		return b, len(b.Addrs) > 0
	}
	b.Lookup = func(ctx context.Context, found func([]sys.Addr, error)) {
		answers := make(chan answer)
		go r.resolve(ctx, answers) // ends before this does
		var err error
		some, usable := false, false
		for a := range answers {
			if a.err != nil {
				err = a.err
			}
			some = some || len(a.ips) > 0
			if addrs := r.enqueue(nil, a); len(addrs) > 0 {
				usable = true
				found(addrs, nil)
			}
		}
		switch {
		case usable:
		case some:
			found(nil, &Error{
				Op: OpConnect, Addr: network + ":" + net.JoinHostPort(host, port), Kind: KindAddress,
				Err:  errors.New(host + " has no address of the family of the local address " + r.local.IP.Addr().String()),
				Hint: "choose a local address of the same family",
			})
		default:
			if err == nil {
				err = &net.AddrError{Err: "no address", Addr: host}
			}
			found(nil, err)
		}
	}
	return b, true
}
