// This file holds what the tests of the wire formats share: a source of given
// bytes, and the check that a decoder takes its message and nothing else.

package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
)

// A bytesSource gives its bytes in pieces of at most step, 0 is all at once,
// and then end.
type bytesSource struct {
	b    []byte
	step int
	end  error
}

func (s *bytesSource) Peek(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, s.end
	}
	if s.step > 0 && len(p) > s.step {
		p = p[:s.step]
	}
	return copy(p, s.b), nil
}

func (s *bytesSource) Read(p []byte) (int, error) {
	n, err := s.Peek(p)
	s.b = s.b[n:]
	return n, err
}

// decodes checks that read takes message, in one piece and byte by byte, and
// leaves what follows; and that no beginning of message is enough.
func decodes(t *testing.T, message []byte, read func(source) error) {
	t.Helper()
	glued := []byte("GET / and more")
	for _, step := range []int{0, 1, 3} {
		src := &bytesSource{b: append(bytes.Clone(message), glued...), step: step, end: io.EOF}
		if err := read(src); err != nil {
			t.Fatalf("%q in pieces of %d: %v", message, step, err)
		}
		if !bytes.Equal(src.b, glued) {
			t.Errorf("%q in pieces of %d: left %q of what followed, want %q", message, step, src.b, glued)
		}
	}
	for n := range len(message) {
		src := &bytesSource{b: message[:n], end: io.EOF}
		err := read(src)
		if n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) || n == 0 && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the first %d bytes of %q: %v, want an unexpected end", n, message, err)
		}
		broken := errors.New("broken")
		if err := read(&bytesSource{b: message[:n], end: broken}); !errors.Is(err, broken) {
			t.Errorf("the first %d bytes of %q and a failure: %v", n, message, err)
		}
	}
}

// wireErrorOf is the error as one of the protocol.
func wireErrorOf(t *testing.T, err error) *wireError {
	t.Helper()
	var w *wireError
	if !errors.As(err, &w) {
		t.Fatalf("%v is no wireError", err)
	}
	return w
}

func ip(s string, port uint16) endpoint { return endpoint{ip: netip.MustParseAddr(s), port: port} }

func TestEndpointText(t *testing.T) {
	for _, c := range []struct {
		e    endpoint
		want string
	}{
		{endpoint{}, "0.0.0.0:0"},
		{ip("127.0.0.1", 80), "127.0.0.1:80"},
		{ip("2001:db8::7", 443), "[2001:db8::7]:443"},
		{endpoint{name: "db.example", port: 5432}, "db.example:5432"},
		{endpoint{name: "a\x1b[2J\n", port: 1}, `"a\x1b[2J\n":1`},
		{endpoint{name: "a b", port: 1}, `"a b":1`},
	} {
		if got := c.e.String(); got != c.want {
			t.Errorf("%#v prints %s, want %s", c.e, got, c.want)
		}
	}
}

func TestParseEndpoint(t *testing.T) {
	for _, c := range []struct {
		text string
		want endpoint
	}{
		{"127.0.0.1:80", ip("127.0.0.1", 80)},
		{"[::1]:80", ip("::1", 80)},
		{"[::ffff:127.0.0.1]:0", ip("::ffff:127.0.0.1", 0)},
		{"db_1.example.:65535", endpoint{name: "db_1.example.", port: 65535}},
	} {
		if got, err := parseEndpoint(c.text); err != nil || got != c.want {
			t.Errorf("%q: %v, %v, want %v", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "host", "host:", "host:65536", "host:-1", "host:+1", "host:x", ":80", "::1:80", "[::1]", "[host]:80", "[127.0.0.1]:80", "[fe80::1%eth0]:1", "a b:1", "a\x00b:1", "a/b:1", "user@host:1", "höst:1"} {
		if got, err := parseEndpoint(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestQuotedIsBounded(t *testing.T) {
	if got := quoted("\x00\x1b" + string(bytes.Repeat([]byte("é"), 1000))); len(got) > 6*maxQuoted {
		t.Errorf("%d bytes", len(got))
	} else if bytes.ContainsAny([]byte(got), "\x00\x1bé") {
		t.Errorf("%q", got)
	}
}
