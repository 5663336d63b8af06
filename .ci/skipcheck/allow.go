// The list of allowed skips: one a line, a pattern, a tab, the reason. Lines that start with #
// are comments. A pattern is a regular expression that has to match the whole of package/TestName,
// with the package's import path; an exact name is such a pattern too.

package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// allowed is one line of the list.
type allowed struct {
	pattern string
	line    int
	match   *regexp.Regexp
	used    bool // a skipped test matched
}

type allowList []*allowed

// readAllowList reads the file. A line without a reason is an error.
func readAllowList(name string) (allowList, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list allowList
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, why, _ := strings.Cut(line, "\t")
		if strings.TrimSpace(why) == "" {
			return nil, fmt.Errorf("%s:%d: want a pattern, a tab and the reason", name, number)
		}
		match, err := regexp.Compile(`^(?:` + pattern + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
		list = append(list, &allowed{pattern: pattern, line: number, match: match})
	}
	return list, nil
}

// allows reports whether a pattern matches the test's full name, and notes which.
func (list allowList) allows(name string) bool {
	found := false
	for _, e := range list {
		if e.match.MatchString(name) {
			e.used, found = true, true
		}
	}
	return found
}
