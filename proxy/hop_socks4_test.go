package proxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

const granted4 = "\x00\x5a\x00\x00\x00\x00\x00\x00"

func TestSocks4Connects(t *testing.T) {
	for _, c := range []struct{ scheme, user, option, target, request string }{
		{"socks4", "", "", "tcp://192.0.2.7:80", "\x04\x01\x00\x50\xc0\x00\x02\x07\x00"},
		{"socks4", "ann@", "", "tcp://192.0.2.7:80", "\x04\x01\x00\x50\xc0\x00\x02\x07ann\x00"},
		{"socks4", "", "", "tcp://localhost:80", "\x04\x01\x00\x50\x7f\x00\x00\x01\x00"},
		{"socks4a", "ann@", "", "tcp://db.example:80", "\x04\x01\x00\x50\x00\x00\x00\x01ann\x00db.example\x00"},
		{"socks4a", "", "", "tcp://192.0.2.7:80", "\x04\x01\x00\x50\xc0\x00\x02\x07\x00"},
		{"socks4a", "", "", "tcp://[2001:db8::7]:80", "\x04\x01\x00\x50\x00\x00\x00\x01\x002001:db8::7\x00"},
		{"socks4a", "", "?resolve=local", "tcp4://localhost:80", "\x04\x01\x00\x50\x7f\x00\x00\x01\x00"},
	} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,%s/slow=%v", c.scheme, c.target, slow), func(t *testing.T) {
				p := newScript(t, &scriptedProxy{steps: []step{{c.request, granted4 + "\x00\x5ahello"}}, slow: slow})
				conn, err := dialChain(t, new(anysock.Dialer), "%s://%s%s%s,%s", c.scheme, c.user, p.hostPort(), c.option, c.target)
				if err != nil {
					t.Fatal(err)
				}
				readExactly(t, conn, "\x00\x5ahello")
				if _, err := conn.SyscallConn(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestSocks4Refusals(t *testing.T) {
	const request = "\x04\x01\x00\x50\xc0\x00\x02\x07\x00"
	for _, c := range []struct {
		reply reply4
		kind  anysock.Kind
		cause anysock.Kind
		hint  string
	}{
		{reply4Rejected, anysock.KindHop, anysock.KindOther, "log"},
		{reply4NoIdent, anysock.KindAuth, anysock.KindAuth, "identd"},
		{reply4Ident, anysock.KindAuth, anysock.KindAuth, "identd"},
		{99, anysock.KindHop, anysock.KindOther, "log"},
	} {
		for _, rest := range []string{granted4[2:], ""} {
			p := newScript(t, &scriptedProxy{steps: []step{{request, "\x00" + string(rune(c.reply)) + rest}}, after: func(net.Conn) {}})
			_, err := dialChain(t, new(anysock.Dialer), "socks4://%s,tcp://192.0.2.7:80", p.hostPort())
			e := failure(t, err)
			if e.Kind != c.kind || !strings.Contains(e.Hint, c.hint) || !strings.Contains(err.Error(), c.reply.String()) || !strings.Contains(err.Error(), "socks4://"+p.hostPort()) {
				t.Errorf("reply %d: %v (%v, hint %q)", c.reply, err, e.Kind, e.Hint)
			}
			var r *RefusalError
			if !errors.As(err, &r) || r.Scheme != "socks4" || r.Code != int(c.reply) || r.Kind != c.cause {
				t.Errorf("reply %d: %+v", c.reply, r)
			}
		}
	}
}

func TestSocks4Nonsense(t *testing.T) {
	const request = "\x04\x01\x00\x50\x00\x00\x00\x01\x00db.example\x00"
	for answer, hint := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n": "HTTP",
		"\x05\xff":                     "socks5",
		"SSH-2.0-x\r\n":                "ssh",
	} {
		p := newScript(t, &scriptedProxy{steps: []step{{request, answer}}})
		_, err := dialChain(t, new(anysock.Dialer), "socks4a://%s,tcp://db.example:80", p.hostPort())
		if e := failure(t, err); e.Kind != anysock.KindHop || !strings.Contains(err.Error(), "does not speak SOCKS4a") || !strings.Contains(e.Hint, hint) {
			t.Errorf("%q: %v (%v, hint %q)", answer, err, e.Kind, e.Hint)
		} else {
			noControl(t, e)
		}
	}
	for n := range len(granted4) {
		p := newScript(t, &scriptedProxy{steps: []step{{request, granted4[:n]}}, after: func(net.Conn) {}})
		_, err := dialChain(t, new(anysock.Dialer), "socks4a://%s,tcp://db.example:80", p.hostPort())
		if e := failure(t, err); e.Kind != anysock.KindHop || !strings.Contains(err.Error(), "hung up") {
			t.Errorf("cut after %d bytes: %v (%v)", n, err, e.Kind)
		}
	}
}

// TestSocks4ResolvesHere: a name without an IPv4 address is an error that says
// what would help.
func TestSocks4ResolvesHere(t *testing.T) {
	p := newScript(t, &scriptedProxy{})
	_, err := dialChain(t, new(anysock.Dialer), "socks4://%s,tcp://no-such-host.invalid:80", p.hostPort())
	if e := failure(t, err); e.Kind != anysock.KindName && e.Kind != anysock.KindTimeout || !strings.Contains(e.Hint, "socks4a") {
		t.Errorf("%v (%v, hint %q)", err, e.Kind, e.Hint)
	}
}
