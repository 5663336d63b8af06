// This file holds the address options of the layer and what follows from them.

package tls

import (
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io/fs"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/tlsconfig"
)

// lcProtocol is the ALPN name of the lifecycle protocol, and lcScheme its
// layer.
const (
	lcProtocol = "anysock-lc/1"
	lcScheme   = "lc"
)

// maxProtocol bounds an ALPN name (RFC 7301 section 3.1).
const maxProtocol = 255

var options = []anysock.OptionSpec{
	{Name: tlsconfig.OptionCA, Type: anysock.OptionString, Dial: true, Help: "authorities to trust, PEM: file:PATH or env:NAME (default the system's)"},
	{Name: tlsconfig.OptionSNI, Type: anysock.OptionString, Dial: true, Help: "name to ask for and to verify (default the host)"},
	{Name: tlsconfig.OptionInsecure, Type: anysock.OptionString, Dial: true, Help: tlsconfig.SkipVerify + " turns the verification of the server off", Check: checkInsecure},
	{Name: tlsconfig.OptionCert, Type: anysock.OptionString, Dial: true, Listen: true, Help: "our certificate and its chain, PEM: file:PATH or env:NAME (a server needs one)"},
	{Name: tlsconfig.OptionKey, Type: anysock.OptionString, Dial: true, Listen: true, Help: "its private key, PEM: file:PATH or env:NAME"},
	{Name: tlsconfig.OptionClientCA, Type: anysock.OptionString, Listen: true, Help: "demand client certificates of these authorities, PEM: file:PATH or env:NAME"},
	{Name: tlsconfig.OptionClientName, Type: anysock.OptionString, Listen: true, Repeat: true, Help: "a client that may connect, by a subject alternative name; * is all"},
	{Name: tlsconfig.OptionMin, Type: anysock.OptionString, Dial: true, Listen: true, Help: "oldest version, 1.2 or 1.3 (default 1.2)", Check: checkMin},
	{Name: "alpn", Type: anysock.OptionString, Dial: true, Listen: true, Repeat: true, Help: "application protocol to offer or to take, first choice first", Check: checkALPN},
}

func checkInsecure(value string) error {
	if value != tlsconfig.SkipVerify {
		return errors.New("must be " + tlsconfig.SkipVerify + ", which turns the verification of the server off")
	}
	return nil
}

func checkMin(value string) error {
	if value != "1.2" && value != "1.3" {
		return errors.New("must be 1.2 or 1.3")
	}
	return nil
}

func checkALPN(value string) error {
	switch {
	case len(value) > maxProtocol:
		return fmt.Errorf("is longer than %d bytes", maxProtocol)
	case value == lcProtocol:
		return errors.New("is for the lifecycle protocol: put " + lcScheme + "+ in front of the address instead")
	}
	return nil
}

// prepare makes the configuration of an address. What is wrong with it is the
// address's fault, except that a file may not be read.
func prepare(t anysock.Target, listening bool) (any, error) {
	c, err := configure(t, listening)
	if err != nil {
		kind := anysock.KindAddress
		if errors.Is(err, fs.ErrPermission) {
			kind = anysock.KindPermission
		}
		return nil, &anysock.Error{Op: "parse", Addr: t.Hop.String(), Kind: kind, Err: err}
	}
	if !listening {
		c = shared(c)
	}
	return c, nil
}

func configure(t anysock.Target, listening bool) (*cryptotls.Config, error) {
	var c *cryptotls.Config
	var err error
	if listening {
		c, err = tlsconfig.Server(t)
	} else {
		c, err = tlsconfig.Client(t, hostName(t), t.Hop.String())
	}
	if err != nil {
		return nil, err
	}
	c.NextProtos = t.Strings("alpn")
	c.SessionTicketsDisabled = true
	if t.Above() != lcScheme {
		return c, nil
	}
	if len(c.NextProtos) > 0 {
		return nil, errors.New("option alpn: with " + lcScheme + " over it the protocol is " + lcProtocol + ": leave alpn out")
	}
	c.NextProtos = []string{lcProtocol}
	if listening {
		// Before a certificate is spent on the client, and so that its handshake
		// fails too: crypto/tls lets clients in that offer no protocol at all.
		c.GetConfigForClient = func(hello *cryptotls.ClientHelloInfo) (*cryptotls.Config, error) {
			return nil, demandLC(hello.SupportedProtos)
		}
	}
	return c, nil
}

// hostName is the name in the address that a certificate can be for.
func hostName(t anysock.Target) string {
	switch t.Hop.Layers[len(t.Hop.Layers)-1].Scheme {
	case "tcp", "tcp4", "tcp6":
		if t.Hop.Host == "" {
			return "localhost" // which an empty host is dialed as
		}
		return t.Hop.Host
	}
	return ""
}
