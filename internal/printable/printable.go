// Package printable makes text from outside safe for a terminal and for a log:
// names, addresses and messages may hold control characters that would move the
// cursor or forge a line.
package printable

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text is s with everything that is not printable escaped as in Go. What is no
// UTF-8 is escaped byte by byte.
func Text(s string) string {
	if !strings.ContainsFunc(s, escaped) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if escaped(r) {
			q := strconv.QuoteToASCII(s[:size])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// Is reports whether Text leaves a rune as it is.
func Is(r rune) bool { return !escaped(r) }

// escaped includes the mark that stands for a byte that is no UTF-8.
func escaped(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }
