// This file tests who is let in: certificates both ways, and the agreement
// about the protocol.

package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
)

// A server's certificate that does not prove the server ends the dial, with
// the kind auth and a hint.
func TestServerIsVerified(t *testing.T) {
	r := newRig(t)
	other := testcert.New(t)
	for name, c := range map[string]struct {
		cert    testcert.Certificate
		options string
		hint    string
	}{
		"of an unknown authority": {other.Server(t), "?ca=file:" + r.ca.File, "ca="},
		"not of the system's":     {r.cert, "", "ca="},
		"self-signed":             {testcert.SelfSigned(t), "?ca=file:" + r.ca.File, "self-signed"},
		"expired":                 {r.ca.Expired(t), "?ca=file:" + r.ca.File, "expired"},
		"for another name":        {r.ca.Server(t, "db.example"), "?ca=file:" + r.ca.File, "sni="},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := bound(t)
			ln := (rig{t, r.ca, c.cert}).listen("")
			_, err := anysock.Dial(ctx, "quic://"+ln.Addr().String()+c.options)
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindAuth || !strings.Contains(e.Hint, c.hint) {
				t.Fatalf("Dial: %v, %+v; want auth with a hint about %s", err, e, c.hint)
			}
			if errors.Is(err, net.ErrClosed) {
				t.Errorf("%v matches net.ErrClosed, but nobody closed", err)
			}
		})
	}
}

// The two ways round it: the name to expect, and no verification at all, which
// needs its word.
func TestServerNameAndSkipVerify(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	ln := rig{t, r.ca, r.ca.Server(t, "db.example")}.listen("")
	for _, good := range []string{"?ca=file:" + r.ca.File + "&sni=db.example", "?insecure=skip-verify"} {
		c, err := anysock.Dial(ctx, "quic://"+ln.Addr().String()+good)
		if err != nil {
			t.Fatalf("%s: %v", good, err)
		}
		_ = c.Abort()
	}
	for _, bad := range []string{"?insecure=1", "?insecure=skip-verify&ca=file:" + r.ca.File} {
		if c, err := anysock.Dial(ctx, "quic://"+ln.Addr().String()+bad); err == nil || kindOf(err) != anysock.KindAddress {
			t.Errorf("%s: %v, %v", bad, c, err)
		}
	}
}

// A client without a certificate that the server asks for, or with the wrong
// name, does not get a byte through; the server never sees a Conn.
func TestClientIsVerified(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	ln := r.listen("&clientca=file:" + r.ca.File + "&clientname=alice")
	with := func(c testcert.Certificate) string {
		return "&cert=file:" + c.CertFile + "&key=file:" + c.KeyFile
	}
	for name, options := range map[string]string{
		"no certificate":       "",
		"of another authority": with(testcert.New(t).Client(t, "alice")),
		"another name":         with(r.ca.Client(t, "bob")),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), options))
			if err == nil {
				_ = c.Abort()
			}
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindAuth || e.Hint == "" {
				t.Errorf("the client sees %v, %+v", err, e)
			}
		})
	}
	a, b := r.pair(ctx, ln, ln.Addr(), with(r.ca.Client(t, "alice")))
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// What a listener lacks, or what contradicts itself, is an error of Listen.
func TestListenOptions(t *testing.T) {
	r := newRig(t)
	for addr, want := range map[string]anysock.Kind{
		"quic://127.0.0.1:0":                                              anysock.KindAddress,
		r.listenAt("&clientca=file:" + r.ca.File):                         anysock.KindAddress,
		r.listenAt("&alpn=" + ProtocolLifecycle):                          anysock.KindAddress,
		r.listenAt("&alpn=" + strings.Repeat("a", 256)):                   anysock.KindAddress,
		"quic://192.0.2.1:0?" + strings.SplitN(r.listenAt(""), "?", 2)[1]: anysock.KindUnreachable,
		"lc+" + r.listenAt("&alpn=echo"):                                  anysock.KindAddress,
	} {
		ln, err := anysock.Listen(context.Background(), addr)
		if kindOf(err) != want {
			t.Errorf("%s: %v (%s), want %s", addr, err, kindOf(err), want)
		}
		if err == nil {
			ln.Close()
		}
	}
	if _, err := (&anysock.ListenConfig{ReusePort: true}).Listen(context.Background(), r.listenAt("")); kindOf(err) != anysock.KindUnsupported {
		t.Errorf("a shared port: %v", err)
	}
	ln := r.listen("")
	if _, err := anysock.Listen(context.Background(), strings.Replace(r.listenAt(""), "127.0.0.1:0", ln.Addr().String(), 1)); kindOf(err) != anysock.KindInUse {
		t.Errorf("a port in use: %v", err)
	}
}

// Under lc the protocol must be agreed upon, by both sides.
func TestLifecycleIsNegotiated(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	plain, lc := r.listen(""), rig{t, r.ca, r.cert}
	lifecycle, err := anysock.Listen(ctx, "lc+"+lc.listenAt(""))
	if err != nil {
		t.Fatal(err)
	}
	defer lifecycle.Close()
	for name, c := range map[string]struct{ addr, hint string }{
		"lc to a listener without it": {"lc+" + r.dialTo(plain.Addr(), ""), "does not speak lc"},
		"a dial without lc to lc":     {r.dialTo(lifecycle.Addr(), ""), "ALPN"},
		"another protocol":            {r.dialTo(plain.Addr(), "&alpn=other"), "ALPN"},
	} {
		_, err := anysock.Dial(ctx, c.addr)
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindAuth || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v, %+v", name, err, e)
		}
	}
	qc, err := r.foreignClient(ctx, lifecycle.Addr(), Protocol, ProtocolLifecycle)
	if err != nil {
		t.Fatal(err)
	}
	if p := qc.ConnectionState().TLS.NegotiatedProtocol; p != ProtocolLifecycle {
		t.Errorf("the listener agrees to %q", p)
	}
	if v := qc.ConnectionState().TLS.Version; v != tls.VersionTLS13 {
		t.Errorf("TLS version %#x", v)
	}
	_ = qc.CloseWithError(0, "")
}

// The layer lc stands in here: what counts is that it is there.
func init() {
	pass := func(_ context.Context, below *anysock.Conn, _ anysock.Target) (net.Conn, error) { return below, nil }
	anysock.Register(anysock.Transport{
		Scheme: lcScheme, Caps: func(below anysock.Caps, _ anysock.Target) anysock.Caps { return below },
		Client: pass, Server: pass,
	})
}
