package proxy

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestSocks5Greeting(t *testing.T) {
	message := appendGreeting5(nil, methodNone, methodPassword)
	if want := []byte{5, 2, 0, 2}; !bytes.Equal(message, want) {
		t.Errorf("% x, want % x", message, want)
	}
	decodes(t, message, func(src source) error {
		methods, err := readGreeting5(src)
		if err == nil && !slices.Equal(methods, []method{methodNone, methodPassword}) {
			t.Errorf("methods %v", methods)
		}
		return err
	})
	for _, b := range [][]byte{{4, 1, 0}, {5, 0}, {'G', 'E', 'T'}} {
		_, err := readGreeting5(&bytesSource{b: b, end: errors.New("read on")})
		_ = wireErrorOf(t, err)
	}
	decodes(t, appendMethod5(nil, methodPassword), func(src source) error {
		m, err := readMethod5(src)
		if err == nil && m != methodPassword {
			t.Errorf("method %v", m)
		}
		return err
	})
	_, err := readMethod5(&bytesSource{b: []byte("HTTP/1.1 400"), end: io.EOF})
	_ = wireErrorOf(t, err)
}

func TestSocks5Password(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, c := range [][2]string{{"ann", "secret"}, {long, long}, {"", ""}} {
		decodes(t, appendPassword(nil, c[0], c[1]), func(src source) error {
			user, pass, err := readPassword(src)
			if err == nil && (user != c[0] || pass != c[1]) {
				t.Errorf("%q and %q, want %q", user, pass, c)
			}
			return err
		})
	}
	if got, want := appendPassword(nil, "ann", "s"), []byte{1, 3, 'a', 'n', 'n', 1, 's'}; !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
	_, _, err := readPassword(&bytesSource{b: appendGreeting5(nil, methodNone), end: io.EOF})
	_ = wireErrorOf(t, err)
	decodes(t, appendPasswordStatus(nil, 7), func(src source) error {
		status, err := readPasswordStatus(src)
		if err == nil && status != 7 {
			t.Errorf("status %d", status)
		}
		return err
	})
	if status, err := readPasswordStatus(&bytesSource{b: []byte{5, 0}}); err != nil || status != statusPasswordGood {
		t.Errorf("%d, %v", status, err)
	}
	_, err = readPasswordStatus(&bytesSource{b: []byte{9, 0}})
	_ = wireErrorOf(t, err)
}

func TestSocks5Request(t *testing.T) {
	for _, c := range []struct {
		command command
		to      endpoint
		wire    string
	}{
		{commandConnect, ip("127.0.0.1", 0x1234), "\x05\x01\x00\x01\x7f\x00\x00\x01\x12\x34"},
		{commandBind, endpoint{}, "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"},
		{commandAssociate, ip("2001:db8::7", 443), "\x05\x03\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x07\x01\xbb"},
		{commandConnect, endpoint{name: "db", port: 1}, "\x05\x01\x00\x03\x02db\x00\x01"},
		{command(9), endpoint{name: strings.Repeat("n", 255), port: 1}, "\x05\x09\x00\x03\xff" + strings.Repeat("n", 255) + "\x00\x01"},
	} {
		message := appendRequest5(nil, c.command, c.to)
		if string(message) != c.wire {
			t.Errorf("%v %v: % x, want % x", c.command, c.to, message, c.wire)
		}
		want := c.to
		if c.to == (endpoint{}) {
			want = ip("0.0.0.0", 0)
		}
		decodes(t, message, func(src source) error {
			command, to, err := readRequest5(src)
			if err == nil && (command != c.command || to != want) {
				t.Errorf("%v %v, want %v %v", command, to, c.command, want)
			}
			return err
		})
	}
	// A name that is an address is one.
	if _, to, err := readRequest5(&bytesSource{b: []byte("\x05\x01\x00\x03\x03::1\x00\x01")}); err != nil || to != ip("::1", 1) {
		t.Errorf("%v, %v", to, err)
	}
}

func TestMalformedSocks5Request(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       reply5
	}{
		{"version 4", "\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50", replyFailure},
		{"address type 2", "\x05\x01\x00\x02", replyFormUnsupported},
		{"address type 0", "\x05\x01\x00\x00", replyFormUnsupported},
		{"reserved byte", "\x05\x01\x01\x01\x7f\x00\x00\x01\x00\x50", replyFailure},
		{"no name", "\x05\x01\x00\x03\x00\x00\x50", replyFailure},
		{"NUL in the name", "\x05\x01\x00\x03\x03a\x00b\x00\x50", replyFailure},
		{"newline in the name", "\x05\x01\x00\x03\x03a\nb\x00\x50", replyFailure},
		{"name with a zone", "\x05\x01\x00\x03\x06::1%lo\x00\x50", replyFailure},
		{"name beyond ASCII", "\x05\x01\x00\x03\x02\xc3\xa9\x00\x50", replyFailure},
	} {
		_, _, err := readRequest5(&bytesSource{b: []byte(c.wire), end: errors.New("read on")})
		if w := wireErrorOf(t, err); w.reply != c.want {
			t.Errorf("%s: %v, to be answered with %v, want %v", c.name, err, w.reply, c.want)
		}
		checkText(t, err.Error())
	}
}

func TestSocks5Reply(t *testing.T) {
	for _, bound := range []endpoint{ip("10.0.0.1", 1080), ip("::1", 65535), {name: "proxy.example", port: 1}, ip("0.0.0.0", 0)} {
		decodes(t, appendReply5(nil, replySucceeded, bound), func(src source) error {
			r, got, err := readReply5(src)
			if err == nil && (r != replySucceeded || got != bound) {
				t.Errorf("%v %v, want %v", r, got, bound)
			}
			return err
		})
	}
	// A bound name matters to nobody, whatever it is.
	for _, name := range []string{"", "a\x00b"} {
		message := append([]byte{5, 0, 7, 3, byte(len(name))}, name+"\x00\x01"...)
		if _, bound, err := readReply5(&bytesSource{b: message}); err != nil || bound.name != name {
			t.Errorf("bound name %q: %v, %v", name, bound, err)
		}
	}
	// A refusal needs no more than its two bytes.
	for r := replyFailure; r < 12; r++ {
		if got, _, err := readReply5(&bytesSource{b: []byte{5, byte(r)}, end: io.EOF}); err != nil || got != r {
			t.Errorf("%v: %v, %v", r, got, err)
		}
		if r.String() == "" {
			t.Errorf("reply %d has no text", byte(r))
		}
	}
	for _, b := range []string{"HTTP/1.1", "\x05\x00\x00\x09"} {
		_, _, err := readReply5(&bytesSource{b: []byte(b), end: errors.New("read on")})
		_ = wireErrorOf(t, err)
	}
}

func FuzzSocks5Greeting(f *testing.F) {
	f.Add([]byte{5, 1, 0})
	f.Add([]byte{5, 0})
	f.Add([]byte{5, 255, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b: b, end: io.EOF}
		methods, err := readGreeting5(src)
		if err != nil {
			return
		}
		if used := b[:len(b)-len(src.b)]; len(methods) == 0 || !bytes.Equal(appendGreeting5(nil, methods...), used) {
			t.Errorf("%v of % x", methods, used)
		}
	})
}

func FuzzSocks5Password(f *testing.F) {
	f.Add(appendPassword(nil, "ann", "secret"))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b: b, end: io.EOF}
		user, pass, err := readPassword(src)
		if err != nil {
			return
		}
		if used := b[:len(b)-len(src.b)]; !bytes.Equal(appendPassword(nil, user, pass), used) {
			t.Errorf("%q %q of % x", user, pass, used)
		}
	})
}

func FuzzSocks5Request(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x01\x7f\x00\x00\x01\x12\x34"))
	f.Add([]byte("\x05\x02\x00\x03\x02db\x00\x01glued"))
	f.Add([]byte("\x05\x01\x00\x03\x03::1\x00\x01"))
	f.Add([]byte("\x05\x03\x00\x04" + strings.Repeat("\x00", 18)))
	f.Add([]byte("\x05\x01\x00\x03\x00\x00\x50"))
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b: b, end: io.EOF}
		c, to, err := readRequest5(src)
		if err != nil {
			return
		}
		checkEndpoint(t, to)
		again := appendRequest5(nil, c, to)
		c2, to2, err := readRequest5(&bytesSource{b: again})
		if err != nil || c2 != c || to2 != to {
			t.Errorf("% x is %v %v, which is sent as % x and read as %v %v, %v", b, c, to, again, c2, to2, err)
		}
	})
}

func FuzzSocks5Reply(f *testing.F) {
	f.Add(appendReply5(nil, replySucceeded, endpoint{}))
	f.Add(appendReply5(nil, replySucceeded, endpoint{name: "a", port: 1}))
	f.Add(appendReply5(nil, replyRefused, endpoint{}))
	f.Add([]byte("\x05\x00\x00\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b: b, end: io.EOF}
		r, bound, err := readReply5(src)
		if err != nil {
			return
		}
		if r == replySucceeded && len(b)-len(src.b) < 7 {
			t.Errorf("% x is too short for a success", b)
		}
		checkText(t, bound.String())
		if r != replySucceeded || bound.name == "" {
			return
		}
		_, again, err := readReply5(&bytesSource{b: appendReply5(nil, r, bound)})
		if err != nil || again != bound {
			t.Errorf("%#v is read as %#v, %v", bound, again, err)
		}
	})
}

// checkEndpoint: a request's endpoint names a host that could be connected to.
func checkEndpoint(t *testing.T, e endpoint) {
	t.Helper()
	if e.ip.IsValid() == (e.name != "") {
		t.Errorf("%#v is both or neither", e)
	}
	if len(e.name) > maxText || e.ip.Zone() != "" || e.name != "" && !isPlainName(e.name) {
		t.Errorf("%#v", e)
	}
	checkText(t, e.String())
}

// checkText: what goes into messages has no control characters and an end.
func checkText(t *testing.T, s string) {
	t.Helper()
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			t.Fatalf("%q has control characters", s)
		}
	}
	if len(s) > 2000 {
		t.Errorf("%d bytes in a message", len(s))
	}
}
