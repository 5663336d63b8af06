// The tests run go test in a module made for the purpose, so that they read what the go command
// really prints.

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	passing  = "func TestPass(t *testing.T) { t.Log(\"unheard\") }\n"
	failing  = "func TestFail(t *testing.T) { t.Log(\"before\"); t.Errorf(\"got 1, want 2\") }\n"
	skipping = "func TestNeeds(t *testing.T) {\n" +
		"\tt.Run(\"ncat\", func(t *testing.T) { t.Skip(\"ncat is not installed\") })\n" +
		"\tt.Run(\"plain\", func(t *testing.T) {})\n}\n"
	panicking = "func TestPanic(t *testing.T) { panic(\"out of cheese\") }\n"
	broken    = "func TestBroken(t *testing.T) { undefined() }\n"
)

func TestSkipcheck(t *testing.T) {
	tests := []struct {
		name   string
		tests  string // the body of the package's test file
		allow  string // the list; empty: no list
		status int
		want   []string
		absent []string
	}{{
		name: "passes", tests: passing, status: 0,
		want:   []string{"\nok  \texample.test/sub", "skipped tests: 0\n", "\ntests: 1 passed, 0 failed, 0 skipped\n", "[no test files]"},
		absent: []string{"unheard", "=== RUN", "{"},
	}, {
		name: "unlisted skip", tests: skipping, status: 1,
		want: []string{"NOT LISTED  example.test/sub/TestNeeds/ncat  sub_test.go:", "ncat is not installed\n", "1 skipped tests are not on the list"},
	}, {
		name: "listed skip", tests: skipping, allow: "# why\n\nexample.test/sub/TestNeeds/ncat\tno ncat here\n", status: 0,
		want:   []string{"listed      example.test/sub/TestNeeds/ncat  sub_test.go:", "tests: 2 passed, 0 failed, 1 skipped\n"},
		absent: []string{"NOT LISTED", "not skipped in this run"},
	}, {
		name: "listed by pattern", tests: skipping, allow: "example.test/.*/ncat\tno ncat here\n", status: 0,
		absent: []string{"NOT LISTED"},
	}, {
		name: "pattern matches a part only", tests: skipping, allow: "TestNeeds/ncat\tno ncat here\n", status: 1,
		want: []string{"NOT LISTED", "listed but not skipped in this run: TestNeeds/ncat (line 1)\n"},
	}, {
		name: "listed but not skipped", tests: passing, allow: "example.test/sub/TestGone\tno ncat here\n", status: 0,
		want: []string{"listed but not skipped in this run: example.test/sub/TestGone (line 1)\n"},
	}, {
		name: "fails", tests: passing + failing, status: 1,
		want:   []string{"--- FAIL: TestFail (", "before\n", "got 1, want 2\n", "FAIL\texample.test/sub\t", "failed: 1 tests in 1 packages\n", "tests: 1 passed, 1 failed, 0 skipped\n"},
		absent: []string{"unheard", "=== RUN"},
	}, {
		name: "panics", tests: panicking, status: 1,
		want: []string{"panic: out of cheese", "FAIL\texample.test/sub\t"},
	}, {
		name: "does not compile", tests: broken, status: 1,
		want: []string{"undefined: undefined", "FAIL\texample.test/sub [build failed]\n", "no test ran\n"},
	}, {
		name: "nothing to test", tests: "var _ testing.TB\n", status: 1,
		want: []string{"[no tests to run]", "no test ran\n"},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "go.mod", "module example.test\n\ngo 1.26\n")
			write(t, dir, "root.go", "package root\n")
			write(t, dir, "sub/sub.go", "package sub\n")
			write(t, dir, "sub/sub_test.go", "package sub\n\nimport \"testing\"\n\n"+test.tests)
			allowFile := ""
			if test.allow != "" {
				allowFile = write(t, dir, "skips", test.allow)
			}
			command := exec.Command("go", "test", "-json", "./...")
			command.Dir = dir
			command.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
			events, _ := command.Output() // a failing test is a failing go test: the status is in the events
			var out bytes.Buffer
			status, err := run(bytes.NewReader(events), &out, allowFile)
			if err != nil {
				t.Fatal(err)
			}
			got := "\n" + out.String()
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("the report lacks %q", want)
				}
			}
			for _, absent := range test.absent {
				if strings.Contains(got, absent) {
					t.Errorf("the report has %q", absent)
				}
			}
			if t.Failed() {
				t.Logf("report:%s", got)
			}
		})
	}
}

func TestListWithoutReason(t *testing.T) {
	for _, list := range []string{"example.test/sub/TestNeeds\n", "example.test/sub/TestNeeds\t\n", "a(b\tbad pattern\n"} {
		name := write(t, t.TempDir(), "skips", "# comment\n"+list)
		if _, err := run(strings.NewReader(""), &bytes.Buffer{}, name); err == nil || !strings.Contains(err.Error(), ":2:") {
			t.Errorf("list %q: error %v, want one that names line 2", list, err)
		}
	}
}

// TestOutputIsBounded feeds a test that prints without end: its end is kept, and the verdict.
func TestOutputIsBounded(t *testing.T) {
	var in bytes.Buffer
	chatter := `{"Action":"output","Package":"p","Test":"T","Output":"` + strings.Repeat("x", 1<<16) + `\n"}` + "\n"
	for range 64 {
		in.WriteString(chatter)
	}
	in.WriteString(`{"Action":"output","Package":"p","Test":"T","Output":"the last word\n"}` + "\n")
	in.WriteString(`{"Action":"fail","Package":"p","Test":"T"}` + "\n")
	var out bytes.Buffer
	status, err := run(&in, &out, "")
	if err != nil || status != 1 {
		t.Fatalf("status %d, error %v", status, err)
	}
	if out.Len() > 3*maxOutput || !strings.Contains(out.String(), "the last word\n") {
		t.Errorf("%d bytes printed, with the last word: %v", out.Len(), strings.Contains(out.String(), "the last word\n"))
	}
}

// write makes a file and the directories that it needs, and returns its name.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
