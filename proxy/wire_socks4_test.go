package proxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSocks4Request(t *testing.T) {
	for _, c := range []struct {
		to   endpoint
		user string
		wire string
	}{
		{ip("127.0.0.1", 0x1234), "", "\x04\x01\x12\x34\x7f\x00\x00\x01\x00"},
		{ip("127.0.0.1", 80), "ann", "\x04\x01\x00\x50\x7f\x00\x00\x01ann\x00"},
		{ip("0.0.0.0", 0), "", "\x04\x01\x00\x00\x00\x00\x00\x00\x00"},
		{endpoint{name: "db.example", port: 80}, "ann", "\x04\x01\x00\x50\x00\x00\x00\x01ann\x00db.example\x00"},
		{ip("::1", 80), "", "\x04\x01\x00\x50\x00\x00\x00\x01\x00::1\x00"},
		{ip("0.0.0.7", 80), "", "\x04\x01\x00\x50\x00\x00\x00\x01\x000.0.0.7\x00"},
		{endpoint{name: strings.Repeat("n", 255), port: 1}, strings.Repeat("u", 255), "\x04\x01\x00\x01\x00\x00\x00\x01" + strings.Repeat("u", 255) + "\x00" + strings.Repeat("n", 255) + "\x00"},
	} {
		message := appendRequest4(nil, commandConnect, c.to, c.user)
		if string(message) != c.wire {
			t.Errorf("%v: % x, want % x", c.to, message, c.wire)
		}
		decodes(t, message, func(src source) error {
			command, to, user, err := readRequest4(src)
			if err == nil && (command != commandConnect || to != c.to || user != c.user) {
				t.Errorf("%v %v %q, want %v %q", command, to, user, c.to, c.user)
			}
			return err
		})
	}
	if got := appendRequest4(nil, commandBind, endpoint{}, ""); string(got) != "\x04\x02\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("% x", got)
	}
}

func TestMalformedSocks4Request(t *testing.T) {
	for _, wire := range []string{
		"\x05\x01\x00",
		"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00",                    // no name
		"\x04\x01\x00\x50\x00\x00\x00\x01\x00a\x1bb\x00",              // an escape in the name
		"\x04\x01\x00\x50\x7f\x00\x00\x01" + strings.Repeat("u", 256), // a user without end
		"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + strings.Repeat("n", 256),
	} {
		_, _, _, err := readRequest4(&bytesSource{b: []byte(wire), end: errors.New("read on")})
		_ = wireErrorOf(t, err)
	}
}

func TestSocks4Reply(t *testing.T) {
	if got, want := appendReply4(nil, reply4Granted, ip("::ffff:10.0.0.1", 0x1234)), []byte("\x00\x5a\x12\x34\x0a\x00\x00\x01"); !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
	if got := appendReply4(nil, reply4Rejected, ip("::1", 1)); !bytes.Equal(got, []byte{0, 91, 0, 1, 0, 0, 0, 0}) {
		t.Errorf("% x", got)
	}
	decodes(t, appendReply4(nil, reply4Granted, ip("10.0.0.1", 1080)), func(src source) error {
		r, bound, err := readReply4(src)
		if err == nil && (r != reply4Granted || bound != ip("10.0.0.1", 1080)) {
			t.Errorf("%v %v", r, bound)
		}
		return err
	})
	for r := reply4Rejected; r < 96; r++ {
		if got, _, err := readReply4(&bytesSource{b: []byte{0, byte(r)}, end: io.EOF}); err != nil || got != r || r.String() == "" {
			t.Errorf("%d: %v, %v", byte(r), got, err)
		}
	}
	if r, _, err := readReply4(&bytesSource{b: []byte{4, 90, 0, 0, 0, 0, 0, 0}}); err != nil || r != reply4Granted {
		t.Errorf("a server that says 4: %v, %v", r, err)
	}
	_, _, err := readReply4(&bytesSource{b: []byte("SSH-2.0"), end: errors.New("read on")})
	_ = wireErrorOf(t, err)
}

func FuzzSocks4Request(f *testing.F) {
	f.Add([]byte("\x04\x01\x12\x34\x7f\x00\x00\x01ann\x00"))
	f.Add([]byte("\x04\x02\x12\x34\x00\x00\x00\x01\x00db\x00glued"))
	f.Add([]byte("\x04\x01\x12\x34\x00\x00\x00\x09\x00::1\x00"))
	f.Add([]byte("\x04\x01\x12\x34\x00\x00\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, to, user, err := readRequest4(&bytesSource{b: b, end: io.EOF})
		if err != nil {
			return
		}
		checkEndpoint(t, to)
		if len(user) > maxText || strings.Contains(user, "\x00") {
			t.Errorf("user %q", user)
		}
		again := appendRequest4(nil, c, to, user)
		c2, to2, user2, err := readRequest4(&bytesSource{b: again, step: 1})
		if err != nil || c2 != c || to2 != to || user2 != user {
			t.Errorf("% x is %v %v %q, which is sent as % x and read as %v %v %q, %v", b, c, to, user, again, c2, to2, user2, err)
		}
	})
}

func FuzzSocks4Reply(f *testing.F) {
	f.Add(appendReply4(nil, reply4Granted, endpoint{}))
	f.Add([]byte{0, 91})
	f.Add([]byte{4, 90, 1, 2, 3, 4, 5, 6, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b: b, end: io.EOF}
		r, bound, err := readReply4(src)
		if err != nil {
			return
		}
		if r != reply4Granted {
			return
		}
		if used := b[:len(b)-len(src.b)]; len(used) != 8 || !bytes.Equal(appendReply4(nil, r, bound)[1:], used[1:]) {
			t.Errorf("%v %v of % x", r, bound, used)
		}
	})
}
