// This file tests what an ABORT of ours says, and to whom.

package lifecycle

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// TestAbortSaysWhy: the code of an *AbortError, else one for the ending; and
// never the text of an error of ours, which is none of the peer's business.
func TestAbortSaysWhy(t *testing.T) {
	secret := errors.New("open /etc/secret: permission denied")
	for _, tt := range []struct {
		name  string
		abort func(c *anysock.Conn) error
		want  []byte
	}{
		{"Abort", (*anysock.Conn).Abort, aborted(CodeNone, "")},
		{"ours", func(c *anysock.Conn) error { return c.AbortAs(anysock.AbortedByUs, secret) }, aborted(CodeNone, "")},
		{"idle", func(c *anysock.Conn) error { return c.AbortAs(anysock.Idle, secret) }, aborted(CodeIdle, "")},
		{"refused", func(c *anysock.Conn) error { return c.AbortAs(anysock.Refused, secret) }, aborted(CodeRefused, "")},
		{"truncated", func(c *anysock.Conn) error { return c.AbortAs(anysock.Truncated, secret) }, aborted(CodeTruncated, "")},
		{"lost", func(c *anysock.Conn) error { return c.AbortAs(anysock.Lost, secret) }, aborted(CodeLost, "")},
		{"by a program", func(c *anysock.Conn) error {
			return c.AbortAs(anysock.AbortedByUs, &AbortError{CodeProgram, "quota"})
		}, aborted(CodeProgram, "quota")},
		{"passed on by a relay", func(c *anysock.Conn) error {
			return c.AbortAs(anysock.AbortedByPeer, &anysock.Error{Kind: anysock.KindReset, Err: fmt.Errorf("read: %w", &AbortError{CodeProgram + 1, "x"})})
		}, aborted(CodeProgram+1, "x")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, raw := withRawPeer(t, liveness{})
			if err := tt.abort(c); err != nil {
				t.Error(err)
			}
			raw.expect(tt.want)
			if rest, err := readAll(raw); rest != "" || kindOf(err) != anysock.KindReset {
				t.Errorf("behind it came %q, %v; want the carrier's reset", rest, err)
			}
		})
	}
}

// TestCodesHaveNames that people can read.
func TestCodesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for c := CodeNone; c <= CodeLost; c++ {
		if s := c.String(); s == "" || seen[s] || strings.HasPrefix(s, "code ") {
			t.Errorf("code %d is called %q", uint16(c), s)
		} else {
			seen[s] = true
		}
	}
	if s := Code(4097).String(); s != "code 4097" {
		t.Errorf("a program's code is called %q", s)
	}
}
