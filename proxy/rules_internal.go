// This file knows the addresses that a proxy must not lend itself to, in each
// of the forms they can take.

package proxy

import (
	"net/netip"
	"slices"
)

// An internalNet is a part of the address space that is refused to clients
// that are not on this machine.
type internalNet struct {
	net  netip.Prefix
	what string
}

// internalNets: RFC 6890 has the first ones. Metadata services hand out
// credentials to whoever can reach them from the machine.
var internalNets = []internalNet{
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"}, // 169.254.169.254: metadata of most clouds
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a metadata address"}, // Alibaba Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata address"},   // Azure
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a metadata address"},  // Amazon
	{netip.MustParsePrefix("fd20:ce::254/128"), "a metadata address"},   // Google
}

// unspecified are no targets: a kernel takes them for this machine.
var unspecified = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("::/128")}

func isUnspecified(ip netip.Addr) bool {
	return slices.ContainsFunc(unspecified, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// internalKind says what is internal about one of the forms; "" is nothing.
func internalKind(forms []netip.Addr) string {
	for _, n := range internalNets {
		if slices.ContainsFunc(forms, n.net.Contains) {
			return n.what
		}
	}
	return ""
}

// isInternalPrefix reports whether all of p is internal.
func isInternalPrefix(p netip.Prefix) bool {
	return slices.ContainsFunc(internalNets, func(n internalNet) bool {
		return n.net.Bits() <= p.Bits() && n.net.Contains(p.Addr())
	})
}

// The IPv6 addresses that carry an IPv4 address, and at which byte.
var carriers = []struct {
	net netip.Prefix
	at  int
}{
	{netip.MustParsePrefix("::ffff:0:0/96"), 12},   // IPv4-mapped, RFC 4291 section 2.5.5.2
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated, RFC 2765 section 2.1
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, RFC 4291 section 2.5.5.1
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64, RFC 6052 section 2.1
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4, RFC 3056 section 2
}

// formsOf is what an address counts as: itself, and the IPv4 address that it
// carries. One that is not valid counts as nothing. The IPv6 loopback and
// unspecified addresses are no carriers, though they look like it.
func formsOf(ip netip.Addr) []netip.Addr {
	if !ip.IsValid() {
		return nil
	}
	ip = ip.WithZone("")
	forms := []netip.Addr{ip}
	// Addr.IsLoopback is true of mapped loopback addresses too.
	if !ip.Is6() || ip == netip.IPv6Loopback() || ip == netip.IPv6Unspecified() {
		return forms
	}
	b := ip.As16()
	for _, c := range carriers {
		// Prefix.Contains tells mapped addresses apart from all others.
		if masked, err := netip.AddrFrom16(b).WithZone("").Prefix(c.net.Bits()); err == nil && masked.Addr().As16() == c.net.Addr().As16() {
			forms = append(forms, netip.AddrFrom4([4]byte(b[c.at:])))
		}
	}
	return forms
}

// foldPrefix is the network of IPv4 addresses that a network of mapped ones
// stands for; any other network is left as it is.
func foldPrefix(p netip.Prefix) netip.Prefix {
	if ip := p.Addr(); ip.Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(ip.Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}
