package all_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// TestAddressesOfTheREADME: every address that the README shows is one.
func TestAddressesOfTheREADME(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	addresses := regexp.MustCompile("`([a-z0-9+]+:[^` ]*)`").FindAllStringSubmatch(string(text), -1)
	checked := 0
	for _, m := range addresses {
		a := m[1]
		if strings.Contains(a, "…") || strings.HasSuffix(a, "a:") || a == "http:" || a == "https:" {
			continue // a scheme word, or an address that goes on
		}
		parsed, err := anysock.ParseAddress(a)
		if err == nil {
			err = parsed.Check()
		}
		if err != nil {
			t.Errorf("%s: %v", a, err)
		}
		checked++
	}
	if checked < 20 {
		t.Errorf("only %d addresses were found", checked)
	}
}
