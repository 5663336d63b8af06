package proxy

import (
	"strings"
	"sync"
	"testing"

	"github.com/anysock/anysock"
)

// events is a trace.
type events struct {
	mu   sync.Mutex
	list []anysock.Event
}

func (e *events) add(ev anysock.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

// texts is everything that the events say.
func (e *events) texts() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.list {
		out = append(out, ev.String(), ev.Detail, ev.Local, ev.Peer)
		if ev.Err != nil {
			out = append(out, ev.Err.Error())
		}
	}
	return out
}

// TestNothingIsSentForNonsense: what cannot be asked for is an error before the
// proxy hears a byte.
func TestNothingIsSentForNonsense(t *testing.T) {
	t.Setenv("PROXY_TEST_PASS", "s3cret")
	t.Setenv("PROXY_TEST_EMPTY", "")
	t.Setenv("PROXY_TEST_LONG", strings.Repeat("p", 256))
	long := strings.Repeat("u", 256)
	for _, c := range []struct {
		hop, option, next string
		text, hint        string
	}{
		{"socks5://", "", "unix:/run/o.sock", "SOCKS5 cannot reach unix addresses", "ssh://"},
		{"socks4a://", "", "unix:@x", "SOCKS4a cannot reach unix addresses", ""},
		{"http://", "", "unix:/run/o.sock", "HTTP CONNECT cannot reach unix addresses", ""},
		{"socks5://", "", "mem:x", "mem cannot be reached through another hop", ""},
		{"socks5://", "", "echo:", "echo cannot be reached through another hop", ""},
		{"socks5://", "", "tcp://:80", "the host behind the proxy is missing", "localhost"},
		{"socks5://", "", "tcp://db:0", "port", ""},
		{"socks5://", "", "tcp://[fe80::1%25eth0]:80", "zone", "leave"},
		{"socks5://", "", "tcp6://db:80", "whatever family", "resolve=local"},
		{"socks4://", "", "tcp://[2001:db8::7]:80", "IPv4 alone", "socks5"},
		{"socks4://", "", "tcp6://localhost:80", "IPv4 alone", "socks5"},
		{"socks5://", "?resolve=here", "tcp://db:80", "must be remote or local", ""},
		{"socks5://ann@", "", "tcp://db:80", "a user without a password", "pass="},
		{"socks5://", "?pass=env:PROXY_TEST_PASS", "tcp://db:80", "a password without a user", "USER@"},
		{"socks5://ann@", "?pass=env:PROXY_TEST_EMPTY", "tcp://db:80", "1 to 255 bytes", ""},
		{"socks5://ann@", "?pass=env:PROXY_TEST_LONG", "tcp://db:80", "1 to 255 bytes", ""},
		{"socks5://" + long + "@", "?pass=env:PROXY_TEST_PASS", "tcp://db:80", "1 to 255 bytes", ""},
		{"socks5://ann@", "?pass=env:PROXY_TEST_NOT_SET", "tcp://db:80", "PROXY_TEST_NOT_SET is not set", "env:NAME"},
		{"socks5://ann@", "?pass=file:/nonexistent", "tcp://db:80", "/nonexistent", "file:PATH"},
		{"socks4a://" + long + "@", "", "tcp://db:80", "cannot be sent", ""},
		{"http://", "?header=X-Team", "tcp://db:80", "the value of header must be", ""},
		{"http://", "?header=X:a%0D%0AY:b", "tcp://db:80", "the value of header must be", ""},
		{"http://", "?header=X%20Y:a", "tcp://db:80", "the value of header must be", ""},
		{"http://", "?header=Host:other", "tcp://db:80", "must not be Host", ""},
		{"http://", "?header=proxy-authorization:Basic%20eA", "tcp://db:80", "must not be Proxy-Authorization", ""},
	} {
		t.Run(c.hop+c.option+","+c.next, func(t *testing.T) {
			p := newScript(t, &scriptedProxy{})
			address := c.hop + p.hostPort() + c.option + "," + c.next
			_, err := dialChain(t, new(anysock.Dialer), "%s", address)
			e := failure(t, err)
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%v (hint %q), want %q and the hint %q", err, e.Hint, c.text, c.hint)
			}
			if e.Kind != anysock.KindAddress && e.Kind != anysock.KindAuth {
				t.Errorf("kind %v", e.Kind)
			}
			if strings.Contains(err.Error()+e.Hint, "s3cret") || strings.Contains(err.Error(), "ppp") {
				t.Errorf("the secret is in %q", err)
			}
			noControl(t, e)
			if heard := p.heardBeyond(); heard != "" {
				t.Errorf("the proxy heard %q", heard)
			}
		})
	}
}

// TestChecksOfOptions: options that no hop knows are found without dialing.
func TestChecksOfOptions(t *testing.T) {
	for address, ok := range map[string]bool{
		"socks5://ann@p:1080?pass=env:X&resolve=local,tcp://db:80": true,
		"socks4a://ann@p:1080?resolve=local,tcp://db:80":           true,
		"http://p:8080?header=A:b&header=C:d,tcp://db:80":          true,
		"socks5://p:1080,tcp://:0?peer=server":                     true,
		"socks4://p:1080?resolve=remote,tcp://db:80":               false,
		"socks4://ann@p:1080?pass=env:X,tcp://db:80":               false,
		"socks5://p:1080?header=A:b,tcp://db:80":                   false,
		"http://p:8080,tcp://:0?peer=server":                       false,
		"tcp://:0?peer=server":                                     false,
	} {
		a, err := anysock.ParseAddress(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if err := a.Check(); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestCapsThroughProxies(t *testing.T) {
	direct, err := anysock.AddressCaps(anysock.MustParseAddress("tcp://db:80"))
	if err != nil {
		t.Fatal(err)
	}
	for _, hop := range []string{"socks5", "socks4", "socks4a", "http"} {
		got, err := anysock.AddressCaps(anysock.MustParseAddress(hop + "://p:1080,tcp://db:80"))
		if err != nil || got != direct {
			t.Errorf("%s: %v, %v, want %v", hop, got, err, direct)
		}
	}
	if got := capsThrough(direct|anysock.CapPeerID, anysock.Target{}); got != direct {
		t.Errorf("the peer of the proxy's connection is not that of the stream: %v", got)
	}
}
