// This file tests what tells an abort from an end when both come at once.

package ssh

import (
	"errors"
	"io"
	"testing"

	"github.com/anysock/anysock/internal/deadline"
	xssh "golang.org/x/crypto/ssh"
)

// A closingChannel is closed by the other side just as a request is sent.
type closingChannel struct {
	xssh.Channel
	before func() // the close comes
	err    error  // of CloseWrite
}

func (c *closingChannel) SendRequest(string, bool, []byte) (bool, error) {
	c.before()
	return false, io.EOF // what the library says then
}

func (c *closingChannel) CloseWrite() error { return c.err }

// ours is a connection to a peer of ours.
type ours struct{ xssh.Conn }

func (ours) ServerVersion() []byte { return []byte(version) }

// A close without an end before it is an abort, unless our end went out before:
// then it is the answer, however late we look.
func TestCloseWhileLooking(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ends    bool // we end while the close comes
		err     error
		closed  bool // and the library has said so
		aborted bool
	}{
		{name: "close alone", aborted: true},
		{name: "close, known", closed: true, aborted: true},
		{name: "our end, then a close", ends: true},
		{name: "a close, then our end", ends: true, err: io.EOF, aborted: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reqs := make(chan *xssh.Request)
			if tt.closed {
				close(reqs)
			}
			s := &stream{n: &connection{ssh: ours{}}, reqs: reqs, gone: make(chan struct{})}
			close(s.gone)
			s.w = deadline.NewWriter(func(p []byte) (int, error) { return len(p), nil })
			defer s.w.Close()
			s.ch = &closingChannel{err: tt.err, before: func() {
				if !tt.ends {
					return
				}
				if err := s.sendEnd(); (err != nil) != (tt.err != nil) || errors.Is(err, io.EOF) {
					t.Errorf("our end: %v", err)
				}
			}}
			if got := s.aborted(); got != tt.aborted {
				t.Errorf("aborted: %t", got)
			}
			s.n.wg.Wait()
		})
	}
}
