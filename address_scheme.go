// This file holds the fixed list of scheme words: what each one stands for and
// what may follow it. Parsing never depends on which transports are imported;
// a word of this list that nobody registered is found by a later check.

package anysock

import "strings"

// addrShape says what follows the colon of a base.
type addrShape int

const (
	addrHostPort addrShape = iota // //[user@]host:port
	addrCIDPort                   // //cid:port, both 32-bit numbers: vsock(7)
	addrFile                      // a file path
	addrSocket                    // a file path, or @ and an abstract name: unix(7)
	addrName                      // a name
	addrNumber                    // a descriptor number
	addrNothing                   // nothing
)

// addrWord describes a scheme word.
type addrWord struct {
	word    string
	expands []string  // the layers it stands for, without the base
	base    bool      // stands at the bottom; a word that does not stands on tcp unless another base follows
	onward  bool      // as the top layer of a hop it can connect to the next hop
	top     bool      // no layer may be over it in the same hop
	user    bool      // takes user@
	path    bool      // takes a path
	shape   addrShape // of a base
}

// addrDefaultBase is what a layer stands on where no base is written.
const addrDefaultBase = "tcp"

// addrWords is the table. The order is that of suggestions: of two words that
// are equally near to a misspelt one, the first is suggested.
var addrWords = [...]addrWord{
	{word: "tcp", expands: []string{"tcp"}, base: true, shape: addrHostPort},
	{word: "tcp4", expands: []string{"tcp4"}, base: true, shape: addrHostPort},
	{word: "tcp6", expands: []string{"tcp6"}, base: true, shape: addrHostPort},
	{word: "unix", expands: []string{"unix"}, base: true, shape: addrSocket},
	{word: "quic", expands: []string{"quic"}, base: true, shape: addrHostPort},
	{word: "vsock", expands: []string{"vsock"}, base: true, shape: addrCIDPort},
	{word: "mem", expands: []string{"mem"}, base: true, shape: addrName},
	{word: "stdio", expands: []string{"stdio"}, base: true, shape: addrNothing},
	{word: "exec", expands: []string{"exec"}, base: true, shape: addrFile},
	{word: "fd", expands: []string{"fd"}, base: true, shape: addrNumber},
	{word: "svc", expands: []string{"svc"}, base: true, shape: addrName},
	{word: "original", expands: []string{"original"}, base: true, shape: addrNothing},

	// Built-in services run in the process: there is no peer that could speak
	// the protocol of a layer over them.
	{word: "echo", expands: []string{"echo"}, base: true, top: true, shape: addrNothing},
	{word: "discard", expands: []string{"discard"}, base: true, top: true, shape: addrNothing},
	{word: "chargen", expands: []string{"chargen"}, base: true, top: true, shape: addrNothing},

	{word: "tls", expands: []string{"tls"}},
	{word: "ws", expands: []string{"ws"}, path: true},
	{word: "wss", expands: []string{"ws", "tls"}, path: true},
	{word: "lc", expands: []string{"lc"}, onward: true},

	// What a proxy connects to is the next hop, so what runs over that
	// connection is written there and not over the proxy.
	{word: "ssh", expands: []string{"ssh"}, onward: true, user: true},
	{word: "socks5", expands: []string{"socks5"}, onward: true, top: true, user: true},
	{word: "socks4", expands: []string{"socks4"}, onward: true, top: true, user: true},
	{word: "socks4a", expands: []string{"socks4a"}, onward: true, top: true, user: true},
	{word: "http", expands: []string{"http"}, onward: true, top: true, user: true},
	{word: "https", expands: []string{"http", "tls"}, onward: true, top: true, user: true},
}

// schemeWords returns the table of scheme words. It must not be changed.
func schemeWords() []addrWord { return addrWords[:] }

// schemeWord finds a word of the table, in any case.
func schemeWord(word string) (addrWord, bool) {
	word = addrLower(word)
	for _, w := range addrWords {
		if w.word == word {
			return w, true
		}
	}
	return addrWord{}, false
}

// schemeWordList lists the words that keep accepts, separated by commas.
func schemeWordList(keep func(addrWord) bool) string {
	var words []string
	for _, w := range addrWords {
		if keep(w) {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

// addrMaxWord bounds the words that a suggestion is looked for; no scheme word
// is as long.
const addrMaxWord = 16

// schemeWordNear returns the scheme word that was probably meant, or "". Long
// words may be two typing errors away, short ones only one.
func schemeWordNear(word string) string {
	word = addrLower(word)
	if len(word) < 2 || len(word) > addrMaxWord {
		return ""
	}
	most := 1
	if len(word) >= 6 {
		most = 2
	}
	near := ""
	for _, w := range addrWords {
		if d := addrEditDistance(word, w.word); d <= most {
			near, most = w.word, d-1
		}
	}
	return near
}

// addrLower puts ASCII letters in lower case, and nothing else: strings.ToLower
// would turn the Kelvin sign into a k.
func addrLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// addrEditDistance counts the typing errors between a and b: a byte left out,
// added or replaced, or two neighbours swapped.
func addrEditDistance(a, b string) int {
	// Rows of the usual table; the swap needs the row before the last.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
