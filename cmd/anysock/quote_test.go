package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/anysock/anysock/internal/printable"
)

func isSafe(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func TestJSONLinesAreSafeAndMeanTheSame(t *testing.T) {
	t.Parallel()
	for _, s := range printable.Hostile {
		var b bytes.Buffer
		if err := json.NewEncoder(jsonLines{&b}).Encode(s); err != nil {
			t.Fatal(err)
		}
		line, ok := strings.CutSuffix(b.String(), "\n")
		if !ok || strings.ContainsFunc(line, func(r rune) bool { return r != utf8.RuneError && !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, b.String())
		}
		var back string
		if err := json.Unmarshal([]byte(line), &back); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Errorf("%q came back as %q", s, back)
		}
	}
}
