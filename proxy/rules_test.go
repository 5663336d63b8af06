// This file tests the rules: what they match, what they never lend themselves
// to, and how they are written.

package proxy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// local and elsewhere are clients.
var (
	local     = client{ip: netip.MustParseAddr("127.0.0.1"), local: true}
	elsewhere = client{ip: netip.MustParseAddr("192.0.2.7")}
)

func rulesOf(t testing.TB, lines ...string) *Rules {
	t.Helper()
	r := &Rules{}
	for _, line := range lines {
		what, text, _ := strings.Cut(line, " ")
		switch what {
		case "default":
			r.Default = map[string]Policy{"allow": PolicyAllow, "deny": PolicyDeny}[text]
		default:
			r.List = append(r.List, mustRule(t, what == "allow", text))
		}
	}
	return r
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		rules string // separated by ;
		q     question
		to    string
		want  bool
	}{
		{"", question{client: elsewhere}, "198.51.100.1:80", true},
		{"allow port=443", question{client: elsewhere}, "198.51.100.1:80", false},
		{"allow port=443", question{client: elsewhere}, "198.51.100.1:443", true},
		{"allow port=400-499", question{client: elsewhere}, "198.51.100.1:443", true},
		{"allow port=400-442,444-499", question{client: elsewhere}, "198.51.100.1:443", false},
		{"deny port=25", question{client: elsewhere}, "198.51.100.1:25", false},
		{"deny port=25", question{client: elsewhere}, "198.51.100.1:80", true},
		{"deny all", question{client: elsewhere}, "198.51.100.1:80", false},
		{"default deny", question{client: elsewhere}, "198.51.100.1:80", false},
		{"allow port=443;default allow", question{client: elsewhere}, "198.51.100.1:80", true},
		// The first that matches decides.
		{"deny to=198.51.100.0/24;allow all", question{client: elsewhere}, "198.51.100.1:80", false},
		{"allow to=198.51.100.1;deny to=198.51.100.0/24", question{client: elsewhere}, "198.51.100.1:80", true},
		{"allow to=198.51.100.1;deny to=198.51.100.0/24", question{client: elsewhere}, "198.51.100.2:80", false},
		// Every condition counts, and one of its values.
		{"allow from=192.0.2.0/24,203.0.113.0/24 port=80", question{client: elsewhere}, "198.51.100.1:80", true},
		{"allow from=192.0.2.0/24,203.0.113.0/24 port=81", question{client: elsewhere}, "198.51.100.1:80", false},
		{"allow from=203.0.113.0/24", question{client: elsewhere}, "198.51.100.1:80", false},
		{"allow from=::ffff:192.0.2.0/120", question{client: elsewhere}, "198.51.100.1:80", true},
		{"allow user=alice", question{client: elsewhere, user: "alice"}, "198.51.100.1:80", true},
		{"allow user=alice", question{client: elsewhere, user: "bob"}, "198.51.100.1:80", false},
		{"allow user=alice", question{client: elsewhere}, "198.51.100.1:80", false},
		{"deny user=bob;allow all", question{client: elsewhere, user: "bob"}, "198.51.100.1:80", false},
		{"allow from=10.0.0.0/8", question{client: client{}}, "198.51.100.1:80", false}, // no address at all
		// Names.
		{"allow to=example.com", question{client: elsewhere, name: "example.com"}, "198.51.100.1:80", true},
		{"allow to=example.com", question{client: elsewhere, name: "www.EXAMPLE.com."}, "198.51.100.1:80", true},
		{"allow to=example.com", question{client: elsewhere, name: "badexample.com"}, "198.51.100.1:80", false},
		{"allow to=.example.com.", question{client: elsewhere, name: "www.example.com"}, "198.51.100.1:80", true},
		{"allow to=example.com", question{client: elsewhere}, "198.51.100.1:80", false},
		{"deny to=example.com", question{client: elsewhere, name: "www.example.com"}, "198.51.100.1:80", false},
		{"allow to=example.com,203.0.113.0/24", question{client: elsewhere}, "203.0.113.9:80", true},
		// IPv4 in IPv6.
		{"deny to=198.51.100.0/24", question{client: elsewhere}, "[::ffff:198.51.100.1]:80", false},
		{"deny to=198.51.100.0/24", question{client: elsewhere}, "[64:ff9b::198.51.100.1]:80", false},
		{"deny to=198.51.100.0/24", question{client: elsewhere}, "[2002:c633:6401::1]:80", false},
		{"deny to=198.51.100.0/24", question{client: elsewhere}, "[::198.51.100.1]:80", false},
		{"deny to=64:ff9b::/96", question{client: elsewhere}, "[64:ff9b::198.51.100.1]:80", false},
		{"deny to=::ffff:198.51.100.0/120", question{client: elsewhere}, "198.51.100.1:80", false},
		// Commands.
		{"allow command=bind", question{client: elsewhere}, "198.51.100.1:80", false},
		{"allow command=connect", question{client: elsewhere}, "198.51.100.1:80", true},
		{"deny command=bind", question{client: elsewhere, command: commandBind}, "198.51.100.1:80", false},
	} {
		q := c.q
		if q.command == 0 {
			q.command = commandConnect
		}
		to := netip.MustParseAddrPort(c.to)
		q.ip, q.port = to.Addr(), to.Port()
		var lines []string
		if c.rules != "" {
			lines = strings.Split(c.rules, ";")
		}
		err := rulesOf(t, lines...).ask(q)
		if (err == nil) != c.want {
			t.Errorf("%q, %+v: %v, want allowed %v", c.rules, q, err, c.want)
		}
		var denied *DeniedError
		if err != nil && !errors.As(err, &denied) {
			t.Errorf("%v is no DeniedError", err)
		}
	}
}

// internalTargets are those that no client from elsewhere may reach, in the
// forms they can take.
var internalTargets = []string{
	"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "::ffff:0:127.0.0.1",
	"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "169.254.0.1", "fe80::1",
	"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16",
	"224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255",
}

var noTargets = []string{"0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "64:ff9b::"}

func TestInternalTargets(t *testing.T) {
	for _, rules := range [][]string{nil, {"allow all"}, {"allow to=0.0.0.0/0,::/0"}, {"default allow"}, {"allow from=192.0.2.0/24"}, {"allow to=64:ff9b::/96,2002::/16,::/8"}} {
		r := rulesOf(t, rules...)
		for _, text := range append(internalTargets, noTargets...) {
			if err := r.ask(question{client: elsewhere, ip: netip.MustParseAddr(text), port: 80, command: commandConnect}); err == nil {
				t.Errorf("%v: %s is allowed", rules, text)
			}
		}
	}
	r := rulesOf(t)
	for _, text := range internalTargets {
		if err := r.ask(question{client: local, ip: netip.MustParseAddr(text), port: 80}); err != nil {
			t.Errorf("for this machine: %v", err)
		}
	}
	for _, text := range noTargets {
		if err := rulesOf(t, "allow all").ask(question{client: local, ip: netip.MustParseAddr(text), port: 80}); err == nil {
			t.Errorf("%s is allowed for this machine", text)
		}
	}
	for _, text := range []string{"8.8.8.8", "10.0.0.1", "192.168.0.1", "172.16.0.1", "2001:db8::1", "fd00::1", "64:ff9b::8.8.8.8", "2002:808:808::", "128.0.0.1", "223.255.255.255"} {
		if err := r.ask(question{client: elsewhere, ip: netip.MustParseAddr(text), port: 80}); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// A rule that names an internal target allows it, and nothing beside it.
func TestInternalTargetsByRule(t *testing.T) {
	for _, c := range []struct {
		rule string
		to   string
		want bool
	}{
		{"allow to=127.0.0.1", "127.0.0.1", true},
		{"allow to=127.0.0.1", "::ffff:127.0.0.1", true},
		{"allow to=127.0.0.0/8", "127.8.8.8", true},
		{"allow to=127.0.0.1 port=80", "127.0.0.1", true},
		{"allow to=127.0.0.1 port=81", "127.0.0.1", false},
		{"allow to=127.0.0.1", "127.0.0.2", false},
		{"allow to=127.0.0.1", "169.254.169.254", false},
		{"allow to=126.0.0.0/7", "127.0.0.1", false},
		{"allow to=169.254.169.254", "169.254.169.254", true},
		{"allow to=fe80::/10", "fe80::1", true},
		{"allow to=localhost", "127.0.0.1", false},
		{"deny to=127.0.0.1", "127.0.0.1", false},
	} {
		r := rulesOf(t, c.rule)
		err := r.ask(question{client: elsewhere, name: "localhost", ip: netip.MustParseAddr(c.to), port: 80, command: commandConnect})
		if (err == nil) != c.want {
			t.Errorf("%s: %s: %v, want allowed %v", c.rule, c.to, err, c.want)
		}
	}
	own := question{client: elsewhere, ip: netip.MustParseAddr("198.51.100.1"), port: 1080, own: true}
	if err := rulesOf(t, "allow all").ask(own); err == nil {
		t.Error("the proxy itself is allowed")
	}
	if err := rulesOf(t, "allow to=198.51.100.1").ask(own); err != nil {
		t.Error(err)
	}
	own.client = local
	if err := rulesOf(t).ask(own); err != nil {
		t.Error(err)
	}
}

// Before a name is resolved, only what no address can change is decided.
func TestRulesOfNames(t *testing.T) {
	for _, c := range []struct {
		rules []string
		want  bool
		final bool // what is said if it is not resolved here
	}{
		{nil, true, true},
		{[]string{"default deny"}, false, false},
		{[]string{"deny to=db.test"}, false, false},
		{[]string{"deny to=test"}, false, false},
		{[]string{"deny to=10.0.0.0/8"}, true, true},
		{[]string{"deny to=10.0.0.0/8", "deny all"}, true, false}, // it depends; the address decides
		{[]string{"deny port=80"}, false, false},
		{[]string{"deny port=81", "deny to=db.test"}, false, false},
		{[]string{"allow to=db.test", "deny all"}, true, true},
		{[]string{"allow to=10.0.0.0/8"}, true, false},
		{[]string{"allow to=10.0.0.0/8 port=81"}, false, false},
		{[]string{"allow to=other.test"}, false, false},
	} {
		for _, final := range []bool{false, true} {
			want := c.want
			if final {
				want = c.final
			}
			q := question{client: elsewhere, name: "db.test", port: 80, command: commandConnect}
			if err := rulesOf(t, c.rules...).askName(q, final); (err == nil) != want {
				t.Errorf("%q, final %v: %v, want %v", c.rules, final, err, want)
			}
		}
	}
}

func TestRulesOfAnybody(t *testing.T) {
	for _, c := range []struct {
		rules []string
		want  bool
	}{
		{nil, false},
		{[]string{"allow all"}, false},
		{[]string{"default allow"}, false},
		{[]string{"allow command=connect"}, false},
		{[]string{"allow command=bind"}, true},
		{[]string{"allow command=bind from=203.0.113.0/24"}, false},
		{[]string{"allow command=bind from=192.0.2.0/24"}, true},
		{[]string{"allow command=bind to=10.0.0.0/8"}, false},
		{[]string{"deny all", "allow command=bind"}, false},
		{[]string{"allow all", "allow command=bind"}, true},
	} {
		if err := rulesOf(t, c.rules...).askAnybody(question{client: elsewhere, command: commandBind}); (err == nil) != c.want {
			t.Errorf("%q: %v, want %v", c.rules, err, c.want)
		}
	}
}

// Names that resolvers take for addresses, and names that are none.
func TestNumericNames(t *testing.T) {
	for _, name := range []string{"127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.0.0.1.", "1.2.3.4.5", "a.0x", "a.0XfF", "a.1.", "..", "."} {
		if err := checkHost(name); err == nil {
			t.Errorf("%q is a host name", name)
		}
	}
	for _, name := range []string{"localhost", "db1", "1a", "1.2.3.com", "0xg.x0x", "a.0xg", "xn--e1aybc.test."} {
		if err := checkHost(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOpenRules(t *testing.T) {
	for _, c := range []struct {
		rules []string
		want  bool
	}{
		{nil, true},
		{[]string{"deny port=25"}, true},
		{[]string{"allow port=443"}, true},
		{[]string{"allow all"}, true},
		{[]string{"allow from=10.0.0.0/8", "default allow"}, true},
		{[]string{"allow from=10.0.0.0/8", "allow port=443"}, true},
		{[]string{"allow from=10.0.0.0/8"}, false},
		{[]string{"allow from=0.0.0.0/0,::/0"}, false}, // somebody says so
		{[]string{"default deny"}, false},
		{[]string{"deny all", "default deny"}, false},
	} {
		if got := rulesOf(t, c.rules...).areOpen(); got != c.want {
			t.Errorf("%q: open %v, want %v", c.rules, got, c.want)
		}
	}
}

func TestParseRule(t *testing.T) {
	r := mustRule(t, true, "user=alice,bob  from=10.0.0.0/8,::1 to=DB.example.,192.168.0.1,2001:db8::/32 port=80,8000-8999 command=bind")
	if len(r.Users) != 2 || r.From[1].String() != "::1/128" || r.Names[0] != "db.example" || len(r.To) != 2 || r.To[0].String() != "192.168.0.1/32" ||
		r.Ports[1] != (PortRange{8000, 8999}) || r.Command != "bind" || !r.Allow {
		t.Errorf("%+v", r)
	}
	if r := mustRule(t, false, "all"); r.Allow || r.From != nil {
		t.Errorf("%+v", r)
	}
	for _, text := range []string{
		"", " ", "all port=80", "10.0.0.0/8", "from=", "from=10.0.0.0/8,", "from=db", "from=10.0.0.1/8", "from=10.0.0.0/33", "from=fe80::1%eth0",
		"to=", "to=127.1", "to=10.0.0.1/8", "to=a/b", "to=[::1]", "to=a\x1b", "port=0", "port=x", "port=9-8", "port=65536", "command=associate", "command=bind,connect",
		"user=", "color=red", "port=80 port=81",
	} {
		if r, err := ParseRule(true, text); err == nil {
			t.Errorf("%q is %+v", text, r)
		} else if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q: the error is %q", text, err)
		}
	}
}

// FuzzParseRule: whatever is a rule is one that can be asked.
func FuzzParseRule(f *testing.F) {
	f.Add("user=alice from=10.0.0.0/8 to=db,192.168.0.0/16 port=80,8000-8999 command=bind")
	f.Add("all")
	f.Add("to=::ffff:10.0.0.0/104")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(true, text)
		if err != nil {
			return
		}
		rules := Rules{List: []Rule{r}}
		if err := rules.check(true); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		for _, to := range append(internalTargets, noTargets...) {
			q := question{client: elsewhere, user: "u", name: "n", ip: netip.MustParseAddr(to), port: 80, command: commandConnect}
			if rules.ask(q) == nil && !strings.Contains(text, "to=") {
				t.Errorf("%q allows %s", text, to)
			}
		}
	})
}
