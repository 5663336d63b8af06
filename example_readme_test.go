package anysock_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

func Example() {
	ctx := context.Background()
	c, err := anysock.Dial(ctx, "echo:") // or tcp://host:3005, unix:/run/x.sock, ...
	if err != nil {
		fmt.Println(err) // the step, the address, the cause, every attempt
		return
	}
	fmt.Fprint(c, "hello")
	c.CloseWrite()              // our end; the reply still comes
	reply, err := io.ReadAll(c) // an error unless the peer ended in order
	fmt.Println(string(reply), err)
	end, err := c.Disconnect(ctx) // waits until it is done, and says how
	fmt.Println(end.How, err)
	// Output:
	// hello <nil>
	// graceful <nil>
}

// TestReadmeExample: the README shows the example above, word for word.
func TestReadmeExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("README.md has no Go example")
	}
	self, err := os.ReadFile("example_readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	body := regexp.MustCompile(`(?s)func Example\(\) \{\n(.*?)\t// Output:`).FindSubmatch(self)
	if normal(string(block[1])) != normal(string(body[1])) {
		t.Errorf("README.md:\n%s\nexample_readme_test.go:\n%s", block[1], body[1])
	}
	if n := strings.Count(strings.TrimSpace(string(block[1])), "\n") + 1; n > 15 {
		t.Errorf("the example has %d lines; 15 is the most", n)
	}
}

// normal drops indentation and alignment.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }
