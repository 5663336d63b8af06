// This file turns the options of an address into a *tls.Config.

package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
)

// Options gives access to an address's options.
type Options interface {
	Has(name string) bool
	String(name, def string) string
	Strings(name string) []string
}

// The names of the options.
const (
	OptionCA         = "ca"         // certificates to trust, instead of the system's
	OptionCert       = "cert"       // our certificate and its chain
	OptionKey        = "key"        // its private key
	OptionSNI        = "sni"        // the name to ask for and to verify
	OptionInsecure   = "insecure"   // SkipVerify
	OptionClientCA   = "clientca"   // a server's: certificates that clients must be signed by
	OptionClientName = "clientname" // a server's: names of which a client's certificate must have one
	OptionMin        = "min"        // the oldest version
)

// SkipVerify is the one value of OptionInsecure.
const SkipVerify = "skip-verify"

// AnyClient as OptionClientName takes every client that OptionClientCA has
// signed.
const AnyClient = "*"

// Client makes the configuration of a client that connects to host, which is
// empty where the address has no host name. address is the address's text, for
// the warning that OptionInsecure causes, once for each address.
func Client(o Options, host, address string) (*tls.Config, error) {
	c, err := both(o)
	if err != nil {
		return nil, err
	}
	insecure, err := insecure(o)
	if err != nil {
		return nil, err
	}
	c.ServerName = o.String(OptionSNI, withoutZone(host))
	if c.ServerName == "" && !insecure {
		return nil, fmt.Errorf("this address has no host name that the server's certificate could be verified for: give it by %s=NAME, or turn the verification off by %s=%s", OptionSNI, OptionInsecure, SkipVerify)
	}
	if o.Has(OptionCA) {
		if c.RootCAs, err = pool(o, OptionCA); err != nil {
			return nil, err
		}
	}
	if insecure {
		c.InsecureSkipVerify = true
		warnings.insecure(address)
	}
	return c, nil
}

// insecure reports whether the verification is turned off. There is one word
// for it, and it does not go with what says how to verify.
func insecure(o Options) (bool, error) {
	switch {
	case !o.Has(OptionInsecure):
		return false, nil
	case o.String(OptionInsecure, "") != SkipVerify:
		return false, fmt.Errorf("option %s: the only value is %s, which turns the verification of the server off", OptionInsecure, SkipVerify)
	case o.Has(OptionCA):
		return false, fmt.Errorf("option %s: it contradicts %s, which says what to verify by", OptionInsecure, OptionCA)
	}
	return true, nil
}

// withoutZone is host without an IPv6 zone, which no certificate has.
func withoutZone(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" {
		return ip.WithZone("").String()
	}
	return host
}

// warnings remembers the addresses that were warned about.
var warnings warned

// maxWarned bounds the addresses that are remembered; past it all are
// forgotten, and some are warned about again.
const maxWarned = 1024

type warned struct {
	mu   sync.Mutex
	done map[string]bool
}

func (w *warned) insecure(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done[address] {
		return
	}
	if w.done == nil || len(w.done) >= maxWarned {
		w.done = make(map[string]bool)
	}
	w.done[address] = true
	slog.Warn("the server's certificate is not verified: anybody on the path can pose as it", "address", address, OptionInsecure, SkipVerify)
}

// Server makes the configuration of a server. It needs OptionCert and
// OptionKey. Clients need a certificate if OptionClientCA is given, and one of
// the names of OptionClientName, which must be given then.
func Server(o Options) (*tls.Config, error) {
	if !o.Has(OptionCert) {
		return nil, fmt.Errorf("a server needs a certificate and its key: give %s=file:PATH and %s=file:PATH", OptionCert, OptionKey)
	}
	c, err := both(o)
	if err != nil {
		return nil, err
	}
	names := o.Strings(OptionClientName)
	switch {
	case o.Has(OptionClientCA):
		if len(names) == 0 {
			return nil, fmt.Errorf("option %s: say which clients may connect by %s=NAME, or by %s=%s for all that it has signed", OptionClientCA, OptionClientName, OptionClientName, AnyClient)
		}
		if c.ClientCAs, err = pool(o, OptionClientCA); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
		// VerifyConnection is asked on resumption too.
		c.VerifyConnection = func(s tls.ConnectionState) error { return admit(s.PeerCertificates, names) }
	case len(names) > 0:
		return nil, fmt.Errorf("option %s: it needs %s=file:PATH, which says who signs such names", OptionClientName, OptionClientCA)
	}
	return c, nil
}

// both is what clients and servers have in common.
func both(o Options) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch o.String(OptionMin, "1.2") {
	case "1.2":
	case "1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("option %s: the versions are 1.2 and 1.3", OptionMin)
	}
	if o.Has(OptionCert) != o.Has(OptionKey) {
		return nil, errors.New("options " + OptionCert + " and " + OptionKey + " go together: a certificate is of no use without its key, and a key without its certificate")
	}
	if o.Has(OptionCert) {
		pair, err := keyPair(o)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{*pair}
	}
	return c, nil
}
