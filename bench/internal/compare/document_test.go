package compare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplaceKeepsWhatPeopleWrote(t *testing.T) {
	document := "# Title\n\nWords.\n"
	for _, step := range []struct{ set, section string }{{"echo", "old"}, {"relay", "first"}, {"echo", "new"}} {
		var err error
		if document, err = Replace(document, step.set, step.section+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	document = strings.Replace(document, "<!-- end of compare echo -->", "<!-- end of compare echo -->\n\nBetween.", 1)
	document, err := Replace(document, "echo", "newest")
	if err != nil {
		t.Fatal(err)
	}
	b, e := markers("echo")
	rb, re := markers("relay")
	want := "# Title\n\nWords.\n\n" + b + "\n\nnewest\n\n" + e + "\n\nBetween.\n\n" + rb + "\n\nfirst\n\n" + re + "\n"
	if document != want {
		t.Errorf("got\n%s\nwant\n%s", document, want)
	}
}

func TestReplaceRefusesHalfASection(t *testing.T) {
	begin, end := markers("echo")
	if document, err := Replace("a\n"+begin+"\nb\n", "echo", "c"); err == nil || !strings.Contains(err.Error(), end) {
		t.Errorf("a section without its end: %q, error %v", document, err)
	}
}

func TestPublishMakesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "B.md")
	for _, section := range []string{"one", "two"} {
		if err := Publish(file, "echo", section); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	begin, end := markers("echo")
	if want := begin + "\n\ntwo\n\n" + end + "\n"; err != nil || string(text) != want {
		t.Errorf("the file holds %q, error %v, want %q", text, err, want)
	}
}
