// This file judges the values of the hops' options.

package proxy

import (
	"errors"
	"fmt"
	"strings"
)

// checkResolve is the check of the option resolve.
func checkResolve(value string) error {
	if value != resolveRemote && value != resolveLocal {
		return errors.New("must be " + resolveRemote + " or " + resolveLocal)
	}
	return nil
}

// checkHeader is the check of the option header.
func checkHeader(value string) error {
	_, err := parseHeader(value)
	return err
}

// checkPeer is the check of the option peer.
func checkPeer(value string) error {
	_, err := parsePeer(value)
	return err
}

var (
	// ownFields are those that the request has itself.
	ownFields = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection"}
	// secretFields are those whose values do not belong in an address.
	secretFields = []string{"Proxy-Authorization", "Authorization", "Cookie"}
)

// parseHeader reads a header field as it is written in an address.
func parseHeader(text string) (field, error) {
	name, value, ok := strings.Cut(text, ":")
	value = strings.Trim(value, " \t")
	if !ok || !isToken(name) || !isFieldValue(value) {
		return field{}, errors.New("must be a name and a value that can be sent, as in X-Team:%20blue")
	}
	for _, own := range ownFields {
		if strings.EqualFold(name, own) {
			return field{}, fmt.Errorf("must not be %s, which the request has already", own)
		}
	}
	for _, secret := range secretFields {
		if strings.EqualFold(name, secret) {
			return field{}, fmt.Errorf("must not be %s, a secret: write USER@ and pass=env:NAME or pass=file:PATH", secret)
		}
	}
	return field{name, value}, nil
}

// parsePeer reads who may call: a host, with or without brackets if it is an
// IPv6 address, or a host and a port.
func parsePeer(text string) (endpoint, error) {
	for _, form := range []string{"%s", "%s:0", "[%s]:0"} {
		if e, err := parseEndpoint(fmt.Sprintf(form, text)); err == nil {
			return e, nil
		}
	}
	return endpoint{}, errors.New("must be a host, or a host and a port, as in server, 192.0.2.1:20 or [2001:db8::7]:20")
}
