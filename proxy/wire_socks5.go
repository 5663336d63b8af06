// This file holds SOCKS5 as it is on the wire (RFC 1928) and its password
// method (RFC 1929).

package proxy

import (
	"fmt"
	"net/netip"
)

// The first byte of a message.
const (
	version5        = 5 // RFC 1928 section 3
	versionPassword = 1 // RFC 1929 section 2
)

// A method is how a client proves who it is, RFC 1928 section 3.
type method byte

// The methods.
const (
	methodNone     method = 0x00
	methodGSSAPI   method = 0x01
	methodPassword method = 0x02
	methodRefused  method = 0xff // none of those offered
)

// String names the method for messages.
func (m method) String() string {
	switch m {
	case methodNone:
		return "none"
	case methodGSSAPI:
		return "GSSAPI"
	case methodPassword:
		return "user and password"
	}
	return fmt.Sprintf("0x%02x", byte(m))
}

// A command is what a client wants; SOCKS4 has the first two under the same
// numbers. RFC 1928 section 4.
type command byte

// The commands.
const (
	commandConnect   command = 1
	commandBind      command = 2
	commandAssociate command = 3 // UDP
)

// String names the command.
func (c command) String() string {
	switch c {
	case commandConnect:
		return "CONNECT"
	case commandBind:
		return "BIND"
	case commandAssociate:
		return "UDP ASSOCIATE"
	}
	return fmt.Sprintf("command %d", byte(c))
}

// The forms of an address, RFC 1928 section 5.
const (
	formIPv4 = 1
	formName = 3
	formIPv6 = 4
)

// A reply5 is a SOCKS5 server's answer, RFC 1928 section 6.
type reply5 byte

// The replies.
const (
	replySucceeded          reply5 = 0
	replyFailure            reply5 = 1
	replyNotAllowed         reply5 = 2
	replyNetUnreachable     reply5 = 3
	replyHostUnreachable    reply5 = 4
	replyRefused            reply5 = 5
	replyTTLExpired         reply5 = 6
	replyCommandUnsupported reply5 = 7
	replyFormUnsupported    reply5 = 8
)

var replies5 = [...]string{
	"succeeded", "general SOCKS server failure", "connection not allowed by ruleset", "network unreachable",
	"host unreachable", "connection refused", "TTL expired", "command not supported", "address type not supported",
}

// String is the RFC's word for it.
func (r reply5) String() string {
	if int(r) < len(replies5) {
		return replies5[r]
	}
	return fmt.Sprintf("reply %d, which RFC 1928 does not know", byte(r))
}

// statusPasswordGood is the one answer of RFC 1929 section 2 that lets the
// client in.
const statusPasswordGood = 0

// appendGreeting5 is a client's first message: the methods it offers, 1 to 255
// of them.
func appendGreeting5(b []byte, offered ...method) []byte {
	b = append(b, version5, byte(len(offered)))
	for _, m := range offered {
		b = append(b, byte(m))
	}
	return b
}

// readGreeting5 reads a client's first message. None offered is an error.
func readGreeting5(src source) ([]method, error) {
	if err := readVersion(src, version5, "a SOCKS5 greeting", true); err != nil {
		return nil, err
	}
	var count [1]byte
	if err := readExact(src, count[:], false); err != nil {
		return nil, err
	}
	if count[0] == 0 {
		return nil, malformed("the SOCKS5 greeting offers no method")
	}
	offered := make([]byte, count[0])
	if err := readExact(src, offered, false); err != nil {
		return nil, err
	}
	methods := make([]method, len(offered))
	for i, m := range offered {
		methods[i] = method(m)
	}
	return methods, nil
}

// appendMethod5 is a server's answer to the greeting.
func appendMethod5(b []byte, m method) []byte { return append(b, version5, byte(m)) }

// readMethod5 reads a server's answer to the greeting.
func readMethod5(src source) (method, error) {
	var b [2]byte
	if err := readExact(src, b[:], true); err != nil {
		return 0, err
	}
	if b[0] != version5 {
		return 0, malformed("version %d in the answer to a SOCKS5 greeting", b[0])
	}
	return method(b[1]), nil
}

// appendPassword is a client's message of RFC 1929; both texts have 1 to 255
// bytes.
func appendPassword(b []byte, user, pass string) []byte {
	b = append(b, versionPassword, byte(len(user)))
	b = append(b, user...)
	b = append(b, byte(len(pass)))
	return append(b, pass...)
}

// readPassword reads a client's message of RFC 1929. A server lets an empty
// user or password in on its own account: it fits nobody.
func readPassword(src source) (user, pass string, err error) {
	if err := readVersion(src, versionPassword, "a SOCKS5 password", false); err != nil {
		return "", "", err
	}
	if user, err = readCounted(src); err != nil {
		return "", "", err
	}
	pass, err = readCounted(src)
	return user, pass, err
}

// readCounted reads a text behind a byte that says how long it is.
func readCounted(src source) (string, error) {
	var count [1]byte
	if err := readExact(src, count[:], false); err != nil {
		return "", err
	}
	text := make([]byte, count[0])
	if err := readExact(src, text, false); err != nil {
		return "", err
	}
	return string(text), nil
}

// appendPasswordStatus is a server's answer to a password; the client closes
// after one that is not statusPasswordGood.
func appendPasswordStatus(b []byte, status byte) []byte { return append(b, versionPassword, status) }

// readPasswordStatus reads it. Some servers say 5 where RFC 1929 has 1.
func readPasswordStatus(src source) (byte, error) {
	var b [2]byte
	if err := readExact(src, b[:], false); err != nil {
		return 0, err
	}
	if b[0] != versionPassword && b[0] != version5 {
		return 0, malformed("version %d in the answer to a SOCKS5 password", b[0])
	}
	return b[1], nil
}

// appendRequest5 is a client's request. A name has at most 255 bytes.
func appendRequest5(b []byte, c command, e endpoint) []byte {
	return appendEndpoint5(append(b, version5, byte(c), 0), e)
}

// readRequest5 reads a client's request. The command can be one that the
// server lacks. Once the error is a *wireError its reply is what the client
// must hear.
func readRequest5(src source) (command, endpoint, error) {
	if err := readVersion(src, version5, "a SOCKS5 request", false); err != nil {
		return 0, endpoint{}, err
	}
	var b [3]byte
	if err := readExact(src, b[:], false); err != nil {
		return 0, endpoint{}, err
	}
	e, err := readEndpoint5(src, b[2], true)
	if err == nil && b[1] != 0 {
		err = malformed("the reserved byte of the SOCKS5 request is %d and must be 0", b[1])
	}
	return command(b[0]), e, err
}

// appendReply5 is a server's answer, with the bound address; the zero endpoint
// is 0.0.0.0:0.
func appendReply5(b []byte, r reply5, bound endpoint) []byte {
	return appendEndpoint5(append(b, version5, byte(r), 0), bound)
}

// readReply5 reads a server's answer. After a refusal the server closes, and
// the rest of the answer, which some leave out, is not read. The reserved byte
// is not looked at, and a bound name may be anything, since neither matters to
// the client.
func readReply5(src source) (reply5, endpoint, error) {
	var b [2]byte
	if err := readExact(src, b[:], true); err != nil {
		return 0, endpoint{}, err
	}
	if b[0] != version5 {
		return 0, endpoint{}, malformed("version %d in the answer to a SOCKS5 request", b[0])
	}
	if r := reply5(b[1]); r != replySucceeded {
		return r, endpoint{}, nil
	}
	if err := readExact(src, b[:], false); err != nil {
		return 0, endpoint{}, err
	}
	bound, err := readEndpoint5(src, b[1], false)
	return replySucceeded, bound, err
}

// appendEndpoint5 is an address and a port, RFC 1928 section 5.
func appendEndpoint5(b []byte, e endpoint) []byte {
	switch {
	case e.name != "":
		b = append(b, formName, byte(len(e.name)))
		b = append(b, e.name...)
	case e.ip.Is6():
		b = append(b, formIPv6)
		b = append(b, e.ip.AsSlice()...)
	case e.ip.IsValid():
		b = append(b, formIPv4)
		b = append(b, e.ip.AsSlice()...)
	default:
		b = append(b, formIPv4, 0, 0, 0, 0)
	}
	return append(b, byte(e.port>>8), byte(e.port))
}

// readEndpoint5 reads an address in the given form, and a port. strict asks
// for a host that somebody could connect to.
func readEndpoint5(src source, form byte, strict bool) (endpoint, error) {
	var host []byte
	switch form {
	case formIPv4:
		host = make([]byte, 4)
	case formIPv6:
		host = make([]byte, 16)
	case formName:
		var count [1]byte
		if err := readExact(src, count[:], false); err != nil {
			return endpoint{}, err
		}
		host = make([]byte, count[0])
	default:
		return endpoint{}, &wireError{text: fmt.Sprintf("address type %d, which RFC 1928 does not know", form), reply: replyFormUnsupported}
	}
	if err := readExact(src, host, false); err != nil {
		return endpoint{}, err
	}
	var p [2]byte
	if err := readExact(src, p[:], false); err != nil {
		return endpoint{}, err
	}
	port := uint16(p[0])<<8 | uint16(p[1])
	if form != formName {
		ip, _ := netip.AddrFromSlice(host)
		return endpoint{ip: ip, port: port}, nil
	}
	e, err := hostEndpoint(string(host), port)
	if err != nil && !strict {
		return endpoint{name: string(host), port: port}, nil
	}
	return e, err
}

// readVersion reads the first byte of a message.
func readVersion(src source, want byte, what string, first bool) error {
	var b [1]byte
	if err := readExact(src, b[:], first); err != nil {
		return err
	}
	if b[0] != want {
		return malformed("version %d in %s", b[0], what)
	}
	return nil
}
