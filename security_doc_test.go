package anysock_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityDocument: the tests that docs/SECURITY.md names exist, in the
// package named before them.
func TestSecurityDocument(t *testing.T) {
	text, err := os.ReadFile("docs/SECURITY.md")
	must(t, "reading the document", err)
	named := regexp.MustCompile("(?:(?:^|; |\\| )([a-z./]+))?((?: `(?:Test|Fuzz)\\w+`)+)")
	name := regexp.MustCompile("`(\\w+)`")
	declared := map[string]string{} // by directory: all its tests
	found := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 3 || cells[2] == "tests |" {
			continue
		}
		dir := ""
		for _, m := range named.FindAllStringSubmatch("| "+cells[2], -1) {
			if m[1] != "" {
				dir = m[1]
			}
			if declared[dir] == "" {
				files, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
				for _, f := range files {
					b, err := os.ReadFile(f)
					must(t, "reading", err)
					declared[dir] += string(b)
				}
			}
			for _, n := range name.FindAllStringSubmatch(m[2], -1) {
				found++
				if !strings.Contains(declared[dir], "func "+n[1]+"(") {
					t.Errorf("%s has no %s, which stands for %q", dir, n[1], cells[0])
				}
			}
		}
	}
	if found < 80 {
		t.Errorf("only %d tests are named: is the table still read?", found)
	}
}
