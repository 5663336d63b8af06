package ssh

import (
	"net"
	"path"
	"strings"
	"testing"
	"time"
)

func TestAuthorizedRule(t *testing.T) {
	for options, why := range map[string]string{
		`from="127.0.0.1,!10.*,fe80::/10"`: "",
		`from=127.0.0.1`:                   "not in quotes",
		`from="host.example"`:              "host names are not looked up",
		`from="1.2.3.4,"`:                  "no address",
		`permitopen="h"`:                   "is not HOST:PORT",
		`permitopen="h:http"`:              "has no port",
		`permitopen="[::1]:22"`:            "",
		`permitopen="*:*"`:                 "",
		`expiry-time="2030"`:               "no time",
		`expiry-time="203001012359Z"`:      "",
		`environment="A=b"`:                "not supported",
		`cert-authority`:                   "not supported",
		`no-touch-required`:                "not supported",
		`Restrict`:                         "",
		`new-in-openssh-99`:                "not supported",
	} {
		got := parseRule([]string{options}).why
		if why == "" && got != "" || !strings.Contains(got, why) {
			t.Errorf("%s: %q, want %q", options, got, why)
		}
	}
}

func TestAuthorizedFrom(t *testing.T) {
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 5} }
	for _, tt := range []struct {
		from   string
		client net.Addr
		want   bool
	}{
		{"10.1.2.3", at("10.1.2.3"), true},
		{"10.1.2.3", at("10.1.2.33"), false},
		{"10.1.*", at("10.1.2.3"), true},
		{"10.1.?.3", at("10.1.2.3"), true},
		{"10.0.0.0/8", at("::ffff:10.1.2.3"), true}, // mapped forms are folded
		{"10.0.0.0/8,!10.1.2.3", at("10.1.2.3"), false},
		{"!10.1.2.3", at("10.9.9.9"), false}, // a negation alone matches nothing
		{"2001:DB8::1", at("2001:db8::1"), true},
		{"2001:db8::/32", at("2001:db8:1::1"), true},
		{"*", at("::1"), true},
		{"*", &net.UnixAddr{Name: "/x"}, false},
	} {
		if got := matchFrom(strings.Split(tt.from, ","), tt.client); got != tt.want {
			t.Errorf("%s for %s: %t", tt.from, tt.client, got)
		}
	}
}

func TestAuthorizedPermits(t *testing.T) {
	tcp := func(name string) destination { return destination{channel: channelTCP, addr: addr{"ssh", name}} }
	rule := parseRule([]string{`permitopen="DB:5432"`, `permitopen="[::1]:*"`})
	for to, want := range map[string]bool{"db:5432": true, "DB:5432": true, "db:5433": false, "[::1]:9": true, "x:5432": false} {
		if got := rule.permits(tcp(to)); got != want {
			t.Errorf("%s: %t", to, got)
		}
	}
	unix := destination{channel: channelUnix, addr: addr{"ssh", "/run/x"}}
	if rule.permits(unix) {
		t.Error("a Unix socket is permitted")
	}
	if !parseRule(nil).permits(unix) {
		t.Error("a Unix socket is not permitted without permitopen")
	}
}

func TestAuthorizedExpiry(t *testing.T) {
	want := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	if got, err := parseExpiry("20300102030405Z"); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parseExpiry("203001020304"); err != nil || !got.Equal(time.Date(2030, 1, 2, 3, 4, 0, 0, time.Local)) {
		t.Errorf("%v, %v", got, err)
	}
}

// FuzzAuthorized: no file harms the parser, and what it lets in was a key of
// the file without an option that it does not know.
func FuzzAuthorized(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJb4tc3RWVtfBiJUhsQM8eZ3lQ2X9rJc0sgTQ2oHpnLe c"
	for _, options := range []string{"", "restrict ", `from="1.2.3.4",permitopen="h:1" `, `command="a \" b" `, `from="*"x `, `expiry-time="20300101" `, `bogus `} {
		f.Add([]byte("# comment\n\n" + options + key + "\r\n"))
	}
	f.Add([]byte("restrict\n" + key))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseAuthorized(b)
		if err != nil {
			return
		}
		for _, rule := range keys {
			if rule.line < 1 || rule.line > strings.Count(string(b), "\n")+1 {
				t.Fatalf("line %d", rule.line)
			}
			line := strings.Split(string(b), "\n")[rule.line-1]
			if rule.why == "" && strings.Contains(strings.ToLower(strings.SplitN(line, "ssh-", 2)[0]), "command=") && !strings.Contains(line, `"`) {
				t.Fatalf("let in: %q", line)
			}
			_ = matchFrom(rule.from, &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4)})
			_ = rule.permits(destination{channel: channelTCP, addr: addr{"ssh", "h:1"}})
		}
	})
}

// FuzzWildcard compares with package path, whose patterns without brackets,
// backslashes and slashes are the same.
func FuzzWildcard(f *testing.F) {
	f.Add("10.*.2?", "10.1.23")
	f.Add("***", "")
	f.Add("a*b*c", "aXbYbZc")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if strings.ContainsAny(pattern+s, `[]\/`) || !ascii(pattern+s) || len(pattern) > 30 || len(s) > 100 {
			return
		}
		want, err := path.Match(pattern, s)
		if err != nil {
			return
		}
		if got := matchWildcard(pattern, s); got != want {
			t.Errorf("%q, %q: %t", pattern, s, got)
		}
	})
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}
