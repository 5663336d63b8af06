// This file decides by its names whether a client may connect.

package tlsconfig

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// admit asks for one of the names among the client's subject alternative
// names. The common name counts for nothing (RFC 9525 section 2).
func admit(chain []*x509.Certificate, names []string) error {
	if len(chain) == 0 {
		return errors.New("the client has no certificate")
	}
	if slices.Contains(names, AnyClient) {
		return nil
	}
	if slices.ContainsFunc(names, func(want string) bool { return hasName(chain[0], want) }) {
		return nil
	}
	// The client does not see this text.
	return fmt.Errorf("the client's certificate is for %s: option %s admits none of them", describeNames(chain[0]), OptionClientName)
}

// hasName looks for a name in its own form only, so that a host name of the
// certificate that looks like a URI is none. Nothing is a pattern.
func hasName(c *x509.Certificate, want string) bool {
	if ip, err := netip.ParseAddr(want); err == nil {
		for _, have := range c.IPAddresses {
			if a, ok := netip.AddrFromSlice(have); ok && a.Unmap() == ip.Unmap() {
				return true
			}
		}
		return false
	}
	switch {
	case strings.Contains(want, ":"): // a host name has none
		for _, u := range c.URIs {
			if u.String() == want {
				return true
			}
		}
		return false
	case strings.Contains(want, "@"):
		return slices.Contains(c.EmailAddresses, want)
	}
	return slices.ContainsFunc(c.DNSNames, func(have string) bool { return strings.EqualFold(have, want) })
}

// maxNames bounds the names that a message lists.
const maxNames = 5

// describeNames lists a certificate's names, quoted because the peer has
// chosen them.
func describeNames(c *x509.Certificate) string {
	var s []string
	for _, n := range slices.Concat(c.DNSNames, c.EmailAddresses) {
		s = append(s, fmt.Sprintf("%q", n))
	}
	for _, ip := range c.IPAddresses {
		s = append(s, ip.String())
	}
	for _, u := range c.URIs {
		s = append(s, fmt.Sprintf("%q", u))
	}
	switch {
	case len(s) == 0:
		return "no name at all"
	case len(s) > maxNames:
		return strings.Join(s[:maxNames], ", ") + fmt.Sprintf(" and %d more", len(s)-maxNames)
	}
	return strings.Join(s, ", ")
}
