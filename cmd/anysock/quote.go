package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// This file makes text from outside safe for a terminal and for a log: names,
// addresses and messages may hold control characters that would move the
// cursor or forge a line.

// printable is s with everything that is not printable escaped as in Go.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if unprintable(r) {
			q := strconv.QuoteToASCII(s[:size])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// unprintable includes the mark that stands for a byte that is no UTF-8.
func unprintable(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }

// A jsonLines escapes what encoding/json leaves as it is and a terminal would
// obey: DEL, the C1 controls, marks that reverse the direction of writing.
type jsonLines struct{ w io.Writer }

func (j jsonLines) Write(p []byte) (int, error) {
	q := p
	if bytes.ContainsFunc(p, unsafeInJSON) {
		var b bytes.Buffer
		for _, r := range string(p) {
			switch {
			case !unsafeInJSON(r):
				b.WriteRune(r)
			case r > 0xffff:
				hi, lo := utf16.EncodeRune(r)
				fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
			default:
				fmt.Fprintf(&b, `\u%04x`, r)
			}
		}
		q = b.Bytes()
	}
	if _, err := j.w.Write(q); err != nil {
		return 0, err
	}
	return len(p), nil
}

// unsafeInJSON: the encoder has escaped the C0 controls already, so that a
// newline ends an object.
func unsafeInJSON(r rune) bool { return r != '\n' && r != utf8.RuneError && !strconv.IsPrint(r) }
