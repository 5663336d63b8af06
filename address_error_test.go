// This file tests what addresses are refused: at which place, with which words,
// and without showing a password.

package anysock

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

var badAddresses = []struct {
	in  string
	off int
	msg string // a part of Msg
	say string // a part of Hint
}{
	{"", 0, "empty", "tcp://HOST:PORT"},

	// word:port
	{"tcp:80", 4, "tcp is a scheme word", "write tcp://:80 to leave out the host, or tcp://tcp:80"},
	{"tls:443", 4, "scheme word", "tcp://tls:443"},
	{"echo:7", 5, "echo is a scheme word", "write tcp://echo:7 for a host named echo"},
	{"echo:3005?x=1", 5, "echo is a scheme word", "write tcp://echo:3005 for"},
	{"ECHO:7", 5, "scheme word", "tcp://echo:7"},
	{"unix:80", 5, "scheme word", "tcp://unix:80"},
	{"mem:80", 4, "scheme word", "tcp://mem:80"},
	{"vsock:80", 6, "scheme word", "tcp://vsock:80"},
	{"mem:%38%30", 4, "digits only", "a letter"},
	{"tls+mem:80", 8, "digits only", "a letter"},

	// scheme words
	{"tpc://h:1", 0, `unknown scheme word "tpc"`, "did you mean tcp?"},
	{"tls+tpc://h:1", 4, `unknown scheme word "tpc"`, "did you mean tcp?"},
	{"sokcs5://h:1", 0, "unknown", "did you mean socks5?"},
	{"socks://h:1", 0, "unknown", "did you mean socks5?"},
	{"unx:/run/o.sock", 0, "unknown", "did you mean unix?"},
	{"ehco:", 0, "unknown", "did you mean echo?"},
	{"gopher://h:1", 0, `unknown scheme word "gopher"`, "the words are tcp, tcp4, tcp6,"},
	{"udp://h:1", 0, "unknown", "the words are"},
	{"a-very-long-word-indeed://h:1", 0, "an unknown scheme word", "the words are"},
	{"\u212aelvin+tcp://h:1", 0, "unknown", "the words are"},
	{"soc\u212as5://h:1", 0, "unknown", "socks5"},
	{"ssh://a:22,tpc://b:1", 11, "unknown", "tcp"},
	{"://h:1", 0, "the scheme word is missing", "before ://"},
	{"//h:1", 0, "the scheme word is missing", "tcp://HOST:PORT"},
	{"/run/o.sock", 0, "the scheme word is missing", "write unix:/run/o.sock"},
	{"@abstract", 0, "the scheme word is missing", "write unix:@abstract"},
	{"-", 0, "the scheme word is missing", "write stdio:"},
	{"?x=1", 0, "options without an address", "before the ?"},
	{"echo", 4, "the : after the scheme word", "write echo:"},
	{"tls+tcp", 7, "the : after the scheme word", "write tls+tcp://HOST:PORT"},

	// layers
	{"tls+", 4, "a layer is missing", "both sides of +"},
	{"tls+:", 4, "a layer is missing", "both sides of +"},
	{"tls+://h:1", 4, "a layer is missing", "both sides of +"},
	{"+tcp://h:1", 0, "a layer is missing", "both sides of +"},
	{"tls++tcp://h:1", 4, "a layer is missing", "both sides of +"},
	{"tcp+tls://h:1", 0, "tcp cannot be over tls", "tls+tcp"},
	{"ws+tcp+tls://h:1", 3, "tcp cannot be over tls", "tls+tcp"},
	{"tcp+unix:/x", 4, "a second base: unix under tcp", "one base"},
	{"tcp+tls+tcp://h:1", 8, "a second base: tcp under tcp", "one base"},
	{"tls+socks5://p:1", 0, "tls cannot be over socks5", "socks5://PROXY:PORT,tls://HOST:PORT"},
	{"ws+lc+https://p:1", 3, "lc cannot be over https", "https://PROXY:PORT,lc://HOST:PORT"},
	{"tls+echo:", 0, "tls cannot be over echo", "nothing runs over echo"},
	{"lc+lc+lc+lc+lc+lc+lc+lc+tcp://h:1", 24, "more than 8 layers", ""},
	{"lc+lc+lc+lc+lc+lc+wss://h:1", 18, "more than 8 layers", ""},

	// hops
	{",tcp://h:1", 0, "a hop is empty", "remove the comma"},
	{"ssh://h:1,,tcp://h:1", 10, "a hop is empty", "remove the comma"},
	{"tcp://h:1,", 9, "nothing follows the last comma", "remove the comma"},
	{"ssh://h:1,", 9, "nothing follows the last comma", "remove the comma"},
	{",", 0, "a hop is empty", "remove"},
	{"tcp://a:1,tcp://b:1", 9, "no hop can follow tcp", "ssh, socks5"},
	{"tls+ssh://a:1,tcp://b:1", 13, "no hop can follow tls", "lc"},
	{"exec:/bin/echo?arg=a,b", 20, "no hop can follow exec", "%2C"},
	{strings.Repeat("ssh://h:1,", 16) + "tcp://h:1", 160, "more than 16 hops", ""},

	// what follows the colon
	{"tcp:", 4, "// is missing", "write tcp://HOST:PORT"},
	{"tcp:/", 4, "// is missing", "write tcp://HOST:PORT"},
	{"tls:h:80", 4, "// is missing", "write tls://h:80"},
	{"vsock:3:1024", 6, "// is missing", "write vsock://3:1024"},
	{"unix:///run/o.sock", 5, "unix takes no //", "write unix:/run/o.sock"},
	{"unix://@abstract", 5, "unix takes no //", "write unix:@abstract"},
	{"tls+unix://", 9, "unix takes no //", "write tls+unix:/PATH or tls+unix:@NAME"},
	{"exec://usr/bin/sort", 5, "exec takes no //", "write exec:/usr/bin/sort"},
	{"mem://name", 4, "mem takes no //", "write mem:name"},
	{"fd://3", 3, "fd takes no //", "write fd:3"},
	{"stdio://", 6, "stdio takes no //", "write stdio:"},
	{"echo://h:7", 5, "echo takes no //", "write echo:"},
	{"unix:", 5, "the path is missing", "write unix:/PATH or unix:@NAME"},
	{"unix:?mode=0660", 5, "the path is missing", "unix:/PATH"},
	{"unix:@", 6, "the name is missing", "unix:@NAME"},
	{"unix:o.sock", 5, "begins with / or ./", "write unix:/PATH"},
	{"exec:sort", 5, "begins with / or ./", "write exec:/PATH"},
	{"exec:@sort", 5, "begins with / or ./", "write exec:/PATH"},
	{"mem:", 4, "the name is missing", "write mem:NAME"},
	{"svc:", 4, "the name is missing", "write svc:NAME"},
	{"fd:", 3, "the number is missing", "write fd:NUMBER"},
	{"fd:x", 3, "the descriptor is not a number", "digits"},
	{"fd:3x", 4, "the descriptor is not a number", "digits"},
	{"fd:03", 3, "begins with 0", "leading zeros"},
	{"fd:2147483648", 3, "out of range", "2147483647"},
	{"echo:x", 5, "echo takes nothing after the colon", "write echo:"},
	{"original:10.0.0.1:80", 9, "original takes nothing", "write original:"},

	// ports
	{"localhost", 9, "the port is missing", "write localhost:PORT"},
	{"localhost:", 10, "the port is missing", "write tcp://HOST:PORT"},
	{"localhost?x=1", 9, "the port is missing", "write localhost:PORT"},
	{"tcp://", 6, "the port is missing", "write tcp://HOST:PORT"},
	{"wss://edge/t", 10, "the port is missing", "write wss://edge:PORT"},
	{"tls://db?sni=x", 8, "the port is missing", "write tls://db:PORT"},
	{"tcp://[::1]", 11, "the port is missing", "write tcp://[::1]:PORT"},
	{"tcp://[::1]:", 12, "the port is missing", "write tcp://HOST:PORT"},
	{"vsock://3", 9, "the port is missing", "write vsock://3:PORT"},
	{"vsock://3:", 10, "the port is missing", "write vsock://CID:PORT"},
	{"tcp://h:http", 8, "the port is not a number", "names of services are not looked up"},
	{"localhost:http", 10, "the port is not a number", "names of services"},
	{"tcp://h:80x", 10, "the port is not a number", "digits"},
	{"tcp://h:-1", 8, "the port is not a number", "digits"},
	{"tcp://h:+1", 8, "the port is not a number", "digits"},
	{"tcp://h:65536", 8, "the port is out of range", "the largest is 65535"},
	{"tcp://h:99999999999999999999999", 8, "the port is out of range", "65535"},
	{"tcp://h:080", 8, "the port begins with 0", "leading zeros"},
	{"vsock://3:4294967296", 10, "the port is out of range", "4294967295"},
	{"vsock://h:1", 8, "the context identifier is not a number", "digits"},

	// hosts
	{"tcp://::1:3005", 6, "an IPv6 address needs brackets", "write tcp://[::1]:3005"},
	{"::1:3005", 0, "an IPv6 address needs brackets", "write [::1]:3005"},
	{"::1", 0, "an IPv6 address needs brackets", "write [::1]:PORT"},
	{"2001:db8::7:4433", 0, "an IPv6 address needs brackets", "write [2001:db8::7]:4433"},
	{"tcp://1:2:3:4:5:6:7:8", 6, "an IPv6 address needs brackets", "write tcp://[1:2:3:4:5:6:7:8]:PORT"},
	{"tls://fe80::1%eth0:80", 6, "an IPv6 address needs brackets", "write tls://[fe80::1%25eth0]:80"},
	{"tls://fe80::1%25eth0:80", 6, "an IPv6 address needs brackets", "write tls://[fe80::1%25eth0]:80"},
	{"fe80::1%eth0:80", 0, "an IPv6 address needs brackets", "write [fe80::1%eth0]:80"},
	{"tcp://h:80:90", 7, "a host has no colon", "HOST:PORT"},
	{"a:b:80", 1, "a host has no colon", "brackets"},
	{"tcp://[::1:80", 6, "the bracket is not closed", "[::1]:PORT"},
	{"tcp://[::1]80", 11, "a : and the port must follow", "[::1]:PORT"},
	{"tcp://[]:80", 7, "not an IPv6 address", "[2001:db8::7]:PORT"},
	{"tcp://[::g]:80", 9, "not an IPv6 address", "brackets"},
	{"tcp://[1:2]:80", 7, "not an IPv6 address", "brackets"},
	{"tcp://[host]:80", 7, "not an IPv6 address", "brackets"},
	{"tcp://[127.0.0.1]:80", 7, "brackets are for IPv6", "remove them"},
	{"tcp4://[::1]:80", 8, "tcp4 cannot reach an IPv6 address", "tcp6"},
	{"tls+tcp6://127.0.0.1:80", 11, "tcp6 cannot reach an IPv4 address", "tcp4"},
	{"tcp://[fe80::1%eth0]:80", 14, "a zone begins with %25", "write %25eth0"},
	{"tcp://[fe80::1%25]:80", 17, "the zone is empty", "eth0"},
	{"tcp://[fe80::1%25a%2Fb]:80", 17, "a zone has no / and no %", "eth0"},
	{"tcp://[fe80::1%25a%0A]:80", 18, "a control character", "remove"},
	{"tcp://[fe80::1%25a%]:80", 18, "two hex digits", "%25"},
	{"[fe80::1%]:80", 9, "the zone is empty", "eth0"},
	{"[fe80::1%25eth0]:80", 8, "a zone without a scheme word begins with %", "tcp://"},
	{"[fe80::1%a%b]:80", 9, "a zone has no / and no %", "eth0"},
	{"tcp://*:80", 6, "* is not a host", "leave out the host"},
	{"tcp://bücher:80", 7, "a host name is ASCII", "xn--"},
	{"tcp://a%20b:80", 7, "no % escapes", ""},
	{"tcp://-x:80", 6, "does not begin with -", ""},
	{"tcp://a..b:80", 8, "a part of the host name is empty", "dot"},
	{"tcp://.a:80", 6, "a part of the host name is empty", "dot"},
	{"tcp://a!b:80", 7, "does not belong in a host name", "letters"},
	{"foo/bar:80", 3, "the port is missing", "write foo:PORT"},
	{"tcp://" + strings.Repeat("a", 64) + ":80", 6, "longer than 63 bytes", ""},
	{"tcp://b." + strings.Repeat("a", 64) + ".c:80", 8, "longer than 63 bytes", ""},
	{"tcp://" + strings.Repeat("abc.", 64) + "d:80", 6, "longer than 253 bytes", ""},
	{"tcp://127.1:80", 6, "not an IPv4 address", "127.0.0.1"},
	{"tcp://2130706433:80", 6, "not an IPv4 address", "127.0.0.1"},
	{"tcp://0x7f000001:80", 6, "not an IPv4 address", "127.0.0.1"},
	{"tcp://127.0.0.0x1:80", 6, "not an IPv4 address", "127.0.0.1"},
	{"tcp://0177.0.0.1:80", 6, "not an IPv4 address", "127.0.0.1"},
	{"tcp://300.1.1.1:80", 6, "not an IPv4 address", "127.0.0.1"},
	{"3:1024", 0, "not an IPv4 address", "127.0.0.1"},

	// users and passwords
	{"ssh://u:hunter2@h:22", 8, "a password does not belong", "?pass=env:NAME or ?pass=file:PATH"},
	{"ssh://u:@h:22", 8, "a password does not belong", "?pass=env:NAME"},
	{"ssh://u%3Ahunter2@h:22", 10, "a password does not belong", "?pass=env:NAME"},
	{"ssh:u:hunter2@h:22", 6, "a password does not belong", "?pass=env:NAME"},
	{"u:hunter2@h:22", 2, "a password does not belong", "?pass=env:NAME"},
	{"bogus://u:hunter2@h:22", 10, "a password does not belong", "?pass=env:NAME"},
	{"ssh://a:1,socks5://u:hunter2@h:22,b:1", 21, "a password does not belong", "?pass=env:NAME"},
	{"u@h:22", 0, "a user needs a scheme word", "write ssh://u@h:22 for ssh"},
	{"ssh://@h:22", 6, "the user is empty", "USER@HOST:PORT"},
	{"ssh://u@corp@h:22", 12, "a second @", "%40"},
	{"tcp://u@h:22", 6, "tcp takes no user", "ssh, socks5"},
	{"ssh://a%0ab@h:22", 7, "a control character", "remove it"},
	{"ssh://a%zz@h:22", 7, "two hex digits", "%25"},
	{"socks5://h:1?pass=hunter2", 18, "a secret does not belong", "env:NAME or file:PATH"},
	{"socks5://h:1?pass=", 18, "a secret does not belong", "env:NAME or file:PATH"},
	{"socks5://h:1?pass=env:", 18, "a secret does not belong", "env:NAME"},
	{"socks5://h:1?pass=env:hunter%2d2", 18, "a secret does not belong", "env:NAME"},
	{"socks5://h:1?pass=file:", 18, "a secret does not belong", "file:PATH"},
	{"tls://h:1?min=1&tls.1.pass=hunter2", 27, "a secret does not belong", "env:NAME"},
	{"tls://h:1?password=hunter2", 19, "a secret does not belong", "env:NAME"},
	{"ws://h:1?auth-token=hunter2", 20, "a secret does not belong", "env:NAME"},

	// paths
	{"tcp://h:1/", 9, "tcp takes no path", "remove it"},
	{"localhost:1/x", 11, "tcp takes no path", "remove it"},
	{"http://proxy:3128/", 17, "http takes no path", "remove it"},
	{"ws://h:1/%0a", 9, "a control character", "remove it"},
	{"ws://h:1/a%", 10, "two hex digits", "%25"},
	{"ws://h:1/a%4", 10, "two hex digits", "%25"},
	{"ws://h:1/%g1", 9, "two hex digits", "%25"},
	{"ws://h:1/%+1", 9, "two hex digits", "%25"},
	{"ws://h:1/a#b", 10, "no #fragment", "%23"},

	// options
	{"tcp://h:1?", 10, "an option is missing", "name=value"},
	{"tcp://h:1?a=1&", 14, "an option is missing", "name=value"},
	{"tcp://h:1?a=1&&b=1", 14, "an option is missing", "name=value"},
	{"tcp://h:1?=1", 10, "the name of the option is missing", "name=value"},
	{"tcp://h:1?nodelay", 17, "the option has no value", "write nodelay=1"},
	{"tcp://h:1?nodelay&b=1", 17, "the option has no value", "write nodelay=1"},
	{"tcp://h:1?a=1?b=2", 13, "a second ?", "write & between options, or %3F"},
	{"ws://h:1/a?b?c=1", 12, "does not belong in an option name", "letters"},
	{"tcp://h:1?Backlog=1", 10, "a capital letter", "lower case"},
	{"tcp://h:1?back%6cog=1", 14, "does not belong in an option name", "letters"},
	{"tcp://h:1?1a=1", 10, "begins with a letter", ""},
	{"tcp://h:1?.a=1", 10, "a stray .", "tls.min"},
	{"tcp://h:1?a.=1", 11, "a stray .", "tls.min"},
	{"tcp://h:1?a..b=1", 12, "a stray .", "tls.min"},
	{"tcp://h:1?a=1&b=2&a=3", 18, "given twice", "remove one"},
	{"tcp://h:1?a=%", 12, "two hex digits", "%25"},
	{"tcp://h:1?a=x%0", 13, "two hex digits", "%25"},
	{"tcp://h:1?a=%00", 12, "a zero byte", "remove it"},
	{"unix:/a%00b", 7, "a zero byte", "remove it"},
	{"unix:/a%0ab", 7, "a control character", "remove it"},
	{"mem:a%7f", 5, "a control character", "remove it"},
	{"tcp://h:1?" + strings.Repeat("arg=1&", 64) + "arg=1", 394, "more than 64 options", ""},

	// characters
	{" tcp://h:1", 0, "a space", "remove it"},
	{"tcp://h:1 ", 9, "a space", "remove it"},
	{"ssh://h:1, tcp://h:1", 10, "a space", "remove it"},
	{"unix:/a b", 7, "a space", "%20"},
	{"tcp://h:1\n", 9, "a control character", "remove it"},
	{"unix:/\x1b[31m", 6, "a control character", "remove it"},
	{"unix:/a\x00", 7, "a control character", "remove it"},
	{"unix:/a\x7f", 7, "a control character", "remove it"},
	{"unix:/a\u0085", 7, "a control character", "remove it"},
	{"unix:/a\u202eb", 7, "does not print", "write it as %E2%80%AE"},
	{"unix:/a\u00a0b", 7, "does not print", "write it as %C2%A0"},
	{"unix:/a\xffb", 7, "not valid UTF-8", "write it as %FF"},
	{"tcp://h:1#x", 9, "no #fragment", "%23"},
	{"tcp://h:1?a=#", 12, "no #fragment", "%23"},
	{"mem:" + strings.Repeat("x", 4093), 4096, "longer than 4096 bytes", ""},
	{"mem:" + strings.Repeat("|", 4000), 4004, "in its canonical form", ""},
}

func TestBadAddresses(t *testing.T) {
	for _, tt := range badAddresses {
		name := tt.in
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(name, func(t *testing.T) {
			a, err := ParseAddress(tt.in)
			if err == nil {
				t.Fatalf("accepted as %s", a)
			}
			if !a.IsZero() {
				t.Errorf("returned %s with an error", a)
			}
			var bad *AddressError
			if !errors.As(err, &bad) {
				t.Fatalf("the error is a %T", err)
			}
			if bad.Offset != tt.off {
				t.Errorf("points at byte %d, want %d: %v", bad.Offset, tt.off, err)
			}
			if !strings.Contains(bad.Msg, tt.msg) {
				t.Errorf("says %q, want %q", bad.Msg, tt.msg)
			}
			if !strings.Contains(bad.Hint, tt.say) || (tt.say == "") != (bad.Hint == "") {
				t.Errorf("hints %q, want %q", bad.Hint, tt.say)
			}
			if shown := everyText(bad); strings.Contains(shown, "hunter2") {
				t.Errorf("the password is in the error: %s", shown)
			}
			if text := bad.Error(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("not one clean line: %q", text)
			}
			checkCaret(t, bad)
		})
	}
}

// everyText is all that an error can show of itself.
func everyText(e *AddressError) string {
	return fmt.Sprintf("%v\n%s\n%+v\n%#v", e, e.Caret(), *e, *e)
}

// checkCaret checks the form of Caret: two lines, the second one spaces and ^.
func checkCaret(t *testing.T, e *AddressError) {
	t.Helper()
	line, mark, ok := strings.Cut(e.Caret(), "\n")
	if !ok || strings.Contains(mark, "\n") || strings.TrimLeft(mark, " ") != "^" {
		t.Errorf("caret form is %q", e.Caret())
	}
	width := 0
	for _, r := range line {
		width += addrRuneWidth(r)
	}
	if len(mark)-1 > width || width > addrErrorColumns {
		t.Errorf("a line of %d columns with ^ at %d: %q", width, len(mark), e.Caret())
	}
}

// Every advice "write X" that is about the whole hop must itself be accepted.
func TestAddressHintsAreAddresses(t *testing.T) {
	accepted := 0
	for _, tt := range badAddresses {
		_, err := ParseAddress(tt.in)
		var bad *AddressError
		if !errors.As(err, &bad) {
			t.Fatalf("%q: %v", tt.in, err)
		}
		_, hint, ok := strings.Cut(bad.Hint, "write ")
		if !ok || !strings.HasPrefix(bad.Hint, "write ") {
			continue
		}
		for advice := range strings.SplitSeq(strings.ReplaceAll(hint, ", or ", " or "), " or ") {
			advice, _, _ = strings.Cut(advice, " ")
			// The upper-case words stand for what the user puts in.
			advice = strings.NewReplacer("CID", "3", "PORT", "80", "NUMBER", "5").Replace(advice)
			advice = strings.TrimSuffix(advice, ",")
			if !strings.Contains(advice, ":") || strings.Trim(advice, ":/") == "" {
				continue // no address
			}
			switch advice {
			case "env:NAME", "file:PATH", "tcp://", "USER@HOST:80":
				continue // a part of one
			}
			if _, err := ParseAddress(advice); err != nil {
				t.Errorf("%q: the advice %q is refused: %v", tt.in, bad.Hint, err)
			}
			accepted++
		}
	}
	if accepted < 40 {
		t.Errorf("only %d hints were tried", accepted)
	}
}

func TestAddressErrorTexts(t *testing.T) {
	tests := []struct{ in, text, caret string }{
		{
			"tcp://::1:3005",
			`address "tcp://::1:3005": an IPv6 address needs brackets at character 7; write tcp://[::1]:3005`,
			"tcp://::1:3005\n      ^",
		},
		{
			"ssh://ops:hunter2@h:22",
			`address "ssh://ops:***@h:22": a password does not belong in an address at character 11; remove it and add ?pass=env:NAME or ?pass=file:PATH`,
			"ssh://ops:***@h:22\n          ^",
		},
		{ // a character is not a byte
			"unix:/größe\n",
			`address "unix:/größe\n": a control character at character 12; remove it`,
			"unix:/größe\\n\n           ^",
		},
		{ // wide characters take two columns, marks take none
			"unix:/日本e\u0301 x",
			"address \"unix:/日本e\u0301 x\": a space at character 11; write it as %20 where it belongs to the text",
			"unix:/日本e\u0301 x\n           ^",
		},
		{ // quoted characters before the place take more columns than one
			"mem:\u202e\xff#",
			`address "mem:\u202e\xff#": a character that does not print at character 5; write it as %E2%80%AE`,
			"mem:\\u202e\\xff#\n    ^",
		},
		{ // the place is shown where the text is long
			"mem:" + strings.Repeat("a", 150) + "#" + strings.Repeat("b", 150),
			`address "...` + strings.Repeat("a", 47) + "#" + strings.Repeat("b", 46) + `...": an address has no #fragment at character 155; write # as %23 where it belongs to the text`,
			"..." + strings.Repeat("a", 47) + "#" + strings.Repeat("b", 46) + "...\n" + strings.Repeat(" ", 50) + "^",
		},
		{ // at the end of the text
			"localhost",
			`address "localhost": the port is missing at character 10; write localhost:PORT`,
			"localhost\n         ^",
		},
		{ // a place after a secret keeps its number, and its ^ the right column
			"socks5://h:1?pass=env:P&x=%zz&tls.pass=hunter2",
			`address "socks5://h:1?pass=env:P&x=%zz&tls.pass=***": two hex digits must follow % at character 27; write %25 for a % sign`,
			"socks5://h:1?pass=env:P&x=%zz&tls.pass=***\n                          ^",
		},
	}
	for _, tt := range tests {
		_, err := ParseAddress(tt.in)
		var bad *AddressError
		if !errors.As(err, &bad) {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		if got := bad.Error(); got != tt.text {
			t.Errorf("%q:\n got %s\nwant %s", tt.in, got, tt.text)
		}
		if got := bad.Caret(); got != tt.caret {
			t.Errorf("%q:\n got\n%s\nwant\n%s", tt.in, got, tt.caret)
		}
	}

	byHand := &AddressError{Input: "größe x", Offset: 7, Msg: "a space"}
	if got, want := byHand.Error(), `address "größe x": a space at character 6`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (&AddressError{Input: "ab", Offset: 9}).Caret(), "ab\n  ^"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Passwords that hold the characters which separate the parts of an address.
func TestAddressErrorHidesOddPasswords(t *testing.T) {
	inputs := []string{
		"ssh://u:hunter2,x@h:22", "ssh://u:22,hunter2@h:22", "ssh://u:x,hunter2,y@h:22", "ssh://u:x,y:hunter2@h:22",
		"ssh://u:hunter2/x@h:22", "ssh://u:x/hunter2@h:22", "ssh://u:x?hunter2@h:22", "ssh://u:x#hunter2@h:22",
		"ssh://u:x@hunter2@h:22", "ssh://u:x hunter2@h:22", "ssh://u:x\nhunter2@h:22", "ssh://u://hunter2@h:22",
		"ssh://u:x:hunter2@h:22", "ssh://u:[hunter2@h:22", "ssh://u:%zzhunter2@h:22", "ssh://u%3ahunter2,x@h:22",
		"ssh://u@corp:x,hunter2@h:22", "u:x,hunter2@h:22", "ssh:u:x/hunter2@h:22", "unx://u:hunter2@h:22",
		"tcp://h:x,ssh://u:hunter2@h:22", "tcp://h:x,unix:@a,ssh://u:hunter2@h:22,tls://h:1",
		"socks5://h:1?pass=x&hunter2", "socks5://h:1?pass=x,hunter2", "socks5://h:1?pass=hunter2#", "socks5://h:x?pass=hunter2",
		"socks5://h:1?pass=x?hunter2", "socks5://h:1?pass=%zzhunter2", "socks5://h:1?PASS=hunter2", "socks5://h:1?p%61ss=hunter2",
		"socks5://h:1?x&pass=hunter2", "socks5://h:1? pass=hunter2", "socks5://h:1?pass=env:A&tls.pass=hunter2",
		"ssh://u:x@h:1?pass=hunter2", "ssh://u:x?pass=hunter2@h:22", "socks5://h:1?pass=x@hunter2",
		"bogus:?pass=hunter2", "?pass=hunter2", "pass=hunter2", "socks5://h:1?pass=env:x-hunter2",
		strings.Repeat("x", addrMaxLen-12) + "ssh://u:hunter2hunter2@h:22",
		strings.Repeat(",", 10*addrMaxLen) + "ssh://u:hunter2@h:22",
	}
	for _, in := range inputs {
		a, err := ParseAddress(in)
		var bad *AddressError
		if !errors.As(err, &bad) {
			t.Errorf("%q is accepted as %s", in, a)
			continue
		}
		if shown := everyText(bad); strings.Contains(shown, "hunter2") {
			t.Errorf("%.80q: the password is in the error:\n%s", in, shown)
		}
		checkCaret(t, bad)
	}
}

// What is no secret is shown, or the error would help nobody.
func TestAddressErrorShowsWhatIsNoSecret(t *testing.T) {
	for _, in := range []string{
		"ssh://ops@bastion:22,socks5://me@proxy:1080,tpc://db:1",
		"ssh://ops@bastion:22,unix:@abstract?x",
		"ssh://ops@bastion:22,tls+unix:/run/a,b",
		"ssh://ops@bastion:22?pass=env:OPS_PASS&tls.pass=file:/k,tpc://h:1",
		"wss://edge:x/t?bypass=1",
	} {
		_, err := ParseAddress(in)
		var bad *AddressError
		if !errors.As(err, &bad) {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if bad.Input != in {
			t.Errorf("%q is shown as %q", in, bad.Input)
		}
	}
}

func TestAddressErrorAt(t *testing.T) {
	a := MustParseAddress("ssh://Ops@Bastion:22,LOCALHOST:1?bogus=1")
	o := a.Hops()[1].Options[0]
	err := a.errorAt(o.off, "unknown option", "remove it")
	if err.Input != "ssh://Ops@Bastion:22,LOCALHOST:1?bogus=1" || err.Input[err.Offset:] != "bogus=1" {
		t.Errorf("points at %q of %q", err.Input[err.Offset:], err.Input)
	}
	if got, want := err.Error(), `address "ssh://Ops@Bastion:22,LOCALHOST:1?bogus=1": unknown option at character 34; remove it`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (Address{}).errorAt(3, "no address", "").Error(), `address "": no address at character 1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAddrRuneWidth(t *testing.T) {
	for text, want := range map[string]int{"a": 1, "ö": 1, "\u0301": 0, "日": 2, "한": 2, "ａ": 2, "🙂": 2, "א": 1} {
		r, _ := utf8.DecodeRuneInString(text)
		if got := addrRuneWidth(r); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}
