// This file holds the parser of addresses. It checks syntax only; it reads from
// left to right and stops at the first character that cannot be right.

package anysock

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseAddress parses an address; see Address for its form. It checks syntax
// only: it opens nothing, resolves nothing, and accepts every scheme word of
// the fixed list, whether or not a transport for it is imported.
//
// Scheme words and host names are read without regard to case. Option names are
// lower case, an option is given once (except those that are lists: arg, env, header,
// origin, key and the like), and an option without "=" is refused. The list of
// require may be written with plain commas: require=abort,halfclose. Ports are numbers; names of services are not
// looked up. Host names are ASCII (RFC 1123, and "_"); a name whose last label
// is a number is refused unless it is an IPv4 address of four decimal numbers,
// because resolvers disagree on forms such as 127.1.
//
// An address has at most 4096 bytes, as written and in its canonical form, and
// 16 hops; a hop has at most 8 layers, shorthand expanded, and 64 options.
//
// The error is an *AddressError.
func ParseAddress(s string) (Address, error) {
	p := addrParser{s: s}
	if err := p.chain(); err != nil {
		return Address{}, err
	}
	var b strings.Builder
	for i, h := range p.hops {
		if i > 0 {
			b.WriteByte(',')
		}
		h.appendTo(&b)
	}
	if b.Len() > addrMaxLen {
		// Printing encodes some characters that may be written plain.
		return Address{}, p.fail(len(s), "the address is longer than "+strconv.Itoa(addrMaxLen)+" bytes in its canonical form", "")
	}
	return Address{d: &addressData{input: s, text: b.String(), hops: p.hops}}, nil
}

// addrParser reads s. Methods take and return byte offsets in s, so that every
// error knows its place.
type addrParser struct {
	s    string
	hops []Hop
}

// fail makes an error whose texts repeat nothing of the input but scheme words.
func (p *addrParser) fail(off int, msg, hint string) *AddressError {
	return newAddressError(p.s, addrSecrets(p.s), off, msg, hint)
}

// addrAdvice is the text of an error.
type addrAdvice struct{ msg, hint string }

// addrMaxEcho bounds advice that repeats a part of the input, in bytes.
const addrMaxEcho = 200

// failEcho makes an error that repeats a part of the input, which is the better
// help, but not if there may be a password in it, or if it is very long.
func (p *addrParser) failEcho(off int, echo, plain addrAdvice) *AddressError {
	secrets := addrSecrets(p.s)
	if len(secrets) > 0 || len(echo.msg)+len(echo.hint) > addrMaxEcho {
		echo = plain
	}
	return newAddressError(p.s, secrets, off, echo.msg, echo.hint)
}

// chain = addr *("," addr)
func (p *addrParser) chain() *AddressError {
	if p.s == "" {
		return p.fail(0, "the address is empty", "write one such as tcp://HOST:PORT")
	}
	if len(p.s) > addrMaxLen {
		return p.fail(addrMaxLen, "the address is longer than "+strconv.Itoa(addrMaxLen)+" bytes", "")
	}
	for start := 0; ; {
		end := p.hopEnd(start)
		switch {
		case start < end:
		case start == len(p.s):
			return p.fail(start-1, "nothing follows the last comma", "remove the comma, or add a hop")
		default:
			return p.fail(start, "a hop is empty", "remove the comma")
		}
		if len(p.hops) == addrMaxHops {
			return p.fail(start, "more than "+strconv.Itoa(addrMaxHops)+" hops", "")
		}
		if err := p.hop(start, end); err != nil {
			return err
		}
		if end == len(p.s) {
			return nil
		}
		if end+1 < len(p.s) {
			top := p.hops[len(p.hops)-1].Layers[0].Scheme
			if w, _ := schemeWord(top); !w.onward {
				return p.fail(end, "no hop can follow "+top,
					"hops go through "+schemeWordList(func(w addrWord) bool { return w.onward })+
						"; a comma that belongs to the text is %2C")
			}
		}
		start = end + 1
	}
}

// hopEnd is where the hop that begins at start ends. The commas in the value of
// require separate no hops: what follows them has no colon, which a hop has.
func (p *addrParser) hopEnd(start int) int {
	for off := start; ; {
		i := strings.IndexByte(p.s[off:], ',')
		if i < 0 {
			return len(p.s)
		}
		end := off + i
		option := p.s[start:end]
		option = option[strings.LastIndexAny(option, "?&")+1:]
		next := p.s[end+1:]
		if i := strings.IndexAny(next, ",&"); i >= 0 {
			next = next[:i]
		}
		if !strings.HasPrefix(option, "require=") || next == "" || strings.Trim(next, "abcdefghijklmnopqrstuvwxyz") != "" {
			return end
		}
		off = end + 1
	}
}

// hop parses one address of the chain, s[start:end], and appends it.
func (p *addrParser) hop(start, end int) *AddressError {
	// Before anything else: no other error may be about a part of a password.
	if err := p.noPassword(start, end); err != nil {
		return err
	}
	if err := p.characters(start, end); err != nil {
		return err
	}
	bodyEnd := end
	if i := strings.IndexByte(p.s[start:end], '?'); i >= 0 {
		bodyEnd = start + i
	}
	h := Hop{}
	if err := p.body(&h, start, bodyEnd); err != nil {
		return err
	}
	if h.Path == "" && h.takesPath() {
		h.Path = "/"
	}
	if bodyEnd < end {
		if err := p.options(&h, bodyEnd+1, end); err != nil {
			return err
		}
	}
	p.hops = append(p.hops, h)
	return nil
}

// noPassword refuses user:password@.
func (p *addrParser) noPassword(start, end int) *AddressError {
	seg := p.s[start:end]
	from := 0
	if colon := strings.IndexByte(seg, ':'); colon >= 0 {
		base, known := schemeWord(seg[strings.LastIndexByte(seg[:colon], '+')+1 : colon])
		switch {
		case strings.HasPrefix(seg[colon:], "://"):
			from = colon + len("://")
		case known && base.base && base.shape != addrHostPort && base.shape != addrCIDPort:
			return nil // what follows is no authority
		case known:
			from = colon + 1 // "//" was forgotten
		}
	}
	authority := seg[from:]
	if i := strings.IndexAny(authority, "/?"); i >= 0 {
		authority = authority[:i]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return nil
	}
	colon, width := addrColon(authority[:at])
	if colon < 0 {
		return nil
	}
	return p.fail(start+from+colon+width, "a password does not belong in an address",
		"remove it and add ?pass=env:NAME or ?pass=file:PATH")
}

// characters refuses what may stand nowhere in an address.
func (p *addrParser) characters(start, end int) *AddressError {
	for i := start; i < end; {
		r, size := utf8.DecodeRuneInString(p.s[i:end])
		switch {
		case r == utf8.RuneError && size == 1:
			return p.fail(i, "this byte is not valid UTF-8", "write it as "+addrEscaped(p.s[i:i+1]))
		case r == ' ' && (i == start || i == end-1):
			return p.fail(i, "a space", "remove it")
		case r == ' ':
			return p.fail(i, "a space", "write it as %20 where it belongs to the text")
		case r == '#':
			return p.fail(i, "an address has no #fragment", "write # as %23 where it belongs to the text")
		case unicode.IsControl(r):
			return p.fail(i, "a control character", "remove it")
		case !unicode.IsPrint(r):
			return p.fail(i, "a character that does not print", "write it as "+addrEscaped(p.s[i:i+size]))
		}
		i += size
	}
	return nil
}

func addrEscaped(s string) string {
	var b strings.Builder
	addrEscape(&b, s, "")
	return b.String()
}

// body parses a hop up to its options.
func (p *addrParser) body(h *Hop, start, end int) *AddressError {
	body := p.s[start:end]
	switch {
	case body == "":
		return p.fail(start, "options without an address", "write the address before the ?")
	case strings.HasPrefix(body, "//"), strings.HasPrefix(body, "://"):
		return p.fail(start, "the scheme word is missing", "write one before ://, as in tcp://HOST:PORT")
	case body[0] == '/', body[0] == '@':
		return p.failEcho(start, addrAdvice{"the scheme word is missing", "write unix:" + body},
			addrAdvice{"the scheme word is missing", "write unix:PATH for a Unix socket"})
	case body == "-":
		return p.fail(start, "the scheme word is missing", "write stdio: for standard input and output")
	case body[0] == '[', body[0] == ':':
		return p.bare(h, start, end)
	}

	colon := strings.IndexByte(body, ':')
	if colon < 0 {
		if _, ok := schemeWord(body); !ok && !strings.Contains(body, "+") {
			return p.bare(h, start, end)
		}
		if err := p.layers(h, start, end); err != nil {
			return err
		}
		return p.fail(end, "the : after the scheme word is missing", "write "+addrForm(h))
	}
	word, rest := body[:colon], body[colon+1:]
	_, known := schemeWord(word)
	if !known && !strings.Contains(word, "+") && !strings.HasPrefix(rest, "//") {
		// Either host:port, or a scheme word that does not exist.
		near := schemeWordNear(word)
		if near == "" && !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "@") ||
			addrDigits(rest) || strings.Contains(rest, ":") || strings.Contains(word, "@") {
			return p.bare(h, start, end)
		}
	}
	if err := p.layers(h, start, start+colon); err != nil {
		return err
	}
	return p.rest(h, start+colon+1, end)
}

// bare parses host:port without a scheme word, which is tcp.
func (p *addrParser) bare(h *Hop, start, end int) *AddressError {
	h.words = []string{addrDefaultBase}
	h.Layers = []Layer{{Scheme: addrDefaultBase, off: start}}
	if at := strings.IndexByte(p.s[start:end], '@'); at >= 0 {
		return p.failEcho(start, addrAdvice{"a user needs a scheme word", "write ssh://" + p.s[start:end] + " for ssh"},
			addrAdvice{"a user needs a scheme word", "write one before it, as in ssh://USER@HOST:PORT"})
	}
	return p.authority(h, start, end, true)
}

// layers parses layer *("+" layer).
func (p *addrParser) layers(h *Hop, start, end int) *AddressError {
	var words []addrWord
	var offs []int
	for off := start; off <= end; {
		word := p.s[off:end]
		if i := strings.IndexByte(word, '+'); i >= 0 {
			word = word[:i]
		}
		if word == "" {
			return p.fail(off, "a layer is missing", "write a scheme word on both sides of +")
		}
		w, ok := schemeWord(word)
		if !ok {
			hint := "the words are " + schemeWordList(func(addrWord) bool { return true })
			if near := schemeWordNear(word); near != "" {
				hint = "did you mean " + near + "?"
			}
			msg := "an unknown scheme word"
			if len(word) <= addrMaxWord && len(addrSecrets(p.s)) == 0 {
				msg += " " + strconv.QuoteToASCII(word)
			}
			return p.fail(off, msg, hint)
		}
		words, offs = append(words, w), append(offs, off)
		off += len(word) + 1
	}

	for i, w := range words {
		if i+1 < len(words) && w.base {
			for j := i + 1; j < len(words); j++ {
				if words[j].base {
					return p.fail(offs[j], "a second base: "+words[j].word+" under "+w.word, "a hop stands on one base, the last word")
				}
			}
			return p.fail(offs[i], w.word+" cannot be over "+words[i+1].word,
				"layers are written nearest the application first, as in "+words[i+1].word+"+"+w.word)
		}
		if i > 0 && w.top {
			hint := "nothing runs over " + w.word
			if w.onward {
				hint = "write two hops: " + w.word + "://PROXY:PORT," + words[i-1].word + "://HOST:PORT"
			}
			return p.fail(offs[i-1], words[i-1].word+" cannot be over "+w.word, hint)
		}
		h.words = append(h.words, w.word)
		for _, scheme := range w.expands {
			h.Layers = append(h.Layers, Layer{Scheme: scheme, off: offs[i]})
		}
		if i+1 == len(words) && !w.base {
			h.Layers = append(h.Layers, Layer{Scheme: addrDefaultBase, off: offs[i]})
		}
		if len(h.Layers) > addrMaxLayers {
			return p.fail(offs[i], "more than "+strconv.Itoa(addrMaxLayers)+" layers", "")
		}
	}
	return nil
}

// shape returns what follows the colon of a hop whose layers are known.
func (h Hop) shape() addrShape {
	w, _ := schemeWord(h.Layers[len(h.Layers)-1].Scheme)
	return w.shape
}

// addrForm shows how an address with the scheme words of h is written.
func addrForm(h *Hop) string {
	s := strings.Join(h.words, "+") + ":"
	switch h.shape() {
	case addrHostPort:
		return s + "//HOST:PORT"
	case addrCIDPort:
		return s + "//CID:PORT"
	case addrFile:
		return s + "/PATH"
	case addrSocket:
		return s + "/PATH or " + s + "@NAME"
	case addrName:
		return s + "NAME"
	case addrNumber:
		return s + "NUMBER"
	}
	return s
}

// rest parses what follows the colon of the scheme words.
func (p *addrParser) rest(h *Hop, start, end int) *AddressError {
	rest := p.s[start:end]
	shape := h.shape()
	authority := shape == addrHostPort || shape == addrCIDPort

	if shape != addrNumber && len(h.words) == 1 && addrDigits(rest) {
		word := h.words[0]
		hint := "write tcp://" + word + ":" + rest + " for a host named " + word
		if authority {
			hint = "write " + word + "://:" + rest + " to leave out the host, or tcp://" + word + ":" + rest + " for a host named " + word
		}
		plain := "write tcp://" + word + ":PORT for a host named " + word
		return p.failEcho(start, addrAdvice{word + " is a scheme word, not a host", hint},
			addrAdvice{word + " is a scheme word, not a host", plain})
	}

	if authority {
		if strings.HasPrefix(rest, "//") {
			return p.authority(h, start+2, end, false)
		}
		form := "write " + addrForm(h)
		echo := form
		if rest != "" && rest[0] != '/' {
			echo = "write " + strings.Join(h.words, "+") + "://" + rest
		}
		return p.failEcho(start, addrAdvice{"// is missing", echo}, addrAdvice{"// is missing", form})
	}

	if strings.HasPrefix(rest, "//") {
		form := "write " + addrForm(h)
		echo := form
		if tail := strings.TrimLeft(rest, "/"); tail != "" && shape != addrNothing {
			if shape == addrFile || shape == addrSocket && tail[0] != '@' {
				tail = "/" + tail
			}
			echo = "write " + strings.Join(h.words, "+") + ":" + tail
		}
		msg := h.Layers[len(h.Layers)-1].Scheme + " takes no //"
		return p.failEcho(start, addrAdvice{msg, echo}, addrAdvice{msg, form})
	}
	return p.opaque(h, start, end)
}

// opaque parses the rest of a base that has no host.
func (p *addrParser) opaque(h *Hop, start, end int) *AddressError {
	shape := h.shape()
	base := h.Layers[len(h.Layers)-1].Scheme
	if shape == addrNothing {
		if start < end {
			return p.fail(start, base+" takes nothing after the colon but options", "write "+addrForm(h))
		}
		return nil
	}
	if start == end {
		what := map[addrShape]string{addrFile: "path", addrSocket: "path", addrName: "name", addrNumber: "number"}[shape]
		return p.fail(start, "the "+what+" is missing", "write "+addrForm(h))
	}
	if shape == addrNumber {
		return p.number(&h.Opaque, start, end, 1<<31-1, "the descriptor")
	}
	text, err := p.decode(start, end, false)
	if err != nil {
		return err
	}
	h.Opaque = text
	switch shape {
	case addrName:
		// Kept free, so that a name is never mistaken for a port.
		if addrDigits(text) {
			return p.fail(start, "a name of digits only", "write a name with a letter in it")
		}
		return nil
	case addrSocket:
		if text == "@" {
			return p.fail(end, "the name is missing", "write "+addrForm(h))
		}
		if text[0] == '@' {
			return nil
		}
	}
	for _, prefix := range []string{"/", "./", "../"} {
		if strings.HasPrefix(text, prefix) {
			return nil
		}
	}
	return p.fail(start, base+" needs a path that begins with / or ./", "write "+addrForm(h))
}

// authority parses [user "@"] host ":" port [path]. A bare one has no scheme
// word, and writes its zone as package net does.
func (p *addrParser) authority(h *Hop, start, end int, bare bool) *AddressError {
	pathStart := end
	if i := strings.IndexByte(p.s[start:end], '/'); i >= 0 {
		pathStart = start + i
	}
	hostStart := start
	if at := strings.IndexByte(p.s[start:pathStart], '@'); at >= 0 {
		if err := p.user(h, start, start+at); err != nil {
			return err
		}
		hostStart = start + at + 1
	}
	if err := p.hostPort(h, hostStart, pathStart, bare); err != nil {
		return err
	}
	return p.path(h, pathStart, end)
}

// layerThat returns whether a layer of the hop has a property.
func (h Hop) layerThat(has func(addrWord) bool) bool {
	return slices.ContainsFunc(h.Layers, func(l Layer) bool {
		w, _ := schemeWord(l.Scheme)
		return has(w)
	})
}

// user parses the user name, which ends at end with an @.
func (p *addrParser) user(h *Hop, start, end int) *AddressError {
	takes := func(w addrWord) bool { return w.user }
	switch {
	case !h.layerThat(takes):
		return p.fail(start, strings.Join(h.words, "+")+" takes no user", "a user goes with "+schemeWordList(takes))
	case start == end:
		return p.fail(start, "the user is empty", "write USER@HOST:PORT, or remove the @")
	}
	text, err := p.decode(start, end, false)
	h.User = text
	return err
}

// takesPath reports whether the hop has a path.
func (h Hop) takesPath() bool {
	return h.layerThat(func(w addrWord) bool { return w.path })
}

// path parses the path, which is empty or begins with a slash.
func (p *addrParser) path(h *Hop, start, end int) *AddressError {
	if start < end && !h.takesPath() {
		return p.fail(start, strings.Join(h.words, "+")+" takes no path", "remove it")
	}
	var b strings.Builder
	for i := start; i < end; i++ {
		c := p.s[i]
		switch {
		case c == '%':
			if _, err := p.decode(i, min(i+3, end), false); err != nil {
				return err
			}
			if c, _ = addrUnescape(p.s[i:end]); addrUnreserved(c) {
				b.WriteByte(c)
			} else {
				addrEscapeByte(&b, c)
			}
			i += 2
		case addrUnreserved(c), strings.IndexByte(addrPathPlain, c) >= 0:
			b.WriteByte(c)
		default:
			addrEscapeByte(&b, c)
		}
	}
	h.Path = b.String()
	return nil
}

// addrRepeats are the options that may be given several times in a hop.
var addrRepeats = []string{"alpn", "arg", "clientname", "env", "header", "hostkey", "key", "origin", "subprotocol", "user"}

// options parses option *("&" option).
func (p *addrParser) options(h *Hop, start, end int) *AddressError {
	for off := start; off <= end; {
		stop := end
		if i := strings.IndexByte(p.s[off:end], '&'); i >= 0 {
			stop = off + i
		}
		if off == stop {
			return p.fail(off, "an option is missing", "write name=value, or remove the ? or &")
		}
		if len(h.Options) == addrMaxOptions {
			return p.fail(off, "more than "+strconv.Itoa(addrMaxOptions)+" options in a hop", "")
		}
		o, err := p.option(off, stop)
		if err != nil {
			return err
		}
		last := o.Name[strings.LastIndexByte(o.Name, '.')+1:]
		if !slices.Contains(addrRepeats, last) && slices.ContainsFunc(h.Options, func(have AddressOption) bool { return have.Name == o.Name }) {
			return p.fail(off, "the option is given twice", "remove one of the two")
		}
		h.Options = append(h.Options, o)
		off = stop + 1
	}
	return nil
}

// option parses name "=" value.
func (p *addrParser) option(start, end int) (AddressOption, *AddressError) {
	o := AddressOption{off: start}
	text := p.s[start:end]
	name, _, hasValue := strings.Cut(text, "=")
	if i := strings.IndexByte(text, '?'); i >= len(name) {
		return o, p.fail(start+i, "a second ?", "write & between options, or %3F for a ? in a value")
	}
	if name == "" {
		return o, p.fail(start, "the name of the option is missing", "write name=value")
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z':
		case '0' <= c && c <= '9', c == '-', c == '_':
			if i == 0 {
				return o, p.fail(start, "an option name begins with a letter", "")
			}
		case c == '.':
			if i == 0 || i+1 == len(name) || name[i-1] == '.' {
				return o, p.fail(start+i, "a stray . in an option name", "write it as in tls.min=1.3")
			}
		case 'A' <= c && c <= 'Z':
			return o, p.fail(start+i, "a capital letter in an option name", "write option names in lower case")
		default:
			return o, p.fail(start+i, "a character that does not belong in an option name",
				"option names have letters, digits, . - and _")
		}
	}
	if !hasValue {
		return o, p.failEcho(end, addrAdvice{"the option has no value", "write " + name + "=1 to switch it on"},
			addrAdvice{"the option has no value", "write name=value"})
	}
	o.Name = name
	o.valueOff = start + len(name) + 1
	value, err := p.decode(o.valueOff, end, true)
	if err != nil {
		return o, err
	}
	if addrSecretName(name) && !addrSecretRef(value) {
		return o, p.fail(o.valueOff, "a secret does not belong in an address", "write env:NAME or file:PATH here")
	}
	o.Value = value
	return o, nil
}

// decode undoes percent-encoding. No text has a zero byte, because no path, no
// argument and no header can hold one; other control characters are only for
// the values of options.
func (p *addrParser) decode(start, end int, control bool) (string, *AddressError) {
	if strings.IndexByte(p.s[start:end], '%') < 0 {
		return p.s[start:end], nil
	}
	var b strings.Builder
	for i := start; i < end; i++ {
		if p.s[i] != '%' {
			b.WriteByte(p.s[i])
			continue
		}
		c, ok := addrUnescape(p.s[i:end])
		switch {
		case !ok:
			return "", p.fail(i, "two hex digits must follow %", "write %25 for a % sign")
		case c == 0:
			return "", p.fail(i, "a zero byte", "remove it")
		case !control && (c < 0x20 || c == 0x7f):
			return "", p.fail(i, "a control character", "remove it")
		}
		b.WriteByte(c)
		i += 2
	}
	return b.String(), nil
}

// addrUnescape reads the %XX that s begins with.
func addrUnescape(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	c, err := strconv.ParseUint(s[1:3], 16, 8)
	// ParseUint with base 16 takes neither a sign nor an underscore.
	return byte(c), err == nil
}
