package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
)

// dialError is the error of a Dial that must fail.
func dialError(t *testing.T, addr string) error {
	t.Helper()
	c, err := anysock.Dial(bounded(t), addr)
	if err == nil {
		_ = c.Abort()
		t.Fatalf("dialing %s: no error", addr)
	}
	return err
}

// What is wrong with an address is said when it is dialed or listened on, and
// nothing is bound or dialed then.
func TestOptionsThatMakeNoSense(t *testing.T) {
	c := newCerts(t)
	for _, tt := range []struct {
		listen bool
		addr   string
		words  []string
	}{
		{false, "tls://127.0.0.1:1?min=1.1", []string{"min", "1.2 or 1.3"}},
		{false, "tls://127.0.0.1:1?insecure=1", []string{"insecure", "skip-verify"}},
		{false, "tls://127.0.0.1:1?insecure=skip-verify&ca=file:" + c.File, []string{"contradicts ca"}},
		{false, "tls://127.0.0.1:1?alpn=" + strings.Repeat("a", 256), []string{"alpn", "255 bytes"}},
		{false, "tls://127.0.0.1:1?alpn=anysock-lc/1", []string{"alpn", "lc+"}},
		{false, "tls://127.0.0.1:1?cert=file:" + c.server.CertFile, []string{"go together"}},
		{false, "tls://127.0.0.1:1?ca=file:/none.pem", []string{"option ca", "/none.pem"}},
		{false, "tls://127.0.0.1:1?ca=/etc/ca.pem", []string{"option ca", "file:PATH"}},
		{false, "tls://127.0.0.1:1?clientca=file:" + c.File, []string{"clientca", "nothing for dialing"}},
		{false, "tls+unix:/none?ca=file:" + c.File, []string{"no host name", "sni=NAME"}},
		{true, "tls://127.0.0.1:0", []string{"cert=file:PATH", "key=file:PATH"}},
		{true, "tls://127.0.0.1:0" + c.serving("ca=file:"+c.File), []string{"option ca", "nothing for listening"}},
		{true, "tls://127.0.0.1:0" + c.serving("sni=x"), []string{"option sni", "nothing for listening"}},
		{true, "tls://127.0.0.1:0" + c.serving("clientca=file:"+c.File), []string{"clientname=NAME"}},
		{true, "tls://127.0.0.1:0?cert=file:/none.pem&key=file:/none.pem", []string{"option cert", "/none.pem"}},
	} {
		var err error
		if tt.listen {
			var ln *anysock.Listener
			if ln, err = anysock.Listen(bounded(t), tt.addr); err == nil {
				ln.Close()
			}
		} else {
			err = dialError(t, tt.addr)
		}
		wantError(t, err, anysock.KindAddress, tt.words...)
	}
}

// A server's certificate is verified unless the address says otherwise, and
// the error says what to try.
func TestVerification(t *testing.T) {
	c := newCerts(t)
	for _, tt := range []struct {
		name   string
		server testcert.Certificate
		client string // options
		words  []string
	}{
		{"right", c.server, c.trusting(), nil},
		{"right by name", c.Server(t, "db.example"), c.trusting("sni=db.example"), nil},
		{"unknown authority", c.server, "", []string{"unknown authority", "ca=file:PATH"}},
		{"another authority", c.server, newCerts(t).trusting(), []string{"unknown authority", "ca=file:PATH"}},
		{"self-signed", testcert.SelfSigned(t), c.trusting(), []string{"unknown authority", "self-signed", "ca=file:PATH", "insecure=skip-verify"}},
		{"expired", c.Expired(t), c.trusting(), []string{"expired", "renew"}},
		{"wrong name", c.Server(t, "db.example"), c.trusting(), []string{"db.example", "sni=NAME"}},
		{"wrong sni", c.server, c.trusting("sni=db.example"), []string{"localhost", "sni=NAME"}},
		{"a client's certificate", c.Client(t, "localhost", "127.0.0.1"), c.trusting(), []string{"key usage"}},
		{"not verified", testcert.SelfSigned(t), "?insecure=skip-verify", nil},
		{"not verified, expired", c.Expired(t), "?insecure=skip-verify&sni=x", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := listen(t, "tls://127.0.0.1:0?cert=file:"+tt.server.CertFile+"&key=file:"+tt.server.KeyFile)
			addr := "tls://" + ln.Addr().String() + tt.client
			if tt.words == nil {
				a, b := dial(t, addr), accept(t, ln)
				write(t, a, "hello")
				expect(t, b, "hello")
				return
			}
			wantError(t, dialError(t, addr), anysock.KindAuth, tt.words...)
		})
	}
}

// A self-signed certificate that is trusted by ca= is verified.
func TestTrustedSelfSigned(t *testing.T) {
	s := testcert.SelfSigned(t)
	ln := listen(t, "tls://127.0.0.1:0?cert=file:"+s.CertFile+"&key=file:"+s.KeyFile)
	a, b := dial(t, "tls://"+ln.Addr().String()+"?ca=file:"+s.CertFile), accept(t, ln)
	write(t, a, "hello")
	expect(t, b, "hello")
}

// Turning the verification off is logged, once for each address.
func TestInsecureIsLogged(t *testing.T) {
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	s := testcert.SelfSigned(t)
	ln := listen(t, "tls://127.0.0.1:0?cert=file:"+s.CertFile+"&key=file:"+s.KeyFile)
	addr := "tls://" + ln.Addr().String() + "?insecure=skip-verify"
	for range 3 {
		graceful2(t, dial(t, addr), accept(t, ln))
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, ln.Addr().String()) {
		t.Errorf("three connections to one address logged:\n%s", got)
	}
}

// graceful2 ends both sides.
func graceful2(t *testing.T, a, b *anysock.Conn) {
	t.Helper()
	other := background(t, func() error { _, err := b.Disconnect(context.Background()); return err })
	graceful(t, a)
	if err := wait(t, "disconnect", other); err != nil {
		t.Fatal(err)
	}
}

// The name that is sent is that of sni=, else the host, and never an address.
func TestServerName(t *testing.T) {
	c := newCerts(t)
	for _, tt := range []struct{ host, client, want string }{
		{"127.0.0.1", c.trusting(), ""},
		{"localhost", c.trusting(), "localhost"},
		{"", c.trusting(), "localhost"},
		{"127.0.0.1", c.trusting("sni=localhost"), "localhost"},
		{"127.0.0.1", "?insecure=skip-verify&sni=else.where", "else.where"},
	} {
		asked := make(chan string, 1)
		cfg := &tls.Config{Certificates: []tls.Certificate{c.server.TLS}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			asked <- h.ServerName
			return nil, nil
		}}
		addr := stockServer(t, cfg, func(s *tls.Conn) error { _, err := io.Copy(io.Discard, s); return errors.Join(err, s.Close()) })
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		graceful(t, dial(t, "tls://"+net.JoinHostPort(tt.host, port)+tt.client))
		if got := <-asked; got != tt.want {
			t.Errorf("dialing %q with %s: the server was asked for %q, want %q", tt.host, tt.client, got, tt.want)
		}
	}
}

// Versions below the minimum are refused on either side, 1.1 by default.
func TestMinimumVersion(t *testing.T) {
	c := newCerts(t)
	for _, tt := range []struct {
		min  string
		peer uint16
		ok   bool
	}{
		{"", tls.VersionTLS11, false},
		{"", tls.VersionTLS12, true},
		{"", tls.VersionTLS13, true},
		{"min=1.3", tls.VersionTLS12, false},
		{"min=1.3", tls.VersionTLS13, true},
	} {
		// Our client, a server that knows nothing newer.
		addr := stockServer(t, &tls.Config{Certificates: []tls.Certificate{c.server.TLS}, MinVersion: tls.VersionTLS10, MaxVersion: tt.peer}, func(s *tls.Conn) error {
			if _, err := io.Copy(io.Discard, s); tt.ok {
				return errors.Join(err, s.Close())
			}
			return nil
		})
		if tt.ok {
			graceful(t, dial(t, "tls://"+addr+c.trusting(tt.min)))
		} else {
			wantError(t, dialError(t, "tls://"+addr+c.trusting(tt.min)), anysock.KindAuth, "version", "min")
		}
		// Our server, such a client.
		ln := listen(t, "tls://127.0.0.1:0"+c.serving(tt.min))
		s, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: c.Pool, MinVersion: tls.VersionTLS10, MaxVersion: tt.peer})
		if (err == nil) != tt.ok {
			t.Errorf("%q, a client of at most %s: %v", tt.min, tls.VersionName(tt.peer), err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// Protocols of alpn are offered and taken in order; the other side decides
// what none in common means, and ours refuses.
func TestALPN(t *testing.T) {
	c := newCerts(t)
	offers, choices := make(chan []string, 1), make(chan string, 1)
	cfg := &tls.Config{Certificates: []tls.Certificate{c.server.TLS}, NextProtos: []string{"b", "a"}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		offers <- h.SupportedProtos
		return nil, nil
	}}
	addr := stockServer(t, cfg, func(s *tls.Conn) error {
		_, err := io.Copy(io.Discard, s)
		choices <- s.ConnectionState().NegotiatedProtocol
		return errors.Join(err, s.Close())
	})
	graceful(t, dial(t, "tls://"+addr+c.trusting("alpn=a", "alpn=b")))
	if offered, chosen := <-offers, <-choices; !slices.Equal(offered, []string{"a", "b"}) || chosen != "b" {
		t.Errorf("alpn=a&alpn=b offered %q, and %q was chosen by the server's order", offered, chosen)
	}

	ln := listen(t, "tls://127.0.0.1:0"+c.serving("alpn=x", "alpn=y"))
	wantError(t, dialError(t, "tls://"+ln.Addr().String()+c.trusting("alpn=z")), anysock.KindAuth, "protocol", "alpn")
	s, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: c.Pool, NextProtos: []string{"y", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.ConnectionState().NegotiatedProtocol; got != "x" {
		t.Errorf("our server with alpn=x&alpn=y chose %q", got)
	}
	accept(t, ln) // before the next: the server may finish a later handshake first
	// Who offers none is let in, as in the standard.
	graceful2(t, dial(t, "tls://"+ln.Addr().String()+c.trusting()), accept(t, ln))
}

// Certificates of clients are demanded, verified, and admitted by name.
func TestMutualTLS(t *testing.T) {
	c := newCerts(t)
	stranger := testcert.New(t).Client(t, "alice")
	nameless := c.Client(t)
	for _, tt := range []struct {
		name   string
		rules  []string
		client testcert.Certificate
		alert  string // of a refusal
	}{
		{"by DNS name", []string{"clientname=bob", "clientname=alice"}, c.Client(t, "alice"), ""},
		{"by URI", []string{"clientname=spiffe://example/alice"}, c.Client(t, "spiffe://example/alice"), ""},
		{"by address", []string{"clientname=10.0.0.1"}, c.Client(t, "10.0.0.1"), ""},
		{"any", []string{"clientname=*"}, c.Client(t, "alice"), ""},
		{"another name", []string{"clientname=bob"}, c.Client(t, "alice"), "bad certificate"},
		{"no name", []string{"clientname=alice"}, nameless, "bad certificate"},
		{"another authority", []string{"clientname=*"}, stranger, "unknown certificate authority"},
		{"a server's certificate", []string{"clientname=*"}, c.server, "bad certificate"},
		{"none", []string{"clientname=*"}, testcert.Certificate{}, "certificate required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := listen(t, "tls://127.0.0.1:0"+c.serving(append(tt.rules, "clientca=file:"+c.File)...))
			addr := "tls://" + ln.Addr().String() + c.trusting()
			if tt.client.CertFile != "" {
				addr += "&cert=file:" + tt.client.CertFile + "&key=file:" + tt.client.KeyFile
			}
			a := dial(t, addr) // a client of TLS 1.3 is done before the server has judged it
			if tt.alert == "" {
				b := accept(t, ln)
				write(t, b, "welcome")
				expect(t, a, "welcome")
				return
			}
			_, err := a.Read(make([]byte, 1))
			hint := "does not accept our certificate"
			if tt.client.CertFile == "" {
				hint = "cert=file:PATH"
			}
			wantError(t, err, anysock.KindAuth, tt.alert, hint)
			if end := a.End(); end.How != anysock.AbortedByPeer || end.By != anysock.Peer {
				t.Errorf("the ending is %v", end)
			}
			// Nobody else suffers, and nothing is handed over for this one.
			ok := c.Client(t, "alice", "bob")
			other := dial(t, "tls://"+ln.Addr().String()+c.trusting("cert=file:"+ok.CertFile, "key=file:"+ok.KeyFile))
			write(t, other, "hello")
			expect(t, accept(t, ln), "hello")
		})
	}
}

// In TLS 1.2 the client waits for the server's judgement.
func TestMutualTLS12(t *testing.T) {
	c := newCerts(t)
	pool := x509.NewCertPool()
	addr := stockServer(t, &tls.Config{Certificates: []tls.Certificate{c.server.TLS}, MaxVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, func(s *tls.Conn) error {
		if err := s.Handshake(); err == nil {
			return errors.New("a client without a certificate was let in")
		}
		return nil
	})
	wantError(t, dialError(t, "tls://"+addr+c.trusting()), anysock.KindAuth, "certificate")
}

// Each layer of an address has its own options.
func TestLayersHaveTheirOwnOptions(t *testing.T) {
	outer, inner := newCerts(t), newCerts(t)
	ln := listen(t, "tls+tls+tcp://127.0.0.1:0?tls.1.cert=file:"+inner.server.CertFile+"&tls.1.key=file:"+inner.server.KeyFile+
		"&tls.2.cert=file:"+outer.server.CertFile+"&tls.2.key=file:"+outer.server.KeyFile)
	addr := "tls+tls+tcp://" + ln.Addr().String()
	graceful2(t, dial(t, addr+"?tls.1.ca=file:"+inner.File+"&tls.2.ca=file:"+outer.File), accept(t, ln))
	wantError(t, dialError(t, addr+"?tls.2.ca=file:"+inner.File+"&tls.1.ca=file:"+outer.File), anysock.KindAuth, "unknown authority")
}
