// This file tests what addresses are accepted, with every field, and how an
// Address behaves. What is refused is tested in address_error_test.go.

package anysock

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The addresses of a program are constants, lines of a configuration file, or
// arguments. An error points at the character that is wrong.
func ExampleParseAddress() {
	a, err := ParseAddress("ssh://ops@bastion:22,wss://Edge:443/t?ca=file:/etc/ca.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a)
	for i, hop := range a.Hops() {
		fmt.Print(i+1, ". host ", hop.Host, ", port ", hop.Port, ", layers")
		for _, layer := range hop.Layers {
			fmt.Print(" ", layer.Scheme)
		}
		fmt.Println()
	}

	_, err = ParseAddress("tls://::1:5432")
	fmt.Println(err)
	var bad *AddressError
	if errors.As(err, &bad) {
		fmt.Println(bad.Caret())
	}
	// Output:
	// ssh://ops@bastion:22,wss://edge:443/t?ca=file:/etc/ca.pem
	// 1. host bastion, port 22, layers ssh tcp
	// 2. host edge, port 443, layers ws tls tcp
	// address "tls://::1:5432": an IPv6 address needs brackets at character 7; write tls://[::1]:5432
	// tls://::1:5432
	//       ^
}

// hopWant is a hop as the tables write it: the layers in one string.
type hopWant struct {
	layers                         string
	user, host, port, path, opaque string
	options                        []string // name=value, decoded
}

func hopGot(h Hop) hopWant {
	w := hopWant{user: h.User, host: h.Host, port: h.Port, path: h.Path, opaque: h.Opaque}
	var layers []string
	for _, l := range h.Layers {
		layers = append(layers, l.Scheme)
	}
	w.layers = strings.Join(layers, " ")
	for _, o := range h.Options {
		w.options = append(w.options, o.Name+"="+o.Value)
	}
	return w
}

var goodAddresses = []struct {
	in   string
	text string // "" means the same as in
	hops []hopWant
}{
	// tcp, with and without its word
	{"tcp://[::]:3005?backlog=10&reuseaddr=1", "", []hopWant{{layers: "tcp", host: "::", port: "3005", options: []string{"backlog=10", "reuseaddr=1"}}}},
	{"tcp://:3005", "", []hopWant{{layers: "tcp", port: "3005"}}},
	{":3005", "tcp://:3005", []hopWant{{layers: "tcp", port: "3005"}}},
	{"localhost:3005", "tcp://localhost:3005", []hopWant{{layers: "tcp", host: "localhost", port: "3005"}}},
	{"localhost:3005?nodelay=0", "tcp://localhost:3005?nodelay=0", []hopWant{{layers: "tcp", host: "localhost", port: "3005", options: []string{"nodelay=0"}}}},
	{"[::1]:3005", "tcp://[::1]:3005", []hopWant{{layers: "tcp", host: "::1", port: "3005"}}},
	{"TCP://LocalHost:3005", "tcp://localhost:3005", []hopWant{{layers: "tcp", host: "localhost", port: "3005"}}},
	{"tcp://a_b-c.example.:0", "", []hopWant{{layers: "tcp", host: "a_b-c.example.", port: "0"}}},
	{"tcp://127.0.0.1:65535", "", []hopWant{{layers: "tcp", host: "127.0.0.1", port: "65535"}}},
	{"tcp://[2001:DB8:0:0::7]:1", "tcp://[2001:db8::7]:1", []hopWant{{layers: "tcp", host: "2001:db8::7", port: "1"}}},
	{"tcp://[::ffff:127.0.0.1]:1", "", []hopWant{{layers: "tcp", host: "::ffff:127.0.0.1", port: "1"}}},
	{"tcp4://10.0.0.1:1", "", []hopWant{{layers: "tcp4", host: "10.0.0.1", port: "1"}}},
	{"tcp6://:1", "", []hopWant{{layers: "tcp6", port: "1"}}},

	// zones
	{"tcp6://[fe80::1%25eth0]:3005", "", []hopWant{{layers: "tcp6", host: "fe80::1%eth0", port: "3005"}}},
	{"tcp://[fe80::1%2525]:1", "", []hopWant{{layers: "tcp", host: "fe80::1%25", port: "1"}}},
	{"tcp://[fe80::1%25Ethernet%202]:1", "", []hopWant{{layers: "tcp", host: "fe80::1%Ethernet 2", port: "1"}}},
	{"[fe80::1%eth0]:3005", "tcp://[fe80::1%25eth0]:3005", []hopWant{{layers: "tcp", host: "fe80::1%eth0", port: "3005"}}},
	{"[fe80::1%25]:3005", "tcp://[fe80::1%2525]:3005", []hopWant{{layers: "tcp", host: "fe80::1%25", port: "3005"}}},
	{"[fe80::1%251]:3005", "tcp://[fe80::1%25251]:3005", []hopWant{{layers: "tcp", host: "fe80::1%251", port: "3005"}}},

	// layers and shorthand
	{"tls://db:5432?ca=file:/etc/ca.pem&sni=db", "", []hopWant{{layers: "tls tcp", host: "db", port: "5432", options: []string{"ca=file:/etc/ca.pem", "sni=db"}}}},
	{"tls+tcp://db:5432", "", []hopWant{{layers: "tls tcp", host: "db", port: "5432"}}},
	{"ws://h:80", "", []hopWant{{layers: "ws tcp", host: "h", port: "80", path: "/"}}},
	{"wss://edge:443/t", "", []hopWant{{layers: "ws tls tcp", host: "edge", port: "443", path: "/t"}}},
	{"ws+tls+tcp://edge:443/t", "", []hopWant{{layers: "ws tls tcp", host: "edge", port: "443", path: "/t"}}},
	{"wss+unix:/run/o.sock", "", []hopWant{{layers: "ws tls unix", path: "/", opaque: "/run/o.sock"}}},
	{"lc+tcp://h:1", "", []hopWant{{layers: "lc tcp", host: "h", port: "1"}}},
	{"lc+tls+ws+tls://edge:443/x", "", []hopWant{{layers: "lc tls ws tls tcp", host: "edge", port: "443", path: "/x"}}},
	{"tls://h:1?tls.min=1.3&tls.1.min=1.2&tls.2.min=1.3", "", []hopWant{{layers: "tls tcp", host: "h", port: "1", options: []string{"tls.min=1.3", "tls.1.min=1.2", "tls.2.min=1.3"}}}},
	{"quic://[2001:db8::7]:4433", "", []hopWant{{layers: "quic", host: "2001:db8::7", port: "4433"}}},
	{"lc+quic://h:1", "", []hopWant{{layers: "lc quic", host: "h", port: "1"}}},
	{"lc+lc+lc+lc+lc+lc+lc+tcp://h:1", "", []hopWant{{layers: "lc lc lc lc lc lc lc tcp", host: "h", port: "1"}}},

	// paths stay encoded
	{"ws://h:80/", "ws://h:80", []hopWant{{layers: "ws tcp", host: "h", port: "80", path: "/"}}},
	{"ws://h:80//", "", []hopWant{{layers: "ws tcp", host: "h", port: "80", path: "//"}}},
	{"ws://h:80/a%2fb/%7euser/%41?x=1", "ws://h:80/a%2Fb/~user/A?x=1", []hopWant{{layers: "ws tcp", host: "h", port: "80", path: "/a%2Fb/~user/A", options: []string{"x=1"}}}},
	{"ws://h:80/a%2Cb%3Fc@d:e", "", []hopWant{{layers: "ws tcp", host: "h", port: "80", path: "/a%2Cb%3Fc@d:e"}}},
	{"ws://h:80/größe|[x]", "ws://h:80/gr%C3%B6%C3%9Fe%7C%5Bx%5D", []hopWant{{layers: "ws tcp", host: "h", port: "80", path: "/gr%C3%B6%C3%9Fe%7C%5Bx%5D"}}},

	// bases without a host
	{"unix:/run/o.sock?mode=0660", "", []hopWant{{layers: "unix", opaque: "/run/o.sock", options: []string{"mode=0660"}}}},
	{"unix:./o.sock", "", []hopWant{{layers: "unix", opaque: "./o.sock"}}},
	{"unix:../o.sock", "", []hopWant{{layers: "unix", opaque: "../o.sock"}}},
	{"unix:@abstract", "", []hopWant{{layers: "unix", opaque: "@abstract"}}},
	{"unix:%40abstract", "unix:@abstract", []hopWant{{layers: "unix", opaque: "@abstract"}}},
	{"unix:@a:b@c", "", []hopWant{{layers: "unix", opaque: "@a:b@c"}}},
	{"unix:/a%20b%2cc%23d%3Fe%25f", "unix:/a%20b%2Cc%23d%3Fe%25f", []hopWant{{layers: "unix", opaque: "/a b,c#d?e%f"}}},
	{"unix:/%2Frun/%FF", "", []hopWant{{layers: "unix", opaque: "//run/\xff"}}},
	{"unix:/größe", "unix:/gr%C3%B6%C3%9Fe", []hopWant{{layers: "unix", opaque: "/größe"}}},
	{"tls+unix:/run/o.sock", "", []hopWant{{layers: "tls unix", opaque: "/run/o.sock"}}},
	{"vsock://3:1024", "", []hopWant{{layers: "vsock", host: "3", port: "1024"}}},
	{"vsock://:4294967295", "", []hopWant{{layers: "vsock", port: "4294967295"}}},
	{"tls+vsock://2:99999", "", []hopWant{{layers: "tls vsock", host: "2", port: "99999"}}},
	{"mem:name", "", []hopWant{{layers: "mem", opaque: "name"}}},
	{"mem:%2F%2fname", "mem:/%2Fname", []hopWant{{layers: "mem", opaque: "//name"}}},
	{"svc:orders", "", []hopWant{{layers: "svc", opaque: "orders"}}},
	{"lc+stdio:", "", []hopWant{{layers: "lc stdio"}}},
	{"stdio:", "", []hopWant{{layers: "stdio"}}},
	{"echo:", "", []hopWant{{layers: "echo"}}},
	{"discard:", "", []hopWant{{layers: "discard"}}},
	{"chargen:?rate=1000", "", []hopWant{{layers: "chargen", options: []string{"rate=1000"}}}},
	{"original:", "", []hopWant{{layers: "original"}}},
	{"fd:3", "", []hopWant{{layers: "fd", opaque: "3"}}},
	{"fd:0", "", []hopWant{{layers: "fd", opaque: "0"}}},
	{"exec:/usr/bin/sort?arg=-u&arg=-k%202&arg=", "", []hopWant{{layers: "exec", opaque: "/usr/bin/sort", options: []string{"arg=-u", "arg=-k 2", "arg="}}}},
	{"lc+exec:/bin/x?exec.arg=a&exec.arg=b", "", []hopWant{{layers: "lc exec", opaque: "/bin/x", options: []string{"exec.arg=a", "exec.arg=b"}}}},

	// option values
	{"tcp://h:1?x=a%26b%3dc%2Cd%2523%0A", "tcp://h:1?x=a%26b=c%2Cd%2523%0A", []hopWant{{layers: "tcp", host: "h", port: "1", options: []string{"x=a&b=c,d%23\n"}}}},
	{"tcp://h:1?x=a=b+c:d@e/[f]", "", []hopWant{{layers: "tcp", host: "h", port: "1", options: []string{"x=a=b+c:d@e/[f]"}}}},
	{"tcp://h:1?x=%3f", "tcp://h:1?x=%3F", []hopWant{{layers: "tcp", host: "h", port: "1", options: []string{"x=?"}}}},
	{"tcp://h:1?a-b_c.d9=", "", []hopWant{{layers: "tcp", host: "h", port: "1", options: []string{"a-b_c.d9="}}}},
	{"socks5://u@h:1?pass=env:SOCKS_PASS2", "", []hopWant{{layers: "socks5 tcp", user: "u", host: "h", port: "1", options: []string{"pass=env:SOCKS_PASS2"}}}},
	{"tls://h:1?tls.pass=file:/run/secrets/key", "", []hopWant{{layers: "tls tcp", host: "h", port: "1", options: []string{"tls.pass=file:/run/secrets/key"}}}},
	{"tls://h:1?bypass=1", "", []hopWant{{layers: "tls tcp", host: "h", port: "1", options: []string{"bypass=1"}}}},

	// hops
	{"ssh://ops@bastion:22,socks5://10.0.0.1:1080,tls://db:5432", "", []hopWant{
		{layers: "ssh tcp", user: "ops", host: "bastion", port: "22"},
		{layers: "socks5 tcp", host: "10.0.0.1", port: "1080"},
		{layers: "tls tcp", host: "db", port: "5432"},
	}},
	{"ssh://bastion:22?known=file:/k,db:5432", "ssh://bastion:22?known=file:/k,tcp://db:5432", []hopWant{
		{layers: "ssh tcp", host: "bastion", port: "22", options: []string{"known=file:/k"}},
		{layers: "tcp", host: "db", port: "5432"},
	}},
	{"https://u%40corp@proxy:3128,socks4a://p:1,lc+tcp://gw:1,unix:/run/x", "", []hopWant{
		{layers: "http tls tcp", user: "u@corp", host: "proxy", port: "3128"},
		{layers: "socks4a tcp", host: "p", port: "1"},
		{layers: "lc tcp", host: "gw", port: "1"},
		{layers: "unix", opaque: "/run/x"},
	}},
	{"socks5+tls://p:443,original:", "", []hopWant{
		{layers: "socks5 tls tcp", host: "p", port: "443"},
		{layers: "original"},
	}},
	{"http://u'%22@proxy:3128", "", []hopWant{{layers: "http tcp", user: `u'"`, host: "proxy", port: "3128"}}},
}

func TestGoodAddresses(t *testing.T) {
	for _, tt := range goodAddresses {
		t.Run(tt.in, func(t *testing.T) {
			a, err := ParseAddress(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.text
			if want == "" {
				want = tt.in
			}
			if got := a.String(); got != want {
				t.Errorf("prints as %q, want %q", got, want)
			}
			var hops []hopWant
			var texts []string
			for _, h := range a.Hops() {
				hops = append(hops, hopGot(h))
				texts = append(texts, h.String())
			}
			if !reflect.DeepEqual(hops, tt.hops) {
				t.Errorf("hops\n got %+v\nwant %+v", hops, tt.hops)
			}
			if got := strings.Join(texts, ","); got != want {
				t.Errorf("hops print as %q, want %q", got, want)
			}
			checkFixedPoint(t, a)
			checkOffsets(t, tt.in, a)
		})
	}
}

// checkFixedPoint checks that what is printed parses to an equal address, which
// prints the same.
func checkFixedPoint(t *testing.T, a Address) {
	t.Helper()
	text := a.String()
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			t.Errorf("%q has a byte that is not printable ASCII", text)
		}
	}
	again, err := ParseAddress(text)
	if err != nil {
		t.Fatalf("what was printed does not parse: %v", err)
	}
	if again.String() != text || !again.Equal(a) {
		t.Errorf("%q prints as %q the second time", text, again.String())
	}
	first, second := a.Hops(), again.Hops()
	if len(first) != len(second) {
		t.Fatalf("%d hops, then %d", len(first), len(second))
	}
	for i := range first {
		if a, b := hopGot(first[i]), hopGot(second[i]); !reflect.DeepEqual(a, b) {
			t.Errorf("hop %d is %+v, then %+v", i+1, a, b)
		}
	}
}

// checkOffsets checks that every layer and option knows where it was written.
func checkOffsets(t *testing.T, in string, a Address) {
	t.Helper()
	for _, h := range a.Hops() {
		for _, l := range h.Layers {
			from := addrLower(in[l.off:])
			written := slices.ContainsFunc(schemeWords(), func(w addrWord) bool {
				return strings.HasPrefix(from, w.word) && (slices.Contains(w.expands, l.Scheme) || l.Scheme == addrDefaultBase)
			})
			bare := l.Scheme == addrDefaultBase && len(h.Layers) == 1
			if !written && !bare {
				t.Errorf("layer %s is said to be at %q", l.Scheme, in[l.off:])
			}
		}
		for _, o := range h.Options {
			if !strings.HasPrefix(in[o.off:], o.Name+"=") || o.valueOff != o.off+len(o.Name)+1 {
				t.Errorf("option %s is said to be at %q, its value at %q", o.Name, in[o.off:], in[o.valueOff:])
			}
		}
	}
}

func TestZeroAddress(t *testing.T) {
	var a Address
	if !a.IsZero() || a.String() != "" || a.Hops() != nil || !a.Equal(Address{}) {
		t.Errorf("the zero Address is not: %+v", a)
	}
	b := MustParseAddress("echo:")
	if b.IsZero() || a.Equal(b) {
		t.Error("echo: is taken for no address")
	}
	if s := (Hop{}).String(); s != "" {
		t.Errorf("the zero Hop prints as %q", s)
	}
}

func TestAddressEqual(t *testing.T) {
	equal := [][2]string{
		{"localhost:1", "TCP://LOCALHOST:1"},
		{"ws://h:1", "ws://h:1/"},
		{"[0:0::1]:1", "tcp://[::1]:1"},
		{"unix:/a%2Fb", "unix:/a/b"},
		{"[fe80::1%eth0]:1", "tcp://[fe80::1%25eth0]:1"},
	}
	for _, pair := range equal {
		if !MustParseAddress(pair[0]).Equal(MustParseAddress(pair[1])) {
			t.Errorf("%s and %s differ", pair[0], pair[1])
		}
	}
	different := [][2]string{
		{"wss://h:1", "ws+tls+tcp://h:1"},
		{"ws://h:1/a%2Fb", "ws://h:1/a/b"},
		{"tcp://h:1?a=1&b=2", "tcp://h:1?b=2&a=1"},
		{"unix:/A", "unix:/a"},
		{"tcp://h:1", "tcp://h.:1"},
	}
	for _, pair := range different {
		if MustParseAddress(pair[0]).Equal(MustParseAddress(pair[1])) {
			t.Errorf("%s and %s are equal", pair[0], pair[1])
		}
	}
	if reflect.TypeFor[Address]().Comparable() {
		t.Error("== compiles, and would compare spellings")
	}
}

func TestHopsIsACopy(t *testing.T) {
	a := MustParseAddress("ssh://h:1?a=1,tls://db:2?b=2")
	h := a.Hops()
	h[0].Host, h[1].Layers[0].Scheme, h[1].Options[0].Value = "x", "x", "x"
	again := a.Hops()
	if again[0].Host != "h" || again[1].Layers[0].Scheme != "tls" || again[1].Options[0].Value != "2" {
		t.Errorf("the address changed: %+v", again)
	}
}

func TestAddressText(t *testing.T) {
	type config struct {
		Listen, Target Address
	}
	var c config
	if err := json.Unmarshal([]byte(`{"Listen": ":3005", "Target": ""}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Listen.String() != "tcp://:3005" || !c.Target.IsZero() {
		t.Errorf("read as %v and %v", c.Listen, c.Target)
	}
	out, err := json.Marshal(c)
	if err != nil || string(out) != `{"Listen":"tcp://:3005","Target":""}` {
		t.Errorf("written as %s, %v", out, err)
	}

	keep := c.Listen
	err = c.Listen.UnmarshalText([]byte("tcp://h"))
	var bad *AddressError
	if !errors.As(err, &bad) || bad.Offset != 7 {
		t.Errorf("the error is %v", err)
	}
	if !c.Listen.Equal(keep) {
		t.Errorf("the address became %v with an error", c.Listen)
	}

	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var to Address
	flags.TextVar(&to, "to", MustParseAddress("echo:"), "where to connect")
	if err := flags.Parse([]string{"-to", "mem:x"}); err != nil || to.String() != "mem:x" {
		t.Errorf("the flag is %v, %v", to, err)
	}
}

func TestMustParseAddressPanics(t *testing.T) {
	defer func() {
		if _, ok := recover().(*AddressError); !ok {
			t.Error("no panic with an *AddressError")
		}
	}()
	MustParseAddress("tcp://")
}

// The table must be consistent with itself, because the parser trusts it.
func TestSchemeWords(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range schemeWords() {
		if seen[w.word] || w.word != strings.ToLower(w.word) || len(w.word) > addrMaxWord || len(w.expands) == 0 {
			t.Errorf("%q is not a sound word", w.word)
		}
		seen[w.word] = true
		for _, scheme := range w.expands {
			e, ok := schemeWord(scheme)
			if !ok || len(e.expands) != 1 || e.expands[0] != scheme || e.base != w.base {
				t.Errorf("%s expands to %s, which is no plain layer", w.word, scheme)
			}
		}
		if w.base && (w.expands[0] != w.word || w.onward) {
			t.Errorf("the base %s is shorthand or a proxy", w.word)
		}
	}
	if base, ok := schemeWord(addrDefaultBase); !ok || !base.base || base.shape != addrHostPort {
		t.Errorf("the default base is %+v", base)
	}
}

func TestAddrEditDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"tcp", "tcp", 0},
		{"tpc", "tcp", 1},
		{"tc", "tcp", 1},
		{"tccp", "tcp", 1},
		{"txp", "tcp", 1},
		{"sokcs", "socks5", 2},
		{"kitten", "sitting", 3},
		{"udp", "tcp", 2},
	}
	for _, tt := range tests {
		if got := addrEditDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q is %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
