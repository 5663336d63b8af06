// This file holds the head of an HTTP/1.1 message as CONNECT needs it
// (RFC 9110 section 9.3.6, RFC 9112).

package proxy

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxHead bounds the head of a request or a reply, its blank line included.
const maxHead = 16 << 10

// errHeadTooLong is a head beyond maxHead.
var errHeadTooLong = malformed("the HTTP header is longer than %d bytes", maxHead)

// A field is one line of a header.
type field struct{ name, value string }

// readHead reads the head of a message, up to and including its blank line. A
// message that does not begin with prefix is an error at once, so that nobody
// waits for a blank line of what is not HTTP. Lines may end in LF alone
// (RFC 9112 section 2.2); who must be strict looks for that itself.
func readHead(src source, prefix string) ([]byte, error) {
	var head []byte
	buf := make([]byte, 1<<10)
	for {
		n, err := src.Peek(buf[:min(len(buf), maxHead-len(head))])
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && len(head) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return head, err
		}
		before := len(head)
		head = append(head, buf[:n]...)
		if begins := string(head[:min(len(head), len(prefix))]); !strings.HasPrefix(prefix, begins) {
			return head, malformed("%s is not the beginning of an HTTP message", quoted(begins))
		}
		end := headEnd(head, before)
		complete := end >= 0
		if !complete {
			end = len(head)
		}
		if err := readExact(src, buf[:end-before], false); err != nil {
			return head[:before], err
		}
		switch {
		case complete:
			return head[:end], nil
		case len(head) >= maxHead:
			return head, errHeadTooLong
		}
	}
}

// headEnd finds the byte after the first blank line, or -1. There was none
// before from.
func headEnd(head []byte, from int) int {
	for i := max(from, 1); i < len(head); i++ {
		if head[i] != '\n' {
			continue
		}
		before := bytes.TrimSuffix(head[:i], []byte("\r"))
		if len(before) > 0 && before[len(before)-1] == '\n' {
			return i + 1
		}
	}
	return -1
}

// parseHead takes a head apart: its first line, and its fields with names as
// written and values without the white space around them.
func parseHead(head []byte) (first string, fields []field, err error) {
	for i, line := range strings.Split(string(head), "\n") {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case i == 0:
			first = line
		case line == "":
			return first, fields, nil
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || !isToken(name) {
				return first, fields, malformed("%s is no HTTP field", quoted(line))
			}
			fields = append(fields, field{name, strings.Trim(value, " \t")})
		}
	}
	return first, fields, malformed("the HTTP header has no end")
}

// fieldValue is the value of the first field of that name, in any case.
func fieldValue(fields []field, name string) (string, bool) {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return "", false
}

// isToken: RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		b := s[i]
		if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0) {
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s can be sent as a value, RFC 9110 section 5.5;
// it is kept to ASCII.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if b := s[i]; b != '\t' && (b < ' ' || b > '~') {
			return false
		}
	}
	return s == strings.Trim(s, " \t")
}

// appendConnect is a client's request for a tunnel. Host comes first among the
// fields, and says what the request line says (RFC 9112 section 3.2.3).
func appendConnect(b []byte, e endpoint, fields []field) []byte {
	authority := e.String()
	b = append(b, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n"...)
	for _, f := range fields {
		b = append(b, f.name+": "+f.value+"\r\n"...)
	}
	return append(b, "\r\n"...)
}

// A statusLine is the first line of a reply, RFC 9112 section 4.
type statusLine struct {
	code   int
	reason string // as sent: for messages it must be quoted
}

// parseStatus reads a status line. The reason may be missing.
func parseStatus(line string) (statusLine, error) {
	version, rest, _ := strings.Cut(line, " ")
	text, reason, _ := strings.Cut(rest, " ")
	minor, isHTTP := strings.CutPrefix(version, "HTTP/1.")
	code, err := strconv.Atoi(text)
	if !isHTTP || len(minor) != 1 || minor[0] < '0' || minor[0] > '9' || err != nil || len(text) != 3 || code < 100 {
		return statusLine{}, malformed("%s is no HTTP/1.1 status line", quoted(line))
	}
	return statusLine{code, reason}, nil
}

// readConnectReply reads the head of a reply: its status and its fields. What
// follows a success is the tunnel's.
func readConnectReply(src source) (statusLine, []field, error) {
	head, err := readHead(src, "HTTP/1.")
	if err != nil {
		return statusLine{}, nil, err
	}
	first, fields, err := parseHead(head)
	if err != nil {
		return statusLine{}, nil, err
	}
	status, err := parseStatus(first)
	return status, fields, err
}
