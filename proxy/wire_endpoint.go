// This file holds the address that a proxy is asked for, or tells: an IP
// address or a name, and a port.

package proxy

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxText bounds a name in every protocol here: it is what one byte of length
// can say (RFC 1928 section 5).
const maxText = 255

// An endpoint is an IP address without a zone, or a name that the far end
// resolves, and a port. Neither address nor name is the unspecified host.
type endpoint struct {
	ip   netip.Addr
	name string
	port uint16
}

// ipEndpoint is the endpoint of an address; its zone is dropped.
func ipEndpoint(ap netip.AddrPort) endpoint {
	return endpoint{ip: ap.Addr().WithZone(""), port: ap.Port()}
}

// hostEndpoint reads a host as text: an IP address without brackets, or a
// name. A name has 1 to 255 bytes of letters, digits, "-", "_" and ".", as in
// RFC 1123 section 2.1: everything else that is printable is no host that a
// resolver could find, and the rest of the bytes are not for logs.
func hostEndpoint(host string, port uint16) (endpoint, error) {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return endpoint{ip: ip, port: port}, nil
	}
	switch {
	case host == "":
		return endpoint{}, malformed("the host name is empty")
	case len(host) > maxText:
		return endpoint{}, malformed("the host name has %d bytes, and more than %d cannot be sent", len(host), maxText)
	}
	if !isPlainName(host) {
		return endpoint{}, malformed("%s is no host name", quoted(host))
	}
	return endpoint{name: host, port: port}, nil
}

func isHostByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '.' || b == '_'
}

// parseEndpoint reads host ":" port, an IPv6 address in brackets.
func parseEndpoint(s string) (endpoint, error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return endpoint{}, malformed("%s is not a host and a port", quoted(s))
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || text[0] == '+' {
		return endpoint{}, malformed("%s is no port", quoted(text))
	}
	if strings.HasPrefix(s, "[") != strings.Contains(host, ":") {
		return endpoint{}, malformed("%s: brackets are for IPv6 addresses", quoted(s))
	}
	e, err := hostEndpoint(host, uint16(port))
	if err == nil && strings.Contains(host, ":") && !e.ip.IsValid() {
		err = malformed("%s is no host name", quoted(host))
	}
	return e, err
}

// isUnspecified reports whether e names no host.
func (e endpoint) isUnspecified() bool {
	return e.name == "" && (!e.ip.IsValid() || e.ip.IsUnspecified())
}

// host is the host as text, without brackets; "0.0.0.0" for the zero endpoint.
func (e endpoint) host() string {
	switch {
	case e.name != "":
		return e.name
	case e.ip.IsValid():
		return e.ip.String()
	}
	return netip.IPv4Unspecified().String()
}

// String is host:port, an IPv6 address in brackets, and fit for a message
// whatever the other side sent.
func (e endpoint) String() string {
	host := e.host()
	if e.name != "" && !isPlainName(host) {
		host = quoted(host)
	}
	return net.JoinHostPort(host, strconv.Itoa(int(e.port)))
}

func isPlainName(s string) bool {
	for i := range len(s) {
		if !isHostByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// maxQuoted bounds what a message repeats of what the other side sent.
const maxQuoted = 200

// quoted makes text of the other side's fit for a message: control characters
// and bytes beyond ASCII are escaped, and much of it is cut.
func quoted(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
