package printable

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func isSafe(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, s := range Hostile {
		if got := Text(s); !isSafe(got) {
			t.Errorf("Text(%q) = %q", s, got)
		}
	}
	for s, want := range map[string]string{
		"plain":       "plain",
		"grün 日本 😀":   "grün 日本 😀",
		"a\x1b[0m":    `a\x1b[0m`,
		"a\nb\tc":     `a\nb\tc`,
		"\xff":        `\xff`,
		"\ufffd":      `\ufffd`,
		`quote " \`:   `quote " \`,
		"\u202eabc":   `\u202eabc`,
		"x\U000e0041": `x\U000e0041`,
	} {
		if got := Text(s); got != want {
			t.Errorf("Text(%q) = %s, want %s", s, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range Hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := Text(s); !isSafe(got) {
			t.Errorf("Text(%q) = %q", s, got)
		}
	})
}
