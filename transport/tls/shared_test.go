package tls

import (
	"crypto/tls"
	"os"
	"strconv"
	"testing"

	"github.com/anysock/anysock/internal/testcert"
)

// Configurations are shared if they are equal, and only then; what is kept is
// bounded.
func TestConfigurationsAreShared(t *testing.T) {
	cert := testcert.SelfSigned(t).TLS
	base := func() *tls.Config { return &tls.Config{ServerName: "shared.test", MinVersion: tls.VersionTLS12} }
	first := shared(base())
	if shared(base()) != first {
		t.Errorf("equal configurations are not shared")
	}
	for name, change := range map[string]func(c *tls.Config){
		"name":        func(c *tls.Config) { c.ServerName = "other.test" },
		"version":     func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 },
		"insecure":    func(c *tls.Config) { c.InsecureSkipVerify = true },
		"authorities": func(c *tls.Config) { c.RootCAs = testcert.New(t).Pool },
		"certificate": func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} },
		"protocols":   func(c *tls.Config) { c.NextProtos = []string{"a"} },
	} {
		c := base()
		change(c)
		if shared(c) == first {
			t.Errorf("configurations that differ by %s are shared", name)
		}
	}
	for i := range 3 * maxShared {
		c := base()
		c.ServerName = strconv.Itoa(i)
		shared(c)
	}
	clients.Lock()
	defer clients.Unlock()
	if n := len(clients.made); n > maxShared {
		t.Errorf("%d configurations are kept", n)
	}
}

// A file that is replaced is read again: the next dial trusts what it has now.
func TestFilesAreReadAtEachDial(t *testing.T) {
	c, other := newCerts(t), newCerts(t)
	ln := listen(t, "tls://127.0.0.1:0"+c.serving())
	addr := "tls://" + ln.Addr().String() + "?ca=file:" + other.File
	if dialError(t, addr) == nil {
		t.Fatal("another authority is trusted")
	}
	b, err := os.ReadFile(c.File)
	if err == nil {
		err = os.WriteFile(other.File, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	graceful2(t, dial(t, addr), accept(t, ln))
}
