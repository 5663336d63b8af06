// This file reads certificates and keys.

package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFile bounds what is read of a certificate, a bundle of them, or a key, in
// bytes: the system's own bundle has about 250 kB.
const maxFile = 2 << 20

// keyPair reads OptionCert and OptionKey.
func keyPair(o Options) (*tls.Certificate, error) {
	cert, err := read(o, OptionCert)
	if err != nil {
		return nil, err
	}
	key, err := read(o, OptionKey)
	if err != nil {
		return nil, err
	}
	return pairs.of(func() (*tls.Certificate, error) { return parsePair(o, cert, key) }, cert, key)
}

func parsePair(o Options, cert, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		if b, _ := pem.Decode(key); b != nil && (b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "") {
			return nil, fmt.Errorf("option %s: the key in %s is encrypted: write it without a pass phrase, readable by this user alone", OptionKey, o.String(OptionKey, ""))
		}
		// The reason is of fixed texts, without a part of the key.
		return nil, fmt.Errorf("options %s and %s (%s, %s): %w", OptionCert, OptionKey, o.String(OptionCert, ""), o.String(OptionKey, ""), err)
	}
	return &pair, nil
}

// pool reads certificates to trust.
func pool(o Options, name string) (*x509.CertPool, error) {
	b, err := read(o, name)
	if err != nil {
		return nil, err
	}
	return pools.of(func() (*x509.CertPool, error) {
		p := x509.NewCertPool()
		if !p.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("option %s: no certificate in %s that can be read: it must be in PEM form", name, o.String(name, ""))
		}
		return p, nil
	}, b)
}

// read is what an option written file:PATH or env:NAME stands for. The errors
// say what is missing and never what was found.
func read(o Options, name string) ([]byte, error) {
	ref := o.String(name, "")
	if variable, ok := strings.CutPrefix(ref, "env:"); ok {
		v, ok := os.LookupEnv(variable)
		if !ok {
			return nil, fmt.Errorf("option %s: the variable %s is not set", name, variable)
		}
		return []byte(v), nil
	}
	path, ok := strings.CutPrefix(ref, "file:")
	if !ok {
		return nil, fmt.Errorf("option %s: write file:PATH, or env:NAME for a variable that has the contents", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("option %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("option %s: %w", name, err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("option %s: %s is longer than %d bytes", name, path, maxFile)
	}
	return b, nil
}
