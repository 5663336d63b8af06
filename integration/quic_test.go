// QUIC: our program at both ends, and ngtcp2's example server and client,
// which speak HTTP/3 with a stack and a TLS library of their own. Our side of
// that is a raw stream, on which the test's bytes are one request or one reply.

package integration_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A quicKey is a certificate for localhost and its key.
type quicKey struct{ dir, cert, key string }

func newQUICKey(t *testing.T) quicKey {
	t.Helper()
	dir := t.TempDir()
	k := quicKey{dir, dir + "/cert.pem", dir + "/key.pem"}
	start(t, command{argv: []string{
		need(t, "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", k.key, "-out", k.cert,
	}}).ok()
	return k
}

// serving is the options of a listener, trusting those of a client.
func (k quicKey) serving() string  { return "?cert=file:" + k.cert + "&key=file:" + k.key }
func (k quicKey) trusting() string { return "?ca=file:" + k.cert }

// Both ends are ours: a lot each way, with the reply after the half-close, and
// both processes exit as soon as they are done.
func TestQUICOurBothEnds(t *testing.T) {
	t.Parallel()
	k := newQUICKey(t)
	request, reply := bytes.Repeat([]byte("request\n"), 200_000), bytes.Repeat([]byte("a longer reply\n"), 200_000)
	ln := anysock(t, reply, "listen", "-v", "quic://127.0.0.1:0"+k.serving())
	c := anysock(t, request, "connect", "-v", ln.bound()+k.trusting())
	c.ok()
	ln.ok()
	for who, p := range map[string]*process{"listen": ln, "connect": c} {
		p.complains(`graceful: \d+ sent, \d+ received, .*acknowledged by kernel`)
		want := request
		if who == "connect" {
			want = reply
		}
		if got := p.out.String(); got != string(want) {
			t.Errorf("%s received %d bytes, want %d", who, len(got), len(want))
		}
	}
}

// Nobody there: at once, with the exit status of a refusal. A certificate that
// is not trusted: that of an authentication.
func TestQUICExitStatus(t *testing.T) {
	t.Parallel()
	k := newQUICKey(t)
	c := anysock(t, nil, "connect", "quic://127.0.0.1:"+freeUDPPort(t)+k.trusting())
	c.wantStatus(4)
	c.complains(`is the server started`)
	ln := anysock(t, nil, "listen", "--keep", "quic://127.0.0.1:0"+k.serving())
	c = anysock(t, nil, "connect", ln.bound())
	c.wantStatus(6)
	c.complains(`ca=`)
}

// freeUDPPort is one that nobody has now.
func freeUDPPort(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_, port, err := net.SplitHostPort(pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// An HTTP/3 frame (RFC 9114 section 7.1) of less than 64 bytes.
func h3Frame(kind byte, payload string) string {
	return string([]byte{kind, byte(len(payload))}) + payload
}

const (
	h3Data    = 0x0
	h3Headers = 0x1

	// QPACK (RFC 9204) without a dynamic table: the prefix, then entries of the
	// static table: method GET, scheme https, and literal path and authority.
	h3Get = "\x00\x00\xd1\xd7\x51\x06/hello\x50\x09localhost"
	h3OK  = "\x00\x00\xd9" // status 200
)

// Our dialer gets a file of ngtcp2's server.
func TestQUICForeignServer(t *testing.T) {
	t.Parallel()
	server, k := need(t, "gtlsserver"), newQUICKey(t)
	const text = "from ngtcp2\n"
	if err := os.WriteFile(filepath.Join(k.dir, "hello"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freeUDPPort(t)
	start(t, command{argv: []string{server, "-q", "-d", k.dir, "127.0.0.1", port, k.key, k.cert}})
	// It says nothing when it is ready: a refused dial is tried again.
	c := anysock(t, []byte(h3Frame(h3Headers, h3Get)), "connect", "-v",
		"quic://127.0.0.1:"+port+k.trusting()+"&alpn=h3&sni=localhost&retry=20&retryinterval=100ms")
	c.ok()
	c.complains(`graceful: \d+ sent, \d+ received`)
	if got := c.out.String(); !strings.HasSuffix(got, h3Frame(h3Data, text)) {
		t.Errorf("the reply is %q, want one that ends with %q", got, text)
	}
}

// Our listener serves ngtcp2's client.
func TestQUICForeignClient(t *testing.T) {
	t.Parallel()
	client, k := need(t, "gtlsclient"), newQUICKey(t)
	const text = "from anysock\n"
	ln := anysock(t, []byte(h3Frame(h3Headers, h3OK)+h3Frame(h3Data, text)), "listen", "-v", "quic://127.0.0.1:0"+k.serving()+"&alpn=h3")
	_, port := hostPort(t, ln.bound())
	c := start(t, command{argv: []string{
		client, "-q", "--exit-on-all-streams-close", "--download", k.dir, "127.0.0.1", port, "https://localhost/hello",
	}})
	c.ok()
	ln.ok()
	ln.complains(`graceful: \d+ sent, \d+ received`)
	if got, err := os.ReadFile(filepath.Join(k.dir, "hello")); err != nil || string(got) != text {
		t.Errorf("the client has %q, %v; want %q", got, err, text)
	}
}
