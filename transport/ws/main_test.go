// This file holds the tests' frame: what they leave behind is an error. It
// registers an lc that does nothing, to see what ws does under one.

package ws

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	through := func(_ context.Context, below *anysock.Conn, _ anysock.Target) (net.Conn, error) { return below, nil }
	anysock.Register(anysock.Transport{Scheme: "lc", Client: through, Server: through})
	goleak.VerifyTestMain(m)
}

// testBound is for what must happen, on a busy machine.
const testBound = 20 * time.Second

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testBound)
	t.Cleanup(cancel)
	return ctx
}

// listen listens until the test is over.
func listen(t testing.TB, addr string) *anysock.Listener {
	t.Helper()
	ln, err := anysock.Listen(bounded(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// accept takes the next connection; it is aborted when the test is over.
func accept(t testing.TB, ln *anysock.Listener) *anysock.Conn {
	t.Helper()
	c, err := ln.AcceptContext(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	return c
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
