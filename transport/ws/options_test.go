package ws

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// A bad option is an error of Dial and Listen, before anything is dialed or
// bound, that says what is wrong.
func TestBadOptions(t *testing.T) {
	t.Setenv("WS_TEST_SPACE", "two words")
	t.Setenv("WS_TEST_TOKEN", "hunter2")
	secrets := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(secrets, []byte("Authorization: hunter2\nno colon hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	authorization := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(authorization, []byte("Authorization: hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		addr, says   string
		dial, listen bool
	}{
		{"ws://127.0.0.1:0/?header=X", "no colon", true, false},
		{"ws://127.0.0.1:0/?header=X%20Y:z", "not the name of a header", true, false},
		{"ws://127.0.0.1:0/?header=X:a%0D%0AY:b", "control character", true, false},
		{"ws://127.0.0.1:0/?header=Host:x", "handshake's own", true, false},
		{"ws://127.0.0.1:0/?header=sec-websocket-key:x", "handshake's own", true, false},
		{"ws://127.0.0.1:0/?header=authorization:hunter2", "a secret", true, false},
		{"ws://127.0.0.1:0/?header=Cookie:hunter2", "a secret", true, false},
		{"ws://127.0.0.1:0/?header-secret=hunter2", "env:NAME or file:PATH", true, false},
		{"ws://127.0.0.1:0/?header-secret=env:WS_TEST_NOT_THERE", "not set", true, false},
		{"ws://127.0.0.1:0/?header-secret=file:" + secrets, "line 2: no colon", true, false},
		{"ws://127.0.0.1:0/?auth-token=env:WS_TEST_SPACE", "a space", true, false},
		{"ws://127.0.0.1:0/?auth-token=env:WS_TEST_TOKEN&header-secret=file:" + authorization, "two Authorization", true, false},
		{"ws://127.0.0.1:0/?host=a/b", "not a host", true, false},
		{"ws://127.0.0.1:0/?host=a%20b", "not a host", true, false},
		{"ws://127.0.0.1:0/?host=u@b", "not a host", true, false},
		{"ws://127.0.0.1:0/?host=a%22b", "not a host", true, false},
		{"ws://127.0.0.1:0/?query=a%20b", "not the query", true, false},
		{"ws://127.0.0.1:0/?query=a%23b", "not the query", true, false},
		{"ws://127.0.0.1:0/?query=a%25zz", "not the query", true, false},
		{"ws://127.0.0.1:0/x?path=/y", "a path already", true, true},
		{"ws://127.0.0.1:0/?path=y", "begins with a slash", true, true},
		{"ws://127.0.0.1:0/?origin=app.example", "an origin is", true, true},
		{"ws://127.0.0.1:0/?origin=https://app.example/", "an origin is", true, true},
		{"ws://127.0.0.1:0/?origin=https://*.example/x", "an origin is", true, true},
		{"ws://127.0.0.1:0/?origin=https://a&origin=https://b", "one origin", true, false},
		{"ws://127.0.0.1:0/?origin=*", "an origin is", true, false},
		{"ws://127.0.0.1:0/?subprotocol=a%20b", "one word", true, true},
		{"ws://127.0.0.1:0/?subprotocol=a&subprotocol=a", "twice", true, true},
		{"ws://127.0.0.1:0/?subprotocol=anysock.lc.1", "lifecycle", true, true},
		{"ws://127.0.0.1:0/?subprotocol=ANYSOCK.lc.1", "lifecycle", true, true},
		{"lc+ws://127.0.0.1:0/?subprotocol=a", "under lc", true, true},
		{"ws://127.0.0.1:0/?ping=x", "a duration", true, true},
		{"ws://127.0.0.1:0/?ping=0&pong=5s", "without pings", true, true},
		{"ws://127.0.0.1:0/?host=x", "means nothing for listening", false, true},
		{"ws://127.0.0.1:0/?header=a:b", "means nothing for listening", false, true},
	} {
		check := func(what string, err error) {
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindAddress || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s %s: %v; want an error of kind address that says %q", what, tt.addr, err, tt.says)
				return
			}
			if text := err.Error() + e.Hint; strings.Contains(text, "hunter2") && !strings.Contains(tt.says, "env:NAME") {
				t.Errorf("%s %s: the error shows a secret: %s", what, tt.addr, text)
			}
		}
		if tt.dial {
			c, err := anysock.Dial(bounded(t), tt.addr)
			if err == nil {
				_ = c.Abort()
			}
			check("dialing", err)
		}
		if tt.listen {
			ln, err := anysock.Listen(bounded(t), tt.addr)
			if err == nil {
				ln.Close()
			}
			check("listening at", err)
		}
	}
}

// No error and no event shows a secret that a request carries.
func TestSecretsStaySecret(t *testing.T) {
	t.Setenv("WS_TEST_TOKEN", "hunter2")
	addr, _ := httpServer(t, func(*http.Request) string { return "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n" })
	var events strings.Builder
	d := anysock.Dialer{Trace: func(ev anysock.Event) { events.WriteString(ev.String() + "\n") }}
	_, err := d.Dial(bounded(t), "ws://"+addr+"/?auth-token=env:WS_TEST_TOKEN&header-secret=env:WS_TEST_HEADER")
	if err == nil || !strings.Contains(err.Error(), "WS_TEST_HEADER is not set") {
		t.Errorf("%v", err)
	}
	t.Setenv("WS_TEST_HEADER", "X-Key: hunter2")
	_, err = d.Dial(bounded(t), "ws://"+addr+"/?auth-token=env:WS_TEST_TOKEN&header-secret=env:WS_TEST_HEADER")
	if !isKind(err, anysock.KindAuth) {
		t.Errorf("%v", err)
	}
	if text := err.Error() + events.String(); strings.Contains(text, "hunter2") {
		t.Errorf("a secret is in: %s", text)
	}
}

// Which pages may connect.
func TestOrigins(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	public := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	unix := &net.UnixAddr{Name: "/s", Net: "unix"}
	for _, tt := range []struct {
		origin, host string
		local        net.Addr
		secure       bool
		allowed      string
		ok           bool
	}{
		{"http://edge.example", "edge.example", public, false, "", true},
		{"http://EDGE.example:80", "edge.example", public, false, "", true},
		{"http://edge.example", "edge.example:80", public, false, "", true},
		{"https://edge.example", "edge.example", public, true, "", true},
		{"https://edge.example:443", "edge.example:443", public, true, "", true},
		{"http://[2001:db8::1]:81", "[2001:db8::1]:81", public, false, "", true},
		{"http://edge.example", "edge.example", public, true, "", false},
		{"https://edge.example", "edge.example", public, false, "", false},
		{"http://edge.example:81", "edge.example", public, false, "", false},
		{"http://edge.example", "edge.example:81", public, false, "", false},
		{"http://edge.example.evil", "edge.example", public, false, "", false},
		{"http://evil.edge.example", "edge.example", public, false, "", false},
		{"http://edge.example@evil", "edge.example", public, false, "", false},
		{"http://edge.example/", "edge.example", public, false, "", false},
		{"edge.example", "edge.example", public, false, "", false},
		{"//edge.example", "edge.example", public, false, "", false},
		{"null", "edge.example", public, false, "", false},
		{"", "edge.example", public, false, "", false},
		{"file://", "edge.example", public, false, "", false},
		{"http://edge.example http://evil", "edge.example", public, false, "", false},

		// On loopback a foreign name may have been made to lead here.
		{"http://localhost:3005", "localhost:3005", loopback, false, "", true},
		{"http://app.localhost:3005", "app.localhost:3005", loopback, false, "", true},
		{"http://127.0.0.1:3005", "127.0.0.1:3005", loopback, false, "", true},
		{"http://[::1]:3005", "[::1]:3005", loopback, false, "", true},
		{"http://evil.example:3005", "evil.example:3005", loopback, false, "", false},
		{"http://evil.example:3005", "evil.example:3005", unix, false, "", false},
		{"http://evil.example:3005", "evil.example:3005", loopback, false, "http://evil.example:3005", true},

		{"https://app.example", "edge.example", public, true, "https://app.example", true},
		{"https://app.example:443", "edge.example", public, true, "https://APP.example", true},
		{"https://app.example:8443", "edge.example", public, true, "https://app.example", false},
		{"http://app.example", "edge.example", public, true, "https://app.example", false},
		{"https://edge.example", "edge.example", public, true, "https://app.example", true},
		{"chrome-extension://abc", "edge.example", public, true, "chrome-extension://abc", true},
		{"chrome-extension://abd", "edge.example", public, true, "chrome-extension://abc", false},
		{"null", "edge.example", public, true, "null", true},
		{"https://app.example", "edge.example", public, true, "null", false},
		{"https://evil.example", "edge.example", public, true, "*", true},
		{"null", "edge.example", public, true, "*", true},
		{"nonsense", "edge.example", public, true, "*", true},
	} {
		l := &listenSettings{settings: settings{secure: tt.secure}}
		if tt.allowed == "*" {
			l.anyOrigin = true
		} else if tt.allowed != "" {
			o, err := parseOrigin(tt.allowed)
			if err != nil {
				t.Fatal(tt.allowed, err)
			}
			l.origins = []origin{o}
		}
		if ok := l.allows([]string{tt.origin}, tt.host, tt.local); ok != tt.ok {
			t.Errorf("origin %q at host %q on %v (tls %t), with %q allowed: %t, want %t", tt.origin, tt.host, tt.local, tt.secure, tt.allowed, ok, tt.ok)
		}
		if !l.allows(nil, tt.host, tt.local) {
			t.Errorf("no origin at host %q: refused", tt.host)
		}
	}
}

// A client's origin is what the server sees, and * lets any page in.
func TestOriginOption(t *testing.T) {
	ln := listen(t, "ws://127.0.0.1:0/?origin=https://app.example")
	open := listen(t, "ws://127.0.0.1:0/?origin=*")
	dial := func(ln *anysock.Listener, origin string) error {
		c, err := anysock.Dial(bounded(t), "ws://"+ln.Addr().String()+"/?origin="+origin)
		if err == nil {
			_, _ = c.Abort(), accept(t, ln).Abort()
		}
		return err
	}
	if err := dial(ln, "https://app.example"); err != nil {
		t.Error(err)
	}
	err := dial(ln, "https://evil.example")
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != anysock.KindAuth || !strings.Contains(err.Error(), "403") || !strings.Contains(e.Hint, "origin") {
		t.Errorf("a foreign origin: %v", err)
	}
	if err := dial(open, "https://evil.example"); err != nil {
		t.Error(err)
	}
}

// What a listener may be told is in its address, and whoever dials needs no
// more than the address of the other.
func TestPathOption(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listen(t, "ws+unix:"+path+"?path=/a%20b/c")
	if _, err := anysock.Dial(bounded(t), "ws+unix:"+path); !isKind(err, anysock.KindAuth) {
		t.Errorf("another path: %v", err)
	}
	c, err := (&anysock.Dialer{}).Dial(context.Background(), "ws+unix:"+path+"?path=/a%20b/c&ping=0")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Abort(), accept(t, ln).Abort()
}
