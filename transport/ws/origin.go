// This file decides which web pages may connect. A browser sends the origin of
// the page that opens a WebSocket, and connects wherever the page says, with
// the user's cookies and from inside the user's network: the server alone can
// refuse (RFC 6455 section 10.2).

package ws

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// An origin is scheme, host and port (RFC 6454 section 4); all empty is the
// opaque origin, which is written null.
type origin struct{ scheme, host, port string }

var (
	errOrigin       = errors.New("an origin is a scheme, a host and maybe a port")
	errOriginScheme = errors.New("the origin of a page is http or https")
)

// parseOrigin reads an Origin header, or what an option allows.
func parseOrigin(s string) (origin, error) {
	if s == "null" {
		return origin{}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !isVisible(s) {
		return origin{}, errOrigin
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		// Extensions and applications have schemes of their own, without ports.
		if u.Port() != "" {
			return origin{}, errOriginScheme
		}
		return origin{scheme: u.Scheme, host: strings.ToLower(u.Host)}, nil
	}
	return hostOrigin(u.Host, u.Scheme == "https")
}

// hostOrigin is the origin of pages that come from this host, a Host header.
func hostOrigin(hostport string, secure bool) (origin, error) {
	u, err := url.Parse("http://" + hostport)
	if err != nil || u.Host != hostport || u.Hostname() == "" {
		return origin{}, errOrigin
	}
	o := origin{scheme: "http", host: strings.ToLower(u.Hostname()), port: u.Port()}
	if secure {
		o.scheme = "https"
	}
	if o.port == "" {
		o.port = defaultPort(secure)
	}
	return o, nil
}

// String is the form of an Origin header (RFC 6454 section 6.2).
func (o origin) String() string {
	switch {
	case o == origin{}:
		return "null"
	case o.port == "":
		return o.scheme + "://" + o.host
	}
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port != defaultPort(o.scheme == "https") {
		host += ":" + o.port
	}
	return o.scheme + "://" + host
}

// allows reports whether pages of this origin may connect. Programs that are
// no browsers send none, and may.
//
// A page may connect to where it came from: scheme, host and port are equal.
// On loopback that is not enough, because a foreign name can be made to resolve
// to this machine (DNS rebinding), and then its pages seem to come from here:
// there the name must be one of this machine's own, unless it is allowed by the
// option.
func (l *listenSettings) allows(header []string, host string, local net.Addr) bool {
	switch {
	case len(header) == 0 || l.anyOrigin:
		return true
	case len(header) > 1:
		return false
	}
	from, err := parseOrigin(header[0])
	if err != nil {
		return false
	}
	for _, o := range l.origins {
		if o == from {
			return true
		}
	}
	own, err := hostOrigin(host, l.secure)
	if err != nil || own != from {
		return false
	}
	return !isLoopback(local) || isLocalName(own.host)
}

// isLoopback reports whether only this machine reaches the address.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// isLocalName reports names that no resolver is asked for (RFC 6761 section
// 6.3), and numbers.
func isLocalName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
