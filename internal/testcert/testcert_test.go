package testcert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
)

// The files fit together and mean what their makers say.
func TestCertificates(t *testing.T) {
	a := New(t)
	verify := func(c Certificate, name string, usage x509.ExtKeyUsage) error {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := verify(a.Server(t), name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("server's certificate for %s: %v", name, err)
		}
	}
	if err := verify(a.Server(t, "example.org"), "localhost", x509.ExtKeyUsageServerAuth); !errors.As(err, new(x509.HostnameError)) {
		t.Errorf("server's certificate for another name: %v", err)
	}
	c := a.Client(t, "alice", "spiffe://example/alice")
	if err := verify(c, "alice", x509.ExtKeyUsageClientAuth); err != nil || len(c.TLS.Leaf.URIs) != 1 {
		t.Errorf("client's certificate: %v, %v", err, c.TLS.Leaf.URIs)
	}
	var invalid x509.CertificateInvalidError
	if err := verify(a.Expired(t), "localhost", x509.ExtKeyUsageServerAuth); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("expired certificate: %v", err)
	}
	if err := verify(SelfSigned(t), "localhost", x509.ExtKeyUsageServerAuth); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("self-signed certificate: %v", err)
	}
}
