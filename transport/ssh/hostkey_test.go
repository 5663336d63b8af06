package ssh

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// echoing is the address of a target that sends everything back.
func echoing(t testing.TB) string {
	t.Helper()
	l := listening(t, "tcp://127.0.0.1:0")
	done := make(chan struct{})
	ctx := bounded(t)
	go func() {
		defer close(done)
		for c, err := range l.Conns(ctx) {
			if err != nil {
				return
			}
			go func() { _ = anysock.ServeEcho(ctx, c) }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "tcp://" + l.Addr().String()
}

// says has the target send a word back.
func says(t testing.TB, c *anysock.Conn, word string) {
	t.Helper()
	if _, err := c.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(word))
	if _, err := c.ReadAtLeast(bounded(t), buf, len(buf)); err != nil || string(buf) != word {
		t.Fatalf("%q, %v", buf, err)
	}
}

// fails dials and wants an error of the kind that has all the words in its text
// or its hint, which it returns.
func fails(t testing.TB, address string, kind anysock.Kind, words ...string) string {
	t.Helper()
	c, err := anysock.Dial(bounded(t), address)
	if err == nil {
		c.Abort()
		t.Fatalf("%s: connected", address)
	}
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("%s: %v, want kind %s", address, err, kind)
	}
	text := e.Error() + " " + e.Hint
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in %q", w, text)
		}
	}
	return text
}

// by is the address of the server with a file of known hosts.
func (r rig) by(at net.Addr, known string) string {
	return "ssh://ops@" + at.String() + "?key=file:" + r.user.private + "&knownhosts=file:" + known
}

func knownFile(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	write(t, path, strings.Join(lines, "\n")+"\n")
	return path
}

func TestHostKeyKnown(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	target := "," + echoing(t)
	at := b.ln.Addr()
	line := knownhosts.Line([]string{at.String()}, r.host.PublicKey())
	hashed := knownhosts.HashHostname(knownhosts.Normalize(at.String())) + " " + r.host.line()
	for name, address := range map[string]string{
		"known_hosts": r.by(at, knownFile(t, "# ours", line)),
		"hashed name": r.by(at, knownFile(t, hashed)),
		"pinned":      r.hop(at),
		"two pins":    r.hop(at, "hostkey="+url.QueryEscape(newKey(t).fingerprint())),
	} {
		t.Run(name, func(t *testing.T) { says(t, dialed(t, address+target), "hello") })
	}
}

// A key that nobody knows is refused with its fingerprint and what to do; one
// that is another than the known one says so.
func TestHostKeyRefused(t *testing.T) {
	r, other := newRig(t), newKey(t)
	b := newBastion(t, r)
	at := b.ln.Addr()
	target := ",tcp://127.0.0.1:1"
	_, port, _ := net.SplitHostPort(at.String())
	fails(t, r.by(at, knownFile(t))+target, anysock.KindAuth,
		"not known", r.host.fingerprint(), "ssh-keyscan -p "+port+" 127.0.0.1", "hostkey=SHA256:")
	changed := knownFile(t, knownhosts.Line([]string{at.String()}, other.PublicKey()))
	fails(t, r.by(at, changed)+target, anysock.KindAuth,
		"has changed", r.host.fingerprint(), other.fingerprint(), changed+":1", "ssh-keygen -R '[127.0.0.1]:"+port+"'")
	fails(t, r.by(at, knownFile(t, "@revoked * "+r.host.line()))+target, anysock.KindAuth, "revoked")
	pinned := "ssh://ops@" + at.String() + "?key=file:" + r.user.private + "&hostkey=" + url.QueryEscape(other.fingerprint())
	fails(t, pinned+target, anysock.KindAuth, "not the one", r.host.fingerprint())
	if n := b.opened.Load(); n != 0 {
		t.Errorf("%d channels were opened to a server that was not verified", n)
	}
}

// A server with several keys shows the one that is known.
func TestHostKeyAlgorithmOfTheKnownKey(t *testing.T) {
	r := newRig(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	b := newBastion(t, r, func(b *bastion) { b.config.AddHostKey(signer) })
	target := "," + echoing(t)
	at := b.ln.Addr()
	for _, key := range []xssh.PublicKey{r.host.PublicKey(), signer.PublicKey()} {
		says(t, dialed(t, r.by(at, knownFile(t, knownhosts.Line([]string{at.String()}, key)))+target), "x")
	}
	// It has no longer a key of the known sort.
	private521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := xssh.NewPublicKey(&private521.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	fails(t, r.by(at, knownFile(t, knownhosts.Line([]string{at.String()}, gone)))+target, anysock.KindAuth, "host key", "ecdsa-sha2-nistp521", "ssh-keygen -R")
}

// A certificate counts if its authority is known for the host.
func TestHostKeyCertificate(t *testing.T) {
	r, ca := newRig(t), newKey(t)
	cert := &xssh.Certificate{
		Key: r.host.PublicKey(), CertType: xssh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: xssh.CertTimeInfinity,
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewCertSigner(cert, r.host)
	if err != nil {
		t.Fatal(err)
	}
	b := newBastion(t, r, func(b *bastion) { b.config.AddHostKey(signer) })
	at := b.ln.Addr()
	target := "," + echoing(t)
	known := knownhosts.Normalize(at.String()) + " " + ca.line()
	says(t, dialed(t, r.by(at, knownFile(t, "@cert-authority "+known))+target), "x")
	fails(t, r.by(at, knownFile(t, known))+target, anysock.KindAuth, "has changed")
}

// The check is only left out by the word for that, and it is logged.
func TestHostKeyInsecure(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(old)
	base := "ssh://ops@" + b.ln.Addr().String() + "?key=file:" + r.user.private
	says(t, dialed(t, base+"&insecure=skip-verify,"+echoing(t)), "x")
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, r.host.fingerprint()) {
		t.Errorf("the log says %q", got)
	}
	for _, options := range []string{"insecure=1", "insecure=skip-verify&hostkey=SHA256:x", "insecure=skip-verify&knownhosts=file:/x"} {
		fails(t, base+"&"+options+",tcp://127.0.0.1:1", anysock.KindAddress, "insecure")
	}
}

func TestHostKeyOptions(t *testing.T) {
	base := "ssh://ops@127.0.0.1:1?"
	broken := knownFile(t, "host ssh-ed25519 AAAA")
	for options, words := range map[string][]string{
		"hostkey=MD5:x":                  {"fingerprint", "ssh-keygen -lf"},
		"hostkey=SHA256:short":           {"fingerprint"},
		"knownhosts=/x":                  {"file:PATH"},
		"knownhosts=file:/nonexistent/x": {"/nonexistent/x"},
		"knownhosts=file:" + broken:      {broken + ":1"},
		"hostkey=SHA256:" + strings.Repeat("A", 43) + "&knownhosts=file:/x": {"contradict"},
	} {
		fails(t, base+options+",tcp://h:1", anysock.KindAddress, words...)
	}
}
