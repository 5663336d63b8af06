// This file holds the address of a connection: what a program sees of it
// (Address, Hop, Layer, AddressOption) and how it is printed. The parser is in
// address_parse.go, the scheme words in address_scheme.go, the errors in
// address_error.go.

package anysock

import (
	"slices"
	"strings"
)

// Bounds of an address. ParseAddress refuses what goes beyond them.
const (
	addrMaxLen     = 4096 // bytes in an address, as written and in canonical form
	addrMaxHops    = 16   // hops in a chain
	addrMaxLayers  = 8    // layers in a hop, shorthand expanded: wss counts as ws, tls, tcp
	addrMaxOptions = 64   // options in a hop
)

// Address says where a connection goes and through what. It is a chain of one
// or more hops, and each hop is a stack of layers:
//
//	chain = addr *("," addr)
//	addr  = layer *("+" layer) ":" ("//" [user "@"] host ":" port [path] | opaque) ["?" option *("&" option)]
//
// The shape is that of a URL (RFC 3986). "+" reads "over", nearest the
// application first; a comma separates hops, first hop first; a comma that
// belongs to the text is written %2C. A bare host:port is tcp.
//
//	tcp://:3005                      every address of this machine
//	localhost:3005                   the same as tcp://localhost:3005
//	tcp6://[fe80::1%25eth0]:3005     a zone, with % written as %25
//	wss://edge:443/t                 ws over tls over tcp
//	tls+unix:/run/o.sock?mode=0660   tls over a Unix socket
//	ssh://ops@bastion:22,tls://db:5432
//
// An Address has no place for a secret. ParseAddress refuses user:password@, and
// an option whose name ends in pass, passphrase, password, passwd, pwd, secret or
// token (tls.pass, auth-token) unless its value is env:NAME or file:PATH.
//
// An Address is immutable, and safe for use by several goroutines. Its zero
// value is no address. It remembers the text that it was parsed from, so that
// a later error can point into it; for this reason addresses are compared with
// Equal, and == does not compile. As a map key use String.
type Address struct {
	_ [0]func() // makes == a compile error: it would compare spellings
	d *addressData
}

// addressData is shared by all copies of an Address and never changes.
type addressData struct {
	input string // as given to ParseAddress; every offset points into it
	text  string // canonical
	hops  []Hop
}

// Hop is one station of an address: a stack of layers and where it stands.
// Which of the fields are set depends on the last layer, the base.
type Hop struct {
	// Layers lists the layers, nearest the application first, with shorthand
	// expanded: wss is ws, tls, tcp. There is always at least one, and the
	// last one is the base.
	Layers []Layer

	// User is the user name before "@", decoded. Only ssh, socks4, socks4a,
	// socks5, http and https take one.
	User string

	// Host is a host name in lower case, an IPv4 address, or an IPv6 address
	// in the form of RFC 5952, without brackets and with its zone
	// (fe80::1%eth0). Empty means every address of this machine. For vsock it
	// is the context identifier, a decimal number.
	Host string

	// Port is the decimal port: 0 to 65535, for vsock 0 to 4294967295.
	// Empty where the base has none.
	Port string

	// Path is the path of a hop with a ws layer, and begins with "/". It is
	// "/" where none was written, and empty in hops without ws. It stays
	// percent-encoded, ready for a request line, because "%2F" and "/" differ
	// there; escapes are normalized as in RFC 3986 section 6.2.2.
	Path string

	// Opaque is what follows the colon where there is no host, decoded:
	// "/run/o.sock" or "@abstract" (unix), "name" (mem, svc),
	// "/usr/bin/sort" (exec), "3" (fd).
	Opaque string

	// Options lists the options as written, in order.
	Options []AddressOption

	words []string // scheme words as written, for printing: wss stays wss
}

// Layer is one protocol in a hop.
type Layer struct {
	// Scheme is the word of the layer. It is never shorthand: "ws" and "tls",
	// not "wss".
	Scheme string

	off int // where in the input the word stands that brought this layer
}

// AddressOption is one name=value of a hop.
type AddressOption struct {
	// Name is the name, in lower case: "backlog", "tls.min", "tls.1.min".
	Name string
	// Value is the value, percent-decoded. "+" is a plus sign, not a space.
	Value string

	off      int // of the name in the input
	valueOff int // of the value in the input
}

// MustParseAddress is ParseAddress for constants in programs: it panics where
// ParseAddress returns an error.
func MustParseAddress(s string) Address {
	a, err := ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// IsZero reports whether a is the zero Address, which is no address.
func (a Address) IsZero() bool { return a.d == nil }

// Equal reports whether a and b print the same. Different spellings of the
// same place can be equal ("localhost:1" and "tcp://LOCALHOST:1"); scheme words
// count as written, so that "wss://h:1" and "ws+tls+tcp://h:1" are not equal.
func (a Address) Equal(b Address) bool { return a.String() == b.String() }

// String returns the canonical form, or "" for the zero Address. It is
// printable ASCII without spaces, and it is a fixed point: ParseAddress of it
// succeeds, and prints the same again.
func (a Address) String() string {
	if a.d == nil {
		return ""
	}
	return a.d.text
}

// Hops returns the hops, first hop first, or nil for the zero Address. It is a
// copy: changing it does not change the address.
func (a Address) Hops() []Hop {
	if a.d == nil {
		return nil
	}
	hops := slices.Clone(a.d.hops)
	for i := range hops {
		hops[i].Layers = slices.Clone(hops[i].Layers)
		hops[i].Options = slices.Clone(hops[i].Options)
	}
	return hops
}

// MarshalText implements encoding.TextMarshaler: the canonical form, empty for
// the zero Address. The error is always nil.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It is ParseAddress, except
// that an empty text is the zero Address. On an error, an *AddressError, a is
// left as it was.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// errorAt returns an error about the byte at off of the text that a was parsed
// from, for checks that come after parsing. Parsing has refused every secret,
// so the text is shown as it is.
func (a Address) errorAt(off int, msg, hint string) *AddressError {
	if a.d == nil {
		return &AddressError{Msg: msg, Hint: hint}
	}
	return newAddressError(a.d.input, nil, off, msg, hint)
}

// String returns the canonical form of the hop, or "" for the zero Hop.
func (h Hop) String() string {
	var b strings.Builder
	h.appendTo(&b)
	return b.String()
}

// Which bytes are printed as they are, besides letters, digits and "-._~". The
// comma is in none of them: it separates hops.
const (
	addrUserPlain   = "!$&'()*+;="
	addrPathPlain   = "!$&'()*+;=:@/"
	addrValuePlain  = "!$'()*+;=:@/[]"
	addrZonePlain   = ""
	addrUpperDigits = "0123456789ABCDEF"
)

// appendTo prints the hop. It is the inverse of addrParser.hop.
func (h Hop) appendTo(b *strings.Builder) {
	if len(h.words) == 0 {
		return // no hop of a parsed address
	}
	b.WriteString(strings.Join(h.words, "+"))
	b.WriteByte(':')
	switch {
	case h.Port != "":
		b.WriteString("//")
		if h.User != "" {
			addrEscape(b, h.User, addrUserPlain)
			b.WriteByte('@')
		}
		if strings.Contains(h.Host, ":") {
			ip, zone, _ := strings.Cut(h.Host, "%")
			b.WriteByte('[')
			b.WriteString(ip)
			if zone != "" {
				b.WriteString("%25")
				addrEscape(b, zone, addrZonePlain)
			}
			b.WriteByte(']')
		} else {
			b.WriteString(h.Host)
		}
		b.WriteByte(':')
		b.WriteString(h.Port)
		if h.Path != "/" {
			b.WriteString(h.Path)
		}
	case strings.HasPrefix(h.Opaque, "//"):
		// Two plain slashes would announce a host.
		b.WriteString("/%2F")
		addrEscape(b, h.Opaque[2:], addrPathPlain)
	default:
		addrEscape(b, h.Opaque, addrPathPlain)
	}
	for i, o := range h.Options {
		if i == 0 {
			b.WriteByte('?')
		} else {
			b.WriteByte('&')
		}
		b.WriteString(o.Name)
		b.WriteByte('=')
		addrEscape(b, o.Value, addrValuePlain)
	}
}

// addrEscape writes s with every byte percent-encoded that is neither
// unreserved (RFC 3986 section 2.3) nor in plain.
func addrEscape(b *strings.Builder, s, plain string) {
	for i := 0; i < len(s); i++ {
		if addrUnreserved(s[i]) || strings.IndexByte(plain, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			addrEscapeByte(b, s[i])
		}
	}
}

func addrEscapeByte(b *strings.Builder, c byte) {
	b.WriteByte('%')
	b.WriteByte(addrUpperDigits[c>>4])
	b.WriteByte(addrUpperDigits[c&15])
}

func addrUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
