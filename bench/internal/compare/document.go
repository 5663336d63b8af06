package compare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// markers stand around the part of a document that a set of comparisons owns.
func markers(set string) (begin, end string) {
	return fmt.Sprintf("<!-- compare %s: written by bench/cmd/compare, edits are lost -->", set),
		fmt.Sprintf("<!-- end of compare %s -->", set)
}

// Replace puts the section of a set in place of its last one, or at the end of
// the document. What people wrote around it stays.
func Replace(document, set, section string) (string, error) {
	begin, end := markers(set)
	section = begin + "\n\n" + strings.TrimSpace(section) + "\n\n" + end
	before, rest, found := strings.Cut(document, begin)
	if !found {
		if document != "" {
			document = strings.TrimRight(document, "\n") + "\n\n"
		}
		return document + section + "\n", nil
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("the document has %q and not %q", begin, end)
	}
	return before + section + after, nil
}

// Publish writes the section into a file, which it makes if there is none.
func Publish(file, set, section string) error {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	document, err := Replace(string(text), set, section)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(document), 0o644)
}
