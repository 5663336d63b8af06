// This file holds SOCKS4 as it is on the wire ("SOCKS: A protocol for TCP proxy
// across firewalls", Ying-Da Lee) and its extension 4a, which lets the server
// resolve names ("SOCKS 4A: A Simple Extension to SOCKS 4 Protocol").

package proxy

import (
	"fmt"
	"net/netip"
)

// version4 is the first byte of a request.
const version4 = 4

// A reply4 is a SOCKS4 server's answer.
type reply4 byte

// The replies.
const (
	reply4Granted  reply4 = 90
	reply4Rejected reply4 = 91
	reply4NoIdent  reply4 = 92 // the server cannot reach the client's identd
	reply4Ident    reply4 = 93 // identd names another user
)

// String is the specification's word for it.
func (r reply4) String() string {
	switch r {
	case reply4Granted:
		return "request granted"
	case reply4Rejected:
		return "request rejected or failed"
	case reply4NoIdent:
		return "request rejected because the server cannot connect to identd on the client"
	case reply4Ident:
		return "request rejected because the client and identd report different users"
	}
	return fmt.Sprintf("reply %d, which SOCKS4 does not know", byte(r))
}

// appendRequest4 is a client's request. An IPv4 address is sent as such, a
// name (and an IPv6 address, as text) in the form of 4a, for which see
// needs4a. Neither user nor name has a NUL or more than 255 bytes.
func appendRequest4(b []byte, c command, e endpoint, user string) []byte {
	b = append(b, version4, byte(c), byte(e.port>>8), byte(e.port))
	name := ""
	switch {
	case needs4a(e):
		b = append(b, 0, 0, 0, 1)
		name = e.host()
	case e.ip.IsValid():
		b = append(b, e.ip.AsSlice()...)
	default:
		b = append(b, 0, 0, 0, 0)
	}
	b = append(append(b, user...), 0)
	if name != "" {
		b = append(append(b, name...), 0)
	}
	return b
}

// needs4a reports whether plain SOCKS4 cannot say e.
func needs4a(e endpoint) bool {
	return e.name != "" || e.ip.Is6() || e.ip.IsValid() && announces4a([4]byte(e.ip.AsSlice()))
}

// announces4a knows the impossible addresses that announce a name: 0.0.0.x
// with x not 0.
func announces4a(ip [4]byte) bool { return ip[0]|ip[1]|ip[2] == 0 && ip[3] != 0 }

// readRequest4 reads a client's request of either form. The command can be one
// that the server lacks.
func readRequest4(src source) (c command, e endpoint, user string, err error) {
	if err := readVersion(src, version4, "a SOCKS4 request", true); err != nil {
		return 0, endpoint{}, "", err
	}
	var b [7]byte
	if err := readExact(src, b[:], false); err != nil {
		return 0, endpoint{}, "", err
	}
	c = command(b[0])
	ip := [4]byte(b[3:])
	e = endpoint{ip: netip.AddrFrom4(ip), port: uint16(b[1])<<8 | uint16(b[2])}
	if user, err = readText(src, "user of the SOCKS4 request", maxText); err != nil {
		return 0, endpoint{}, "", err
	}
	if announces4a(ip) {
		name, err := readText(src, "host name of the SOCKS4 request", maxText)
		if err != nil {
			return 0, endpoint{}, "", err
		}
		if e, err = hostEndpoint(name, e.port); err != nil {
			return c, endpoint{}, user, err
		}
	}
	return c, e, user, nil
}

// appendReply4 is a server's answer, with the bound IPv4 address; anything
// else is 0.0.0.0.
func appendReply4(b []byte, r reply4, bound endpoint) []byte {
	b = append(b, 0, byte(r), byte(bound.port>>8), byte(bound.port))
	if ip := bound.ip.Unmap(); ip.Is4() {
		return append(b, ip.AsSlice()...)
	}
	return append(b, 0, 0, 0, 0)
}

// readReply4 reads a server's answer. Its first byte is 0; some servers say 4.
// After a refusal the rest of the answer, which some leave out, is not read.
func readReply4(src source) (reply4, endpoint, error) {
	var b [6]byte
	if err := readExact(src, b[:2], true); err != nil {
		return 0, endpoint{}, err
	}
	if b[0] != 0 && b[0] != version4 {
		return 0, endpoint{}, malformed("version %d in the answer to a SOCKS4 request", b[0])
	}
	r := reply4(b[1])
	if r != reply4Granted {
		return r, endpoint{}, nil
	}
	if err := readExact(src, b[:], false); err != nil {
		return 0, endpoint{}, err
	}
	return r, endpoint{ip: netip.AddrFrom4([4]byte(b[2:])), port: uint16(b[0])<<8 | uint16(b[1])}, nil
}
