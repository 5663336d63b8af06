package tlsconfig

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anysock/anysock/internal/testcert"
)

// given are options as an address has them.
type given map[string][]string

func (g given) Has(name string) bool         { return len(g[name]) > 0 }
func (g given) Strings(name string) []string { return g[name] }
func (g given) String(name, def string) string {
	if g.Has(name) {
		return g[name][0]
	}
	return def
}

func with(pairs ...string) given {
	g := given{}
	for i := 0; i < len(pairs); i += 2 {
		g[pairs[i]] = append(g[pairs[i]], pairs[i+1])
	}
	return g
}

// logged collects what goes to slog.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &b
}

// A file is read whole, with a bound, and what is wrong with it is said: which
// option, which file. No error has a part of what was read.
func TestFiles(t *testing.T) {
	a := testcert.New(t)
	pair, other := a.Server(t), a.Server(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	const secret = "MIIsecret"
	junk := file("junk.pem", secret)
	encrypted := file("encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"+secret+"x==\n-----END ENCRYPTED PRIVATE KEY-----\n")
	huge := file("huge.pem", strings.Repeat("#", maxFile+1))
	cert, key := "file:"+pair.CertFile, "file:"+pair.KeyFile
	contents := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	t.Setenv("TLSCONFIG_CERT", contents(pair.CertFile))
	t.Setenv("TLSCONFIG_KEY", contents(pair.KeyFile))

	for _, tt := range []struct {
		o    given
		want []string // words of the error; none is no error
	}{
		{with("cert", cert, "key", key), nil},
		{with("cert", "env:TLSCONFIG_CERT", "key", "env:TLSCONFIG_KEY"), nil},
		{with(), []string{"cert=file:PATH", "key=file:PATH"}},
		{with("cert", cert), []string{"cert and key go together"}},
		{with("key", key, "cert", cert, "min", "1.1"), []string{"option min", "1.2 and 1.3"}},
		{with("cert", pair.CertFile, "key", key), []string{"option cert", "file:PATH"}},
		{with("cert", "file:"+dir+"/none.pem", "key", key), []string{"option cert", "none.pem", "no such file"}},
		{with("cert", cert, "key", "file:"+dir), []string{"option key", dir}},
		{with("cert", cert, "key", "env:TLSCONFIG_NONE"), []string{"option key", "TLSCONFIG_NONE is not set"}},
		{with("cert", junk, "key", key), []string{"options cert and key", "junk.pem", "certificate"}},
		{with("cert", cert, "key", junk), []string{"junk.pem", "key"}},
		{with("cert", cert, "key", encrypted), []string{"option key", "encrypted.pem", "is encrypted"}},
		{with("cert", cert, "key", "file:"+other.KeyFile), []string{"options cert and key", "does not match"}},
		{with("cert", huge, "key", key), []string{"option cert", "huge.pem", fmt.Sprint(maxFile)}},
		{with("cert", cert, "key", key, "clientca", junk, "clientname", "*"), []string{"option clientca", "junk.pem", "PEM"}},
		{with("cert", cert, "key", key, "clientca", "file:"+a.File), []string{"option clientca", "clientname=NAME", "clientname=*"}},
		{with("cert", cert, "key", key, "clientname", "alice"), []string{"option clientname", "clientca=file:PATH"}},
	} {
		_, err := Server(tt.o)
		switch {
		case err == nil && tt.want != nil:
			t.Errorf("%v: no error, want one about %q", tt.o, tt.want)
		case err != nil && tt.want == nil:
			t.Errorf("%v: %v", tt.o, err)
		case err != nil:
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v: no %q in: %v", tt.o, w, err)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v: the error has what was in the file: %v", tt.o, err)
			}
		}
	}
}

// What a client verifies by, and what makes no sense together.
func TestClient(t *testing.T) {
	a := testcert.New(t)
	logged(t)
	for _, tt := range []struct {
		o          given
		host       string
		name       string
		skip, own  bool
		wantErrors []string
	}{
		{o: with(), host: "db.example", name: "db.example"},
		{o: with(), host: "fe80::1%eth0", name: "fe80::1"},
		{o: with("sni", "other"), host: "db.example", name: "other"},
		{o: with("sni", "other"), name: "other"},
		{o: with("ca", "file:"+a.File), host: "db", name: "db", own: true},
		{o: with("insecure", "skip-verify"), skip: true},
		{o: with("insecure", "skip-verify", "sni", "db"), name: "db", skip: true},
		{o: with(), wantErrors: []string{"no host name", "sni=NAME", "insecure=skip-verify"}},
		{o: with("insecure", "1"), host: "db", wantErrors: []string{"option insecure", "skip-verify"}},
		{o: with("insecure", "skip-verify", "ca", "file:"+a.File), host: "db", wantErrors: []string{"contradicts ca"}},
		{o: with("ca", "file:/none.pem"), host: "db", wantErrors: []string{"option ca", "/none.pem"}},
		{o: with("cert", "file:/none.pem"), host: "db", wantErrors: []string{"go together"}},
	} {
		c, err := Client(tt.o, tt.host, "tls:test")
		if tt.wantErrors != nil {
			for _, w := range tt.wantErrors {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%v: no %q in the error %v", tt.o, w, err)
				}
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tt.o, err)
			continue
		}
		if c.ServerName != tt.name || c.InsecureSkipVerify != tt.skip || (c.RootCAs != nil) != tt.own || c.MinVersion != tls.VersionTLS12 {
			t.Errorf("%v for %q: name %q, skip %t, own authorities %t, min %x", tt.o, tt.host, c.ServerName, c.InsecureSkipVerify, c.RootCAs != nil, c.MinVersion)
		}
	}
}

// The warning comes once for each address, and what is remembered is bounded.
func TestInsecureIsLoggedOncePerAddress(t *testing.T) {
	b := logged(t)
	o := with("insecure", "skip-verify")
	for _, address := range []string{"tls://a:1?insecure=skip-verify", "tls://b:1", "tls://a:1?insecure=skip-verify"} {
		if _, err := Client(o, "a", address); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "not verified") || !strings.Contains(lines[0], "tls://a:1") || !strings.Contains(lines[1], "tls://b:1") {
		t.Errorf("two addresses were warned about by:\n%s", b)
	}
	var w warned
	for i := range 3 * maxWarned {
		w.insecure(fmt.Sprint(i))
	}
	if n := len(w.done); n > maxWarned {
		t.Errorf("%d addresses are remembered", n)
	}
}

// Names are compared exactly, each in its own form.
func TestClientNames(t *testing.T) {
	uri, err := url.Parse("spiffe://example/alice")
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		DNSNames: []string{"alice.example", "*.wild.example", "spiffe://example/forged", "forged@example", "10.0.0.9"}, EmailAddresses: []string{"alice@example"},
		URIs: []*url.URL{uri}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.ParseIP("fd00::1")},
	}
	c.Subject.CommonName = "common"
	for want, ok := range map[string]bool{
		"alice.example": true, "ALICE.example": true, "alice@example": true, "spiffe://example/alice": true,
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "fd00::1": true, "fd00:0::1": true, "*": true,
		"common": false, "alice": false, "example": false, "x.wild.example": false, "spiffe://example/alic": false,
		"spiffe://example/forged": false, "forged@example": false, "10.0.0.9": false, "10.0.0.2": false,
	} {
		if err := admit([]*x509.Certificate{c}, []string{"nobody", want}); (err == nil) != ok {
			t.Errorf("%q admits the client: %v", want, err)
		}
	}
	if err := admit(nil, []string{"*"}); err == nil {
		t.Errorf("a client without a certificate is admitted")
	}
	c.DNSNames = []string{"a\nb", "b", "c", "d", "e", "f"}
	if err := admit([]*x509.Certificate{c}, []string{"x"}); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "more") {
		t.Errorf("what a peer chose must be quoted and bounded: %v", err)
	}
}

// The alert that the other side sent is known by its code.
func TestAlert(t *testing.T) {
	for _, code := range []uint8{alertCertificateRequired, alertUnknownCA, 0, 255} {
		for _, err := range []error{
			tls.AlertError(code),
			fmt.Errorf("read: %w", &net.OpError{Op: "remote error", Err: errors.New(tls.AlertError(code).Error())}),
		} {
			if got, ok := Alert(err); !ok || got != code {
				t.Errorf("%v: alert %d, %t, want %d", err, got, ok, code)
			}
		}
	}
	for _, err := range []error{nil, errors.New("x"), &net.OpError{Op: "local error", Err: tls.RecordHeaderError{}}, &net.OpError{Op: "remote error", Err: errors.New("x")}} {
		if code, ok := Alert(err); ok {
			t.Errorf("%v: alert %d", err, code)
		}
	}
}
