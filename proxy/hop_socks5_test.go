package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

const (
	greetPlain    = "\x05\x01\x00"
	greetPassword = "\x05\x02\x00\x02"
	connectDB     = "\x05\x01\x00\x03\x0adb.example\x15\x38" // db.example:5432
	granted5      = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
)

func TestSocks5Connects(t *testing.T) {
	t.Setenv("PROXY_TEST_PASS", "s3cret\n")
	for _, c := range []struct {
		name, user, option, target string
		steps                      []step
	}{
		{name: "name", target: "tcp://db.example:5432", steps: []step{{greetPlain, "\x05\x00"}, {connectDB, granted5}}},
		{name: "IPv4", target: "tcp://192.0.2.7:80", steps: []step{{greetPlain, "\x05\x00"}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50", granted5}}},
		{name: "tcp4", target: "tcp4://192.0.2.7:80", steps: []step{{greetPlain, "\x05\x00"}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50", granted5}}},
		{name: "IPv6", target: "tcp://[2001:db8::7]:80", steps: []step{{greetPlain, "\x05\x00"}, {"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x07\x00\x50", granted5}}},
		{name: "mapped", target: "tcp://[::ffff:192.0.2.7]:80", steps: []step{{greetPlain, "\x05\x00"}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50", granted5}}},
		{name: "resolved here", option: "?resolve=local", target: "tcp4://localhost:80", steps: []step{{greetPlain, "\x05\x00"}, {"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", granted5}}},
		{name: "bound IPv6", target: "tcp://db.example:5432", steps: []step{{greetPlain, "\x05\x00"}, {connectDB, "\x05\x00\x00\x04" + strings.Repeat("\x01", 18)}}},
		{name: "bound name", target: "tcp://db.example:5432", steps: []step{{greetPlain, "\x05\x00"}, {connectDB, "\x05\x00\x00\x03\x03\x00\n\xff\x00\x01"}}},
		{name: "password", user: "ann@", option: "?pass=env:PROXY_TEST_PASS", target: "tcp://db.example:5432", steps: []step{
			{greetPassword, "\x05\x02"}, {"\x01\x03ann\x06s3cret", "\x01\x00"}, {connectDB, granted5},
		}},
		{name: "password not wanted", user: "ann@", option: "?pass=env:PROXY_TEST_PASS", target: "tcp://db.example:5432", steps: []step{{greetPassword, "\x05\x00"}, {connectDB, granted5}}},
	} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/slow=%v", c.name, slow), func(t *testing.T) {
				// What the target says is glued to the last answer.
				steps := append([]step(nil), c.steps...)
				steps[len(steps)-1].say += "\x05\x00hello"
				p := newScript(t, &scriptedProxy{steps: steps, slow: slow})
				conn, err := dialChain(t, new(anysock.Dialer), "socks5://%s%s%s,%s", c.user, p.hostPort(), c.option, c.target)
				if err != nil {
					t.Fatal(err)
				}
				readExactly(t, conn, "\x05\x00hello")
				if _, err := conn.SyscallConn(); err != nil {
					t.Errorf("the stream through the proxy is no kernel socket: %v", err)
				}
				if _, err := io.WriteString(conn, "and back"); err != nil {
					t.Error(err)
				}
				if end, err := conn.Disconnect(context.Background()); err != nil || !end.How.Complete() {
					t.Errorf("%v, %v", end, err)
				}
				if got := p.heardBeyond(); got != "and back" {
					t.Errorf("the target heard %q", got)
				}
			})
		}
	}
}

func TestSocks5Refusals(t *testing.T) {
	for _, c := range []struct {
		reply reply5
		text  string
		kind  anysock.Kind
	}{
		{replyFailure, "general SOCKS server failure (reply 1)", anysock.KindOther},
		{replyNotAllowed, "connection not allowed by ruleset (reply 2)", anysock.KindPermission},
		{replyNetUnreachable, "network unreachable (reply 3)", anysock.KindUnreachable},
		{replyHostUnreachable, "host unreachable (reply 4)", anysock.KindUnreachable},
		{replyRefused, "connection refused (reply 5)", anysock.KindRefused},
		{replyTTLExpired, "TTL expired (reply 6)", anysock.KindTimeout},
		{replyCommandUnsupported, "command not supported (reply 7)", anysock.KindUnsupported},
		{replyFormUnsupported, "address type not supported (reply 8)", anysock.KindUnsupported},
		{99, "reply 99", anysock.KindOther},
	} {
		t.Run(c.reply.String(), func(t *testing.T) {
			for _, rest := range []string{granted5[2:], ""} { // some servers leave the rest out
				p := newScript(t, &scriptedProxy{
					steps: []step{{greetPlain, "\x05\x00"}, {connectDB, "\x05" + string(rune(c.reply)) + rest}},
					after: func(net.Conn) {},
				})
				_, err := dialChain(t, new(anysock.Dialer), "socks5://%s,tcp://db.example:5432", p.hostPort())
				e := failure(t, err)
				if e.Kind != anysock.KindHop || e.Op != anysock.OpConnect || e.Hint == "" {
					t.Errorf("kind %v, step %s, hint %q", e.Kind, e.Op, e.Hint)
				}
				for _, want := range []string{c.text, "db.example:5432", "socks5://" + p.hostPort()} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
				var r *RefusalError
				if !errors.As(err, &r) || r.Scheme != "socks5" || r.Code != int(c.reply) || r.Kind != c.kind {
					t.Errorf("%+v, want code %d and %v", r, c.reply, c.kind)
				}
			}
		})
	}
}

func TestSocks5Authentication(t *testing.T) {
	const secret = "correct horse"
	t.Setenv("PROXY_TEST_PASS", secret)
	for _, c := range []struct {
		name, user, option string
		steps              []step
		text, hint         string
	}{
		{"wanted", "", "", []step{{greetPlain, "\x05\xff"}}, "wants to know who we are", "USER@"},
		{"not enough", "ann@", "?pass=env:PROXY_TEST_PASS", []step{{greetPassword, "\x05\xff"}}, "neither", "GSSAPI"},
		{"wrong", "ann@", "?pass=env:PROXY_TEST_PASS", []step{{greetPassword, "\x05\x02"}, {"\x01\x03ann\x0d" + secret, "\x01\x01"}}, "refuses the user and the password (status 1)", "pass="},
		{"wrong, by version 5", "ann@", "?pass=env:PROXY_TEST_PASS", []step{{greetPassword, "\x05\x02"}, {"\x01\x03ann\x0d" + secret, "\x05\xff"}}, "refuses the user and the password (status 255)", "pass="},
	} {
		t.Run(c.name, func(t *testing.T) {
			var trace events
			p := newScript(t, &scriptedProxy{steps: c.steps, after: func(net.Conn) {}})
			_, err := dialChain(t, &anysock.Dialer{Trace: trace.add}, "socks5://%s%s%s,tcp://db.example:5432", c.user, p.hostPort(), c.option)
			e := failure(t, err)
			if e.Kind != anysock.KindAuth || !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%v (%v, hint %q), want %q and the hint %q", err, e.Kind, e.Hint, c.text, c.hint)
			}
			for _, text := range append(trace.texts(), err.Error(), e.Hint, fmt.Sprintf("%+v", e)) {
				if strings.Contains(text, "horse") {
					t.Errorf("the password is in %q", text)
				}
			}
		})
	}
}

// TestSocks5Nonsense: answers that are not SOCKS5 are errors at once, although
// the other side keeps the connection open.
func TestSocks5Nonsense(t *testing.T) {
	t.Setenv("PROXY_TEST_PASS", "x")
	password := []step{{greetPassword, "\x05\x02"}}
	for _, c := range []struct {
		name, user string
		steps      []step
		text, hint string
	}{
		{"HTTP", "", []step{{greetPlain, "HTTP/1.1 400 Bad Request\r\n"}}, `"HTTP/1.1 400 Bad`, "HTTP"},
		{"TLS", "", []step{{greetPlain, "\x15\x03\x01\x00\x02\x02\x46"}}, `\x15\x03`, "socks5+tls"},
		{"SSH", "", []step{{"", "SSH-2.0-OpenSSH_9.9\r\n"}}, "SSH-2.0", "ssh://"},
		{"SOCKS4", "", []step{{greetPlain, "\x00\x5b\x00\x00\x00\x00\x00\x00"}}, `\x00[`, "socks4"},
		{"mail", "", []step{{"", "220 mail.example ESMTP\r\n"}}, "220 mail", "mail"},
		{"escapes", "", []step{{greetPlain, "\x1b[2J\n\x00"}}, `\x1b[2J\n\x00`, "port"},
		{"echo", "", []step{{greetPlain, greetPlain}}, "GSSAPI, which was not offered", "protocol"},
		{"method not offered", "", []step{{greetPlain, "\x05\x02"}}, "not offered", "protocol"},
		{"method unknown", "", []step{{greetPlain, "\x05\x85"}}, "0x85, which was not offered", "protocol"},
		{"version of the status", "ann@", append(password[:1:1], step{"\x01\x03ann\x01x", "\x02\x00"}), "version 2", "protocol"},
		{"version of the reply", "", []step{{greetPlain, "\x05\x00"}, {connectDB, "\x04\x00\x00\x01"}}, "version 4", "protocol"},
		{"form of the reply", "", []step{{greetPlain, "\x05\x00"}, {connectDB, "\x05\x00\x00\x07"}}, "address type 7", "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			option := ""
			if c.user != "" {
				option = "?pass=env:PROXY_TEST_PASS"
			}
			p := newScript(t, &scriptedProxy{steps: c.steps})
			start := time.Now()
			_, err := dialChain(t, new(anysock.Dialer), "socks5://%s%s%s,tcp://db.example:5432", c.user, p.hostPort(), option)
			e := failure(t, err)
			if e.Kind != anysock.KindHop || !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%v (%v, hint %q), want %q and the hint %q", err, e.Kind, e.Hint, c.text, c.hint)
			}
			if !strings.Contains(err.Error(), "does not speak SOCKS5") {
				t.Errorf("%q does not say what it is about", err)
			}
			if took := time.Since(start); took > anysock.DefaultHandshake/2 {
				t.Errorf("it took %s", took)
			}
			noControl(t, e)
		})
	}
}

// TestSocks5CutShort: the proxy ends or resets the connection after each byte
// of its answers.
func TestSocks5CutShort(t *testing.T) {
	answers := "\x05\x00" + granted5
	for n := range len(answers) {
		for _, how := range []string{"end", "reset"} {
			steps := []step{{greetPlain, answers[:min(n, 2)]}}
			if n >= 2 {
				steps = append(steps, step{connectDB, answers[2:n]})
			}
			p := newScript(t, &scriptedProxy{steps: steps, after: func(c net.Conn) {
				if how == "reset" {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
			}})
			_, err := dialChain(t, new(anysock.Dialer), "socks5://%s,tcp://db.example:5432", p.hostPort())
			if e := failure(t, err); e.Kind != anysock.KindHop || !strings.Contains(err.Error(), "hung up") || e.Hint == "" {
				t.Errorf("%s after %d bytes: %v (%v, hint %q)", how, n, err, e.Kind, e.Hint)
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("%s after %d bytes: the error matches io.EOF", how, n)
			}
		}
	}
}

// TestSilentProxy: the exchange is bounded by the context, at each step.
func TestSilentProxy(t *testing.T) {
	for _, steps := range [][]step{
		{{greetPlain, ""}},
		{{greetPlain, "\x05"}},
		{{greetPlain, "\x05\x00"}, {connectDB, ""}},
		{{greetPlain, "\x05\x00"}, {connectDB, "\x05\x00\x00"}},
	} {
		p := newScript(t, &scriptedProxy{steps: steps})
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err := anysock.Dial(ctx, "socks5://"+p.hostPort()+",tcp://db.example:5432")
		cancel()
		if e := failure(t, err); e.Kind != anysock.KindTimeout || !errors.Is(err, context.DeadlineExceeded) || e.Hint == "" {
			t.Errorf("%q: %v (%v, hint %q)", steps, err, e.Kind, e.Hint)
		}
	}
}

// TestCancelDuringExchange: the context ends it while the proxy is waited for.
func TestCancelDuringExchange(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {connectDB, ""}}, after: func(c net.Conn) {
		cancel()
		_, _ = io.Copy(io.Discard, c)
	}})
	if _, err := anysock.Dial(ctx, "socks5://"+p.hostPort()+",tcp://db.example:5432"); !errors.Is(err, context.Canceled) || failure(t, err).Kind != anysock.KindCanceled {
		t.Errorf("%v", err)
	}
}

// TestSlowProxyIsCutOff: a byte now and then does not stretch the bound.
func TestSlowProxyIsCutOff(t *testing.T) {
	p := newScript(t, &scriptedProxy{steps: []step{{greetPlain, "\x05\x00"}, {connectDB, "\x05\x00\x00\x03\xff"}}, after: func(c net.Conn) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C { // 255 bytes take five seconds
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
		}
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := anysock.Dial(ctx, "socks5://"+p.hostPort()+",tcp://db.example:5432")
	if e := failure(t, err); e.Kind != anysock.KindTimeout || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}
