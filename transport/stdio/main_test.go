// This file holds the tests' frame: what they leave behind is an error, and
// with a role in the environment the test binary is a program that tests run.

package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"go.uber.org/goleak"
)

const (
	roleVariable = "ANYSOCK_STDIO_ROLE"
	addrVariable = "ANYSOCK_STDIO_ADDR"
)

// roles are the programs.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		role := roles[name]
		if role == nil {
			fmt.Fprintln(os.Stderr, "no such role:", name)
			os.Exit(2)
		}
		if err := role(); err != nil {
			var status statusError
			if errors.As(err, &status) {
				os.Exit(int(status))
			}
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// A program with the race detector would otherwise stay a second longer.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	goleak.VerifyTestMain(m)
}

// A statusError is how a role ends.
type statusError int

func (s statusError) Error() string { return fmt.Sprint("exit status ", int(s)) }

// testBound is for what must happen, on a busy machine.
const testBound = 20 * time.Second

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testBound)
	t.Cleanup(cancel)
	return ctx
}

// runs is the address of this binary in a role, with more options.
func runs(role string, options ...string) string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	a := "exec:" + exe + "?env=" + roleVariable + "=" + role
	for _, o := range options {
		a += "&" + o
	}
	return a
}

// program is the address of a program with arguments.
func programWith(path string, args ...string) string {
	a := "exec:" + path
	for i, arg := range args {
		sep := "&"
		if i == 0 {
			sep = "?"
		}
		a += sep + "arg=" + escape(arg)
	}
	return a
}

func escape(s string) string {
	// Query escaping, but a space is %20.
	var b []byte
	for _, part := range []byte(url.QueryEscape(s)) {
		if part == '+' {
			b = append(b, "%20"...)
			continue
		}
		b = append(b, part)
	}
	return string(b)
}

func dial(t *testing.T, address string) *anysock.Conn {
	t.Helper()
	c, err := anysock.Dial(bounded(t), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if n, err := io.WriteString(w, s); err != nil || n != len(s) {
		t.Fatalf("write: %d of %d bytes, %v", n, len(s), err)
	}
}

// all reads to the end of file.
func all(t *testing.T, r io.Reader) string {
	t.Helper()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %d bytes (%.100q): %v", len(p), p, err)
	}
	return string(p)
}

// graceful disconnects and wants nothing but that.
func graceful(t *testing.T, c *anysock.Conn) anysock.End {
	t.Helper()
	end, err := c.Disconnect(bounded(t))
	if err != nil || end.How != anysock.Graceful {
		t.Fatalf("disconnect: %v, %v", end, err)
	}
	return end
}

func kindOf(t *testing.T, err error) anysock.Kind {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *anysock.Error: %v", err)
	}
	return e.Kind
}
