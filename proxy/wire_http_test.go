package proxy

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestConnectRequest(t *testing.T) {
	got := string(appendConnect(nil, endpoint{name: "db.example", port: 5432}, []field{{"X-Team", "a b"}, {"Proxy-Authorization", "Basic eA=="}}))
	want := "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nX-Team: a b\r\nProxy-Authorization: Basic eA==\r\n\r\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := string(appendConnect(nil, ip("::1", 80), nil)); got != "CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n" {
		t.Errorf("%q", got)
	}
	decodes(t, []byte(want), func(src source) error {
		head, err := readHead(src, "CONNECT ")
		if err != nil {
			return err
		}
		first, fields, err := parseHead(head)
		if first != "CONNECT db.example:5432 HTTP/1.1" || len(fields) != 3 || fields[1] != (field{"X-Team", "a b"}) {
			t.Errorf("%q and %q", first, fields)
		}
		if v, ok := fieldValue(fields, "proxy-authorization"); !ok || v != "Basic eA==" {
			t.Errorf("%q, %v", v, ok)
		}
		return err
	})
}

func TestConnectReply(t *testing.T) {
	for _, c := range []struct {
		head   string
		code   int
		reason string
	}{
		{"HTTP/1.1 200 Connection established\r\n\r\n", 200, "Connection established"},
		{"HTTP/1.0 200\r\nVia: x\r\n\r\n", 200, ""},
		{"HTTP/1.1 299 \nA:b\n\n", 299, ""},
		{"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", 407, "Proxy Authentication Required"},
		{"HTTP/1.1 503 \x1b[2J\r\n\r\n", 503, "\x1b[2J"},
	} {
		decodes(t, []byte(c.head), func(src source) error {
			status, _, err := readConnectReply(src)
			if err == nil && status != (statusLine{c.code, c.reason}) {
				t.Errorf("%q: %v", c.head, status)
			}
			return err
		})
	}
}

func TestMalformedConnectReply(t *testing.T) {
	readOn := errors.New("read on")
	for _, head := range []string{
		"SSH-2.0-OpenSSH_9.9\r\n",                         // told at once, without waiting for a blank line
		"\x15\x03\x01\x00\x02",                            // a TLS alert
		"HTTP/2 200\r\n\r\n",                              // no such version
		"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000\r\n\r\n", // no status
		"HTTP/1.1 -20 OK\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.x 200 OK\r\n\r\n", "HTTP/1.11 200 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nno field\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", maxHead),
	} {
		for _, step := range []int{0, 1} {
			_, _, err := readConnectReply(&bytesSource{b: []byte(head), end: readOn, step: step})
			w := wireErrorOf(t, err)
			checkText(t, w.text)
		}
	}
}

func TestHeadLimit(t *testing.T) {
	const first = "HTTP/1.1 200 OK\r\nA: "
	for _, c := range []struct {
		pad  int
		want error
	}{{maxHead - len(first) - 4, nil}, {maxHead - len(first) - 3, errHeadTooLong}} {
		src := &bytesSource{b: []byte(first + strings.Repeat("b", c.pad) + "\r\n\r\n"), end: io.EOF}
		if _, _, err := readConnectReply(src); !errors.Is(err, c.want) {
			t.Errorf("padding of %d: %v, want %v", c.pad, err, c.want)
		}
	}
}

func TestFieldForm(t *testing.T) {
	for s, want := range map[string]bool{"X-Team": true, "": false, "a b": false, "a:b": false, "a\r": false, "é": false} {
		if isToken(s) != want {
			t.Errorf("%q is a token: %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"": true, "a b\tc": true, " a": false, "a\n": false, "a\r\nX: y": false, "\x00": false, "é": false} {
		if isFieldValue(s) != want {
			t.Errorf("%q is a value: %v", s, !want)
		}
	}
}

func FuzzConnectReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 Connection established\r\n\r\nglued"))
	f.Add([]byte("HTTP/1.0 407 x\nProxy-Authenticate: Basic\n\n"))
	f.Add([]byte("HTTP/1.1 200\r\r\n\r\n"))
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b: b, end: io.EOF}
		status, fields, err := readConnectReply(src)
		used := b[:len(b)-len(src.b)]
		if len(used) > maxHead {
			t.Errorf("%d bytes were read", len(used))
		}
		if err != nil {
			checkText(t, err.Error())
			return
		}
		if status.code < 100 || status.code > 999 || len(used) < len("HTTP/1.1 200\n\n") || used[len(used)-1] != '\n' {
			t.Errorf("%v of %q", status, used)
		}
		for _, f := range fields {
			if !isToken(f.name) || strings.ContainsAny(f.value, "\n") {
				t.Errorf("field %q", f)
			}
		}
		// One byte at a time says the same and takes the same.
		slow := &bytesSource{b: b, end: io.EOF, step: 1}
		again, _, err := readConnectReply(slow)
		if err != nil || again != status || len(slow.b) != len(src.b) {
			t.Errorf("%q: %v leaves %d; byte by byte %v, %v leaves %d", b, status, len(src.b), again, err, len(slow.b))
		}
	})
}
