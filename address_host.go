// This file holds the part of the address parser that reads hosts, zones and
// ports.

package anysock

import (
	"net/netip"
	"strconv"
	"strings"
)

// Bounds of host names, RFC 1035 section 2.3.4.
const (
	addrMaxHost  = 253
	addrMaxLabel = 63
)

// hostPort parses host ":" port, where the host may be empty.
func (p *addrParser) hostPort(h *Hop, start, end int, bare bool) *AddressError {
	text := p.s[start:end]
	cid := h.shape() == addrCIDPort
	if text != "" && text[0] == '[' && !cid {
		return p.bracketed(h, start, end, bare)
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return p.noPort(h, text, end, bare)
	}
	host := text[:colon]
	if i := strings.IndexByte(host, ':'); i >= 0 {
		return p.colons(h, start, end, colon, bare)
	}
	if cid {
		if host != "" {
			if err := p.number(&h.Host, start, start+colon, 1<<32-1, "the context identifier"); err != nil {
				return err
			}
		}
		return p.port(h, start+colon+1, end, 1<<32-1)
	}
	if err := p.host(h, start, start+colon); err != nil {
		return err
	}
	return p.port(h, start+colon+1, end, 1<<16-1)
}

// addrLead returns the text before the host in a suggestion.
func addrLead(h *Hop, bare bool) string {
	if bare {
		return ""
	}
	return strings.Join(h.words, "+") + "://"
}

// noPort is the error of a text without any colon.
func (p *addrParser) noPort(h *Hop, host string, end int, bare bool) *AddressError {
	form := "write " + addrForm(h)
	echo := form
	if host != "" {
		echo = "write " + addrLead(h, bare) + host + ":PORT"
	}
	return p.failEcho(end, addrAdvice{"the port is missing", echo}, addrAdvice{"the port is missing", form})
}

// colons is the error of a host with a colon and without brackets. The last
// colon of the text is at colon.
func (p *addrParser) colons(h *Hop, start, end, colon int, bare bool) *AddressError {
	text := p.s[start:end]
	host, port := text[:colon], text[colon+1:]
	if !addrIsIPv6(host) {
		if !addrIsIPv6(text) {
			first := strings.IndexByte(text, ':')
			return p.fail(start+first, "a host has no colon", "write HOST:PORT, and an IPv6 address in brackets, as in [::1]:PORT")
		}
		host, port = text, ""
	}
	if !addrDigits(port) {
		port = "PORT"
	}
	if !bare {
		if ip, zone, ok := strings.Cut(host, "%"); ok {
			host = ip + "%25" + strings.TrimPrefix(zone, "25")
		}
	}
	const msg = "an IPv6 address needs brackets"
	return p.failEcho(start, addrAdvice{msg, "write " + addrLead(h, bare) + "[" + host + "]:" + port},
		addrAdvice{msg, "write them as in [::1]:PORT"})
}

func addrIsIPv6(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is6()
}

// bracketed parses "[" IPv6 [zone] "]:" port.
func (p *addrParser) bracketed(h *Hop, start, end int, bare bool) *AddressError {
	length := strings.IndexByte(p.s[start:end], ']')
	if length < 0 {
		return p.fail(start, "the bracket is not closed", "write ] after the address, as in [::1]:PORT")
	}
	after := start + length + 1
	if err := p.ipv6(h, start+1, after-1, bare); err != nil {
		return err
	}
	if after == end {
		return p.noPort(h, p.s[start:end], end, bare)
	}
	if p.s[after] != ':' {
		return p.fail(after, "a : and the port must follow the ]", "write it as in [::1]:PORT")
	}
	return p.port(h, after+1, end, 1<<16-1)
}

// ipv6 parses what is between brackets. The zone follows RFC 4007 section 11
// in a bare address, and RFC 6874 (% written as %25) in a URL.
func (p *addrParser) ipv6(h *Hop, start, end int, bare bool) *AddressError {
	text, zone := p.s[start:end], ""
	if percent := strings.IndexByte(text, '%'); percent >= 0 {
		var err *AddressError
		if zone, err = p.zone(start+percent, end, bare); err != nil {
			return err
		}
		text = text[:percent]
	}
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		// Point at the character, where it is one that is wrong.
		bad := strings.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF:.", r) })
		return p.fail(start+max(bad, 0), "not an IPv6 address", "write one in the brackets, as in [2001:db8::7]:PORT")
	case ip.Is4():
		return p.fail(start, "brackets are for IPv6 addresses", "remove them")
	case h.Layers[len(h.Layers)-1].Scheme == "tcp4":
		return p.fail(start, "tcp4 cannot reach an IPv6 address", "write tcp or tcp6")
	}
	h.Host = ip.String()
	if zone != "" {
		h.Host += "%" + zone
	}
	return nil
}

// zone parses the zone that begins with the % at start.
func (p *addrParser) zone(start, end int, bare bool) (string, *AddressError) {
	zone, off := p.s[start+1:end], start+1
	escaped := strings.HasPrefix(zone, "25")
	switch {
	case !bare && !escaped:
		hint := "write % as %25, as in %25eth0"
		return "", p.failEcho(start, addrAdvice{"a zone begins with %25", "write %25" + zone}, addrAdvice{"a zone begins with %25", hint})
	case bare && escaped && !addrDigits(zone):
		return "", p.fail(start, "a zone without a scheme word begins with %", "write % instead of %25, or tcp:// before the address")
	case !bare:
		off += len("25")
		var err *AddressError
		if zone, err = p.decode(off, end, false); err != nil {
			return "", err
		}
	}
	if zone == "" {
		return "", p.fail(off, "the zone is empty", "write the name of an interface, as in eth0, or remove the %")
	}
	// The % would hide where the zone begins once it is decoded.
	if strings.ContainsAny(zone, "/%") {
		return "", p.fail(off, "a zone has no / and no %", "write the name of an interface, as in eth0")
	}
	return zone, nil
}

// host parses a host name or an IPv4 address. Empty is allowed.
func (p *addrParser) host(h *Hop, start, end int) *AddressError {
	host := p.s[start:end]
	if host == "" {
		return nil
	}
	if len(strings.TrimSuffix(host, ".")) > addrMaxHost {
		return p.fail(start, "the host name is longer than "+strconv.Itoa(addrMaxHost)+" bytes", "")
	}
	label := 0
	for i := range len(host) {
		c := host[i]
		switch {
		case c == '*' && host == "*":
			return p.fail(start, "* is not a host", "leave out the host for every address of this machine")
		case c >= 0x80:
			return p.fail(start+i, "a host name is ASCII", "write the name in its xn-- form")
		case c == '@':
			return p.fail(start+i, "a second @", "write %40 for an @ in the user")
		case c == '%':
			return p.fail(start+i, "a host name has no % escapes", "")
		case c == '-' && i == 0:
			return p.fail(start, "a host name does not begin with -", "")
		case c == '.':
			if i == label {
				return p.fail(start+i, "a part of the host name is empty", "remove the dot")
			}
			label = i + 1
		case c != '-' && c != '_' && !addrAlphanumeric(c):
			return p.fail(start+i, "a character that does not belong in a host name", "host names have letters, digits, . - and _")
		}
		if i-label >= addrMaxLabel {
			return p.fail(start+label, "a part of the host name is longer than "+strconv.Itoa(addrMaxLabel)+" bytes", "")
		}
	}
	host = addrLower(host)
	last := strings.TrimSuffix(host, ".")
	last = last[strings.LastIndexByte(last, '.')+1:]
	if addrDigits(last) || strings.HasPrefix(last, "0x") && addrHex(last[2:]) {
		// Some resolvers read 127.1 and 0x7f000001 as addresses; a rule that
		// looks at the text would not see 127.0.0.1 in them.
		if _, err := netip.ParseAddr(host); err != nil {
			return p.fail(start, "not an IPv4 address", "write four decimal numbers, as in 127.0.0.1")
		}
		if h.Layers[len(h.Layers)-1].Scheme == "tcp6" {
			return p.fail(start, "tcp6 cannot reach an IPv4 address", "write tcp or tcp4")
		}
	}
	h.Host = host
	return nil
}

// port parses a port.
func (p *addrParser) port(h *Hop, start, end int, largest uint64) *AddressError {
	if start == end {
		return p.fail(start, "the port is missing", "write "+addrForm(h))
	}
	return p.number(&h.Port, start, end, largest, "the port")
}

// number parses a decimal number in its only spelling.
func (p *addrParser) number(to *string, start, end int, largest uint64, what string) *AddressError {
	text := p.s[start:end]
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			hint := "write digits"
			if what == "the port" {
				hint += "; names of services are not looked up"
			}
			return p.fail(start+i, what+" is not a number", hint)
		}
	}
	if text[0] == '0' && text != "0" {
		return p.fail(start, what+" begins with 0", "write it without leading zeros")
	}
	if n, err := strconv.ParseUint(text, 10, 64); err != nil || n > largest {
		return p.fail(start, what+" is out of range", "the largest is "+strconv.FormatUint(largest, 10))
	}
	*to = text
	return nil
}

// addrDigits reports whether s is one or more decimal digits.
func addrDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// addrHex reports whether s has nothing but hex digits; it may be empty.
func addrHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func addrAlphanumeric(c byte) bool {
	return addrUnreserved(c) && c != '-' && c != '.' && c != '_' && c != '~'
}
