// This file holds the error of an address that cannot be parsed, and what keeps
// secrets out of it: somebody who writes a password into an address by mistake
// must not find it in a log.

package anysock

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AddressError says what is wrong with an address, and where.
//
// Neither its fields nor its texts hold a password that was written as user:password@
// or as a pass option. One case is beyond telling: a password that itself holds
// a comma, a scheme word and "://" reads as the next hop.
type AddressError struct {
	// Input is the text that was parsed, with everything that may be a
	// password replaced by "***", and cut after 4096 bytes.
	Input string
	// Offset is the byte at which the text is wrong, counted from 0 in the
	// text as it was given. It is the length of the text where something is
	// missing at the end.
	Offset int
	// Msg says what is wrong.
	Msg string
	// Hint says what to write instead. It can be empty.
	Hint string

	at   int // Offset in Input, which differs after a replacement
	char int // 1-based character in the text as given; 0 if not set
}

// addrErrorColumns is how many columns of a long address an error shows.
const addrErrorColumns = 100

// Error returns one line: the address, what is wrong, at which character
// (counted from 1), and what to write instead. Control characters are quoted.
func (e *AddressError) Error() string {
	at, char := e.position()
	line, _ := addrShow(e.Input, at)
	s := fmt.Sprintf("address \"%s\": %s at character %d", line, e.Msg, char)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Caret returns two lines without a final newline: the address, and a ^ under
// the character that is wrong. Control characters are quoted, and only the
// part around the ^ is shown of an address longer than 100 columns.
func (e *AddressError) Caret() string {
	at, _ := e.position()
	line, column := addrShow(e.Input, at)
	return line + "\n" + strings.Repeat(" ", column) + "^"
}

// position returns where the error is in Input, and which character of the text
// as given that is. An error that was built by hand has only Offset.
func (e *AddressError) position() (at, char int) {
	if e.char > 0 {
		return e.at, e.char
	}
	at = min(max(e.Offset, 0), len(e.Input))
	return at, utf8.RuneCountInString(e.Input[:at]) + 1
}

// newAddressError makes an error about the byte at off of s. The parts of s
// between the marks of secrets are not kept.
func newAddressError(s string, secrets []addrSpan, off int, msg, hint string) *AddressError {
	off = min(max(off, 0), len(s))
	e := &AddressError{Offset: off, Msg: msg, Hint: hint, char: utf8.RuneCountInString(s[:off]) + 1}
	var b strings.Builder
	from := 0
	e.at = -1
	for _, sp := range secrets {
		if e.at < 0 && off < sp.from {
			e.at = b.Len() + off - from
		}
		b.WriteString(s[from:sp.from])
		if e.at < 0 && off < sp.to {
			e.at = b.Len()
		}
		b.WriteString("***")
		from = sp.to
	}
	if e.at < 0 {
		e.at = b.Len() + off - from
	}
	b.WriteString(s[from:])
	e.Input = b.String()
	if len(e.Input) > addrMaxLen {
		e.Input = e.Input[:addrMaxLen]
		e.at = min(e.at, addrMaxLen)
	}
	return e
}

// addrSpan is a part of a text, from inclusive, to exclusive.
type addrSpan struct{ from, to int }

// addrSecrets finds what may be a password in a text that may be no address at
// all, in order and without overlap. It takes too much rather than too little:
// a password can hold every character that separates something. The one thing it
// cannot tell from a password is the next hop, so a password that holds a comma,
// a scheme word and :// is hidden only after the colon that follows them.
func addrSecrets(s string) []addrSpan {
	var spans []addrSpan
	for from := 0; from < len(s); {
		to := addrNextHop(s, from)
		if sp, ok := addrUserSecret(s, from, to); ok {
			spans = append(spans, sp)
		}
		from = to
	}
	// A secret option hides all that follows: its value may hold & and comma.
	if start, ok := addrOptionSecret(s); ok {
		for len(spans) > 0 && spans[len(spans)-1].to >= start {
			start = min(start, spans[len(spans)-1].from)
			spans = spans[:len(spans)-1]
		}
		spans = append(spans, addrSpan{start, len(s)})
	}
	return spans
}

// addrNextHop returns where the hop that begins at from ends for certain: before
// a comma that known scheme words and :// follow (or, for unix, / or @), else at
// the end. Any other comma may belong to a password.
func addrNextHop(s string, from int) int {
	for i := from + 1; i < len(s); i++ {
		if s[i] != ',' {
			continue
		}
		// The bound keeps many commas and one late colon from costing
		// quadratic time.
		rest := s[i+1:]
		colon := strings.IndexByte(rest[:min(len(rest), addrMaxLayers*addrMaxWord)], ':')
		if colon < 0 {
			continue
		}
		last, ok := addrWord{}, false
		for word := range strings.SplitSeq(rest[:colon], "+") {
			if last, ok = schemeWord(word); !ok {
				break
			}
		}
		if !ok {
			continue
		}
		after := rest[colon+1:]
		if strings.HasPrefix(after, "//") ||
			last.shape == addrSocket && (strings.HasPrefix(after, "/") || strings.HasPrefix(after, "@")) {
			return i
		}
	}
	return len(s)
}

// addrUserSecret finds the password of user:password@ in s[from:to]: all between
// the first colon that is not that of the scheme and the last @.
func addrUserSecret(s string, from, to int) (addrSpan, bool) {
	at := strings.LastIndexByte(s[from:to], '@')
	if at < 0 {
		return addrSpan{}, false
	}
	at += from
	colon, width := addrColon(s[from:at])
	if colon >= 0 && strings.HasPrefix(s[from+colon:at], "://") {
		skip := colon + len("://")
		colon, width = addrColon(s[from+skip : at])
		if colon >= 0 {
			colon += skip
		}
	}
	if colon < 0 || from+colon+width >= at {
		return addrSpan{}, false
	}
	return addrSpan{from + colon + width, at}, true
}

// addrColon returns the place and the width of the first colon in s, plain or
// percent-encoded, or -1.
func addrColon(s string) (at, width int) {
	for i := range len(s) {
		switch {
		case s[i] == ':':
			return i, 1
		case s[i] == '%' && i+2 < len(s) && s[i+1] == '3' && s[i+2]|0x20 == 'a':
			return i, 3
		}
	}
	return -1, 0
}

// addrOptionSecret returns where the value of the first secret option begins
// that is not a reference to a secret.
func addrOptionSecret(s string) (int, bool) {
	for start := 0; start < len(s); {
		token := s[start:]
		if end := strings.IndexAny(token, "?&,"); end >= 0 {
			token = token[:end]
		}
		name, value, ok := strings.Cut(token, "=")
		at := start + len(name) + 1
		if ok && at < len(s) && addrSecretName(addrLooseName(name)) && !addrSecretRef(value) {
			return at, true
		}
		start += len(token) + 1
	}
	return 0, false
}

// addrLooseName reads an option name as somebody may have meant it.
func addrLooseName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := addrUnescape(s[i:]); ok {
			b.WriteByte(c)
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return strings.ToLower(strings.TrimSpace(b.String()))
}

// addrSecretName reports whether an option of this name holds a secret: its
// last word does, as in pass, tls.pass and auth-token.
func addrSecretName(name string) bool {
	switch name[strings.LastIndexAny(name, ".-_")+1:] {
	case "pass", "password", "passwd", "passphrase", "pwd", "secret", "token":
		return true
	}
	return false
}

// addrSecretRef reports whether the value of a secret option only says where the
// secret is: env: and the name of a variable, or file: and a path.
func addrSecretRef(value string) bool {
	if path, ok := strings.CutPrefix(value, "file:"); ok {
		return path != ""
	}
	name, ok := strings.CutPrefix(value, "env:")
	if !ok || name == "" || '0' <= name[0] && name[0] <= '9' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c != '_' && (!addrUnreserved(c) || c == '-' || c == '.' || c == '~') {
			return false
		}
	}
	return true
}

// addrShow returns text for one line of a terminal, and the column of the byte
// at in it. What does not print is quoted. Of a long text it shows the
// surroundings of at, with "..." where something is left out.
func addrShow(text string, at int) (line string, column int) {
	type cell struct {
		text  string
		width int
	}
	var cells []cell
	caret, total := -1, 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		c := cell{text[i : i+size], addrRuneWidth(r)}
		if r == utf8.RuneError && size == 1 {
			c.text = fmt.Sprintf(`\x%02x`, text[i])
			c.width = len(c.text)
		} else if !unicode.IsPrint(r) {
			// A quoted rune, without its quotes.
			c.text = strings.Trim(fmt.Sprintf("%+q", r), "'")
			c.width = len(c.text)
		}
		if caret < 0 && at < i+size {
			caret = len(cells)
		}
		cells = append(cells, c)
		total += c.width
		i += size
	}
	if caret < 0 {
		caret = len(cells)
	}

	first, last := 0, len(cells)
	if total > addrErrorColumns {
		const dots = len("...")
		first = caret
		for room := addrErrorColumns/2 - dots; first > 0 && room >= cells[first-1].width; first-- {
			room -= cells[first-1].width
		}
		last = first
		for room := addrErrorColumns - 2*dots; last < len(cells) && room >= cells[last].width; last++ {
			room -= cells[last].width
		}
	}
	var b strings.Builder
	if first > 0 {
		b.WriteString("...")
		column = len("...")
	}
	for i := first; i < last; i++ {
		if i < caret {
			column += cells[i].width
		}
		b.WriteString(cells[i].text)
	}
	if last < len(cells) {
		b.WriteString("...")
	}
	return b.String(), column
}

// addrRuneWidth returns how many columns a printable rune takes on a terminal,
// after Unicode Standard Annex 11: two for East Asian wide characters and
// emoji, none for marks that stand over another character.
func addrRuneWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, // Hangul Jamo that begin a syllable
		r >= 0x2e80 && r <= 0x303e, // CJK radicals and punctuation
		r >= 0x3041 && r <= 0x4dbf, // kana, CJK
		r >= 0x4e00 && r <= 0xa4cf, // CJK, Yi
		r >= 0xac00 && r <= 0xd7a3, // Hangul syllables
		r >= 0xf900 && r <= 0xfaff, // CJK compatibility
		r >= 0xfe30 && r <= 0xfe6f, // CJK compatibility forms
		r >= 0xff01 && r <= 0xff60, // fullwidth forms
		r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1faff, // emoji
		r >= 0x20000 && r <= 0x3fffd: // CJK extensions
		return 2
	}
	return 1
}
