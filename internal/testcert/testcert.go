// Package testcert makes the certificates of tests: an authority, certificates
// that it signs, and ones that must be refused. Nothing of it is for use
// outside a test: keys are written in the clear and live for a day.
package testcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An Authority signs certificates.
type Authority struct {
	// File holds its certificate in PEM form.
	File string
	// Pool has its certificate.
	Pool *x509.CertPool

	cert *x509.Certificate
	key  crypto.Signer
}

// A Certificate is a certificate with its key, as PEM files and ready for
// crypto/tls.
type Certificate struct {
	CertFile, KeyFile string
	TLS               tls.Certificate
}

// New makes an authority whose files are in a directory of the test.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{Pool: x509.NewCertPool()}
	key := newKey(t)
	c := sign(t, key, nil, template{name: "anysock test authority", isCA: true}.x509())
	a.cert, a.key = c, key
	a.Pool.AddCert(c)
	a.File = filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, a.File, "CERTIFICATE", c.Raw)
	return a
}

// Server makes a certificate of a server for the names; without any it is for
// localhost, 127.0.0.1 and ::1.
func (a *Authority) Server(t testing.TB, names ...string) Certificate {
	t.Helper()
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1", "::1"}
	}
	return a.issue(t, template{name: names[0], names: names, usage: x509.ExtKeyUsageServerAuth})
}

// Client makes a certificate of a client for the names: host names, numeric
// addresses, and URIs such as spiffe://example/a.
func (a *Authority) Client(t testing.TB, names ...string) Certificate {
	t.Helper()
	return a.issue(t, template{name: strings.Join(names, " "), names: names, usage: x509.ExtKeyUsageClientAuth})
}

// Expired makes a server's certificate as Server does, which was valid until
// yesterday.
func (a *Authority) Expired(t testing.TB) Certificate {
	t.Helper()
	return a.issue(t, template{name: "localhost", names: []string{"localhost", "127.0.0.1", "::1"}, usage: x509.ExtKeyUsageServerAuth, expired: true})
}

// SelfSigned makes a server's certificate as Server does, which nobody has
// signed but itself.
func SelfSigned(t testing.TB) Certificate {
	t.Helper()
	return new(Authority).issue(t, template{name: "localhost", names: []string{"localhost", "127.0.0.1", "::1"}, usage: x509.ExtKeyUsageServerAuth})
}

// template is what differs between certificates.
type template struct {
	name    string
	names   []string
	usage   x509.ExtKeyUsage
	isCA    bool
	expired bool
}

func (m template) x509() *x509.Certificate {
	now := time.Now()
	c := &x509.Certificate{
		Subject:   pkix.Name{CommonName: m.name},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: m.isCA,
	}
	if m.isCA {
		c.KeyUsage |= x509.KeyUsageCertSign
	} else {
		c.ExtKeyUsage = []x509.ExtKeyUsage{m.usage}
	}
	if m.expired {
		c.NotAfter = now.Add(-24 * time.Hour)
	}
	for _, name := range m.names {
		if ip, err := netip.ParseAddr(name); err == nil {
			c.IPAddresses = append(c.IPAddresses, net.IP(ip.AsSlice()))
		} else if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			c.URIs = append(c.URIs, u)
		} else {
			c.DNSNames = append(c.DNSNames, name)
		}
	}
	return c
}

// issue signs by the authority, or by the certificate itself if that has none.
func (a *Authority) issue(t testing.TB, m template) Certificate {
	t.Helper()
	key := newKey(t)
	c := sign(t, key, a, m.x509())
	dir := t.TempDir()
	out := Certificate{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, out.CertFile, "CERTIFICATE", c.Raw)
	writePEM(t, out.KeyFile, "PRIVATE KEY", der)
	out.TLS = tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
	return out
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, key crypto.Signer, by *Authority, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = serial
	parent, signer := c, key
	if by != nil && by.cert != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
