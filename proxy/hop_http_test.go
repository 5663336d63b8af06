package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

const askDB = "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"

func TestHTTPConnects(t *testing.T) {
	t.Setenv("PROXY_TEST_PASS", "s3cret")
	head := "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n"
	for _, c := range []struct{ name, user, option, target, request, answer string }{
		{"plain", "", "", "tcp://db.example:5432", askDB, "HTTP/1.1 200 Connection established\r\n\r\n"},
		{"1.0 and fields", "", "", "tcp://db.example:5432", askDB, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"bare LF", "", "", "tcp://db.example:5432", askDB, "HTTP/1.1 200 OK\nVia: x\n\n"},
		{"another success", "", "", "tcp://db.example:5432", askDB, "HTTP/1.1 204\r\n\r\n"},
		{"interim", "", "", "tcp://db.example:5432", askDB, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
		{"IPv6", "", "", "tcp://[2001:db8::7]:80", "CONNECT [2001:db8::7]:80 HTTP/1.1\r\nHost: [2001:db8::7]:80\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
		{"resolved here", "", "?resolve=local", "tcp4://localhost:80", "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
		{"user", "ann@", "?pass=env:PROXY_TEST_PASS", "tcp://db.example:5432", head + "Proxy-Authorization: Basic YW5uOnMzY3JldA==\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
		{"fields", "", "?header=X-Team:%20blue&header=X-Empty:", "tcp://db.example:5432", head + "X-Team: blue\r\nX-Empty: \r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
	} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/slow=%v", c.name, slow), func(t *testing.T) {
				const glued = "HTTP/1.1 500 the target's own\r\n\r\n"
				p := newScript(t, &scriptedProxy{steps: []step{{c.request, c.answer + glued}}, slow: slow})
				conn, err := dialChain(t, new(anysock.Dialer), "http://%s%s%s,%s", c.user, p.hostPort(), c.option, c.target)
				if err != nil {
					t.Fatal(err)
				}
				readExactly(t, conn, glued)
				if _, err := conn.SyscallConn(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	for _, c := range []struct {
		answer     string
		kind       anysock.Kind
		code       int
		cause      anysock.Kind
		text, hint string
	}{
		{"HTTP/1.1 403 Forbidden\r\n\r\n", anysock.KindHop, 403, anysock.KindPermission, `403 "Forbidden"`, "rule"},
		{"HTTP/1.1 502 Bad Gateway\r\n\r\n", anysock.KindHop, 502, anysock.KindOther, `502 "Bad Gateway"`, "db.example:5432"},
		{"HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\n<html>", anysock.KindHop, 503, anysock.KindOther, "503", "db.example:5432"},
		{"HTTP/1.1 504 Gateway Timeout\r\n\r\n", anysock.KindHop, 504, anysock.KindTimeout, "504", "db.example:5432"},
		{"HTTP/1.1 405 Method Not Allowed\r\n\r\n", anysock.KindHop, 405, anysock.KindUnsupported, "405", "web server"},
		{"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", anysock.KindHop, 301, anysock.KindOther, "301", "log"},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", anysock.KindHop, 101, anysock.KindOther, "101", "log"},
		{"HTTP/1.1 500 \x1b[2J\x07\r\n\r\n", anysock.KindHop, 500, anysock.KindOther, `500 "\x1b[2J\a"`, "log"},
		{"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", anysock.KindAuth, 407, anysock.KindAuth, "407", "USER@"},
		{"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NT\x1bLM\r\n\r\n", anysock.KindAuth, 407, anysock.KindAuth, "407", `"Negotiate, NT\x1bLM"`},
	} {
		p := newScript(t, &scriptedProxy{steps: []step{{askDB, c.answer}}, after: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }})
		_, err := dialChain(t, new(anysock.Dialer), "http://%s,tcp://db.example:5432", p.hostPort())
		e := failure(t, err)
		if e.Kind != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.hint) || !strings.Contains(err.Error(), "http://"+p.hostPort()) {
			t.Errorf("%q: %v (%v, hint %q), want %q and the hint %q", c.answer, err, e.Kind, e.Hint, c.text, c.hint)
		}
		var r *RefusalError
		if !errors.As(err, &r) || r.Scheme != "http" || r.Code != c.code || r.Kind != c.cause {
			t.Errorf("%q: %+v", c.answer, r)
		}
		noControl(t, e)
	}
}

// TestHTTPPasswordStaysSecret: it is in no error and in no trace.
func TestHTTPPasswordStaysSecret(t *testing.T) {
	t.Setenv("PROXY_TEST_PASS", "correct horse")
	const basic = "YW5uOmNvcnJlY3QgaG9yc2U="
	p := newScript(t, &scriptedProxy{steps: []step{{
		askDB[:len(askDB)-2] + "Proxy-Authorization: Basic " + basic + "\r\n\r\n",
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
	}}})
	var trace events
	_, err := dialChain(t, &anysock.Dialer{Trace: trace.add}, "http://ann@%s?pass=env:PROXY_TEST_PASS,tcp://db.example:5432", p.hostPort())
	e := failure(t, err)
	if e.Kind != anysock.KindAuth || !strings.Contains(e.Hint, "pass=") {
		t.Errorf("%v (%v, hint %q)", err, e.Kind, e.Hint)
	}
	for _, text := range append(trace.texts(), err.Error(), e.Hint, fmt.Sprintf("%+v", e)) {
		if strings.Contains(text, "horse") || strings.Contains(text, basic) {
			t.Errorf("the password is in %q", text)
		}
	}
}

func TestHTTPNonsense(t *testing.T) {
	for _, c := range []struct{ answer, text, hint string }{
		{"SSH-2.0-OpenSSH_9.9\r\n", "SSH-2.0", "ssh://"},
		{"\x15\x03\x01\x00\x02\x02\x46", `\x15\x03`, "http+tls"},
		{"\x05\xff", `\x05\xff`, "socks5"},
		{"<html>", "<html>", "HTTP"},
		{"HTTP/2.0 200\r\n\r\n", "HTTP/2", "protocol"},
		{"HELO\r\n", "HELO", "protocol"},
		{"HTTP/1.1 OK\r\n\r\n", "status line", "protocol"},
		{"HTTP/1.1 200 OK\r\nfolded\r\n\r\n", "no HTTP field", "protocol"},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", maxHead), "longer than 16384 bytes", "protocol"},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxInterim), "interim", "protocol"},
	} {
		p := newScript(t, &scriptedProxy{steps: []step{{askDB, c.answer}}})
		_, err := dialChain(t, new(anysock.Dialer), "http://%s,tcp://db.example:5432", p.hostPort())
		e := failure(t, err)
		if e.Kind != anysock.KindHop || !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.hint) || !strings.Contains(err.Error(), "does not speak HTTP CONNECT") {
			t.Errorf("%.40q: %v (%v, hint %q), want %q and the hint %q", c.answer, err, e.Kind, e.Hint, c.text, c.hint)
		}
		noControl(t, e)
		checkText(t, err.Error())
	}
	const answer = "HTTP/1.1 200 OK\r\n\r\n"
	for n := range len(answer) {
		p := newScript(t, &scriptedProxy{steps: []step{{askDB, answer[:n]}}, after: func(net.Conn) {}})
		_, err := dialChain(t, new(anysock.Dialer), "http://%s,tcp://db.example:5432", p.hostPort())
		if e := failure(t, err); e.Kind != anysock.KindHop || !strings.Contains(err.Error(), "hung up") {
			t.Errorf("cut after %d bytes: %v (%v)", n, err, e.Kind)
		}
	}
}
