package main

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/anysock/anysock/internal/printable"
)

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
func unsafeInJSON(r rune) bool { return r != '\n' && r != utf8.RuneError && !printable.Is(r) }
