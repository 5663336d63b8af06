// This file finds out what to ask a proxy for.

package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/anysock/anysock"
)

// destination is where the next hop is, as the proxy is to be told.
func (x *exchange) destination(ctx context.Context, next anysock.Hop) (endpoint, error) {
	base := next.Layers[len(next.Layers)-1].Scheme
	family, err := x.family(base)
	if err != nil {
		return endpoint{}, err
	}
	port, err := strconv.ParseUint(next.Port, 10, 16)
	if err != nil || port == 0 {
		return endpoint{}, x.badAddress("the proxy cannot connect to port "+quoted(next.Port), "")
	}
	if next.Host == "" {
		return endpoint{}, x.badAddress("the host behind the proxy is missing", "name it; localhost is then the proxy's machine")
	}
	return x.host(ctx, next.Host, uint16(port), family)
}

// family is "ip", "ip4" or "ip6" for a base that a proxy can reach.
func (x *exchange) family(base string) (string, error) {
	switch base {
	case "tcp", "tcp4", "tcp6":
		return "ip" + strings.TrimPrefix(base, "tcp"), nil
	}
	return "", &anysock.Error{
		Op: "parse", Addr: x.addr, Kind: anysock.KindAddress,
		Err:  errors.New(protocolNames[x.scheme] + " cannot reach " + base + " addresses, only tcp"),
		Hint: "ssh:// can reach Unix sockets",
	}
}

// host is the endpoint of a host of that family, resolved where the address
// says.
func (x *exchange) host(ctx context.Context, host string, port uint16, family string) (endpoint, error) {
	if addr, zone, ok := strings.Cut(host, "%"); ok {
		return endpoint{}, x.badAddress("the zone "+quoted(zone)+" of "+addr+" means nothing to the proxy", "leave the zone out")
	}
	if x.scheme == schemeSocks4 {
		if family == "ip6" {
			return endpoint{}, x.onlyIPv4("tcp6")
		}
		family = "ip4"
	}
	e, err := hostEndpoint(host, port)
	if err != nil {
		return endpoint{}, x.badAddress(err.Error(), "")
	}
	if e.name == "" {
		if x.scheme == schemeSocks4 && !e.ip.Unmap().Is4() {
			return endpoint{}, x.onlyIPv4(host)
		}
		return endpoint{ip: e.ip.Unmap(), port: port}, nil
	}
	if !x.local {
		if family != "ip" {
			return endpoint{}, x.badAddress("the proxy resolves "+host+" and takes whatever family it finds", "write tcp, or let this side resolve it with resolve=local")
		}
		return e, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return endpoint{}, x.notFound(host, err)
	}
	ip := pick(ips)
	if x.scheme == schemeSocks4 && announces4a([4]byte(ip.AsSlice())) {
		return endpoint{}, x.notFound(host, errors.New("its address "+ip.String()+" cannot be said in SOCKS4"))
	}
	return endpoint{ip: ip, port: port}, nil
}

// pick is the address to ask for. There is one try, because a proxy that fails
// closes the connection, and so it is the one that the system would try first.
// LookupNetIP returns at least one.
func pick(ips []netip.Addr) netip.Addr { return ips[0].Unmap().WithZone("") }

func (x *exchange) onlyIPv4(host string) error {
	return x.badAddress("SOCKS4 knows IPv4 alone, and not "+host, "write socks5:// or socks4a://")
}

func (x *exchange) notFound(host string, err error) error {
	var dns *net.DNSError
	kind := anysock.KindName
	switch {
	case errors.Is(err, context.Canceled):
		kind = anysock.KindCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &dns) && dns.IsTimeout:
		kind = anysock.KindTimeout
	}
	hint := "check the spelling of the host name and the resolver ('getent hosts NAME')"
	if x.scheme == schemeSocks4 {
		hint = "SOCKS4 needs the address of the host: where only the proxy can resolve it write socks4a:// or socks5://"
	}
	return &anysock.Error{Op: anysock.OpResolve, Addr: host, Kind: kind, Err: err, Hint: hint}
}
