package anysock

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// This file finds the addresses of a host name and their order, as RFC 8305
// (Happy Eyeballs v2) says: both families are asked at once, whichever comes
// is used, and addresses alternate between the families.

func resolverOr(r *net.Resolver) *net.Resolver {
	if r == nil {
		return net.DefaultResolver
	}
	return r
}

// lookup asks for the addresses of one host, "ip", "ip4" or "ip6", in the
// order to try them.
func lookup(ctx context.Context, r *net.Resolver, network, host string) ([]netip.Addr, error) {
	ips, err := resolverOr(r).LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	var six, four []netip.Addr
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			four = append(four, ip)
		} else {
			six = append(six, ip)
		}
	}
	return interleave(six, four), nil
}

// interleave alternates between two families, beginning with the first
// (RFC 8305 section 4).
func interleave(a, b []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		if len(a) > 0 {
			out, a = append(out, a[0]), a[1:]
		}
		if len(b) > 0 {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return out
}

// An answer is what one family's query brought.
type answer struct {
	six bool
	ips []netip.Addr
	err error
}

// lookupBoth asks for both families at once and sends the addresses in
// batches: the first batch as soon as IPv6's answer, or IPv4's and the
// resolution delay, or both are there (RFC 8305 section 3); what comes later
// follows. The channel is closed at the end; the last batch may carry the
// error if there was no address at all.
func lookupBoth(ctx context.Context, r *net.Resolver, host string, out chan<- answer) {
	defer close(out)
	answers := make(chan answer, 2)
	ask := func(network string, six bool) {
		ips, err := resolverOr(r).LookupNetIP(ctx, network, host)
		for i := range ips {
			ips[i] = ips[i].Unmap()
		}
		answers <- answer{six, ips, err}
	}
	go ask("ip6", true)
	go ask("ip4", false)

	first := <-answers
	var delay <-chan time.Time
	if !first.six && first.err == nil {
		t := time.NewTimer(DefaultResolutionDelay)
		defer t.Stop()
		delay = t.C
	}
	if delay != nil {
		select {
		case second := <-answers:
			out <- both(first, second)
			return
		case <-delay:
			out <- first
			second := <-answers
			if second.err == nil {
				out <- second
			}
			return
		}
	}
	if first.err == nil {
		out <- first
		if second := <-answers; second.err == nil {
			out <- second
		}
		return
	}
	out <- both(first, <-answers)
}

// both joins two answers into one ordered list; the error counts only if
// neither brought an address.
func both(x, y answer) answer {
	if !x.six {
		x, y = y, x
	}
	a := answer{six: true, ips: interleave(x.ips, y.ips)}
	if len(a.ips) == 0 {
		a.err = y.err
		if a.err == nil {
			a.err = x.err
		}
	}
	return a
}

// joinAddrs is a list of addresses for a message.
func joinAddrs(ips []netip.Addr) string {
	var s []string
	for _, ip := range ips {
		s = append(s, ip.String())
	}
	return strings.Join(s, ",")
}
