// This file holds the tests' frame: what they leave behind is an error.

package vsock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testBound is for what must happen, on a busy machine.
const testBound = 20 * time.Second

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testBound)
	t.Cleanup(cancel)
	return ctx
}

// needsVsock skips where the kernel has no such sockets.
func needsVsock(t *testing.T) {
	t.Helper()
	s, err := sys.Open(sys.Vsock)
	if err != nil {
		t.Skipf("this kernel has no vsock: %v", err)
	}
	s.Close()
}

// needsLoopback skips where a machine cannot connect to itself.
func needsLoopback(t *testing.T) {
	t.Helper()
	needsVsock(t)
	if err := loopback(); err != nil {
		t.Skipf("%v (module vsock_loopback)", err)
	}
}

// as requires an *anysock.Error of a kind.
func as(t *testing.T, err error, kind anysock.Kind) *anysock.Error {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Fatalf("want an *anysock.Error, got %T %v", err, err)
	}
	if e.Kind != kind {
		t.Fatalf("want %v, got %v: %v", kind, e.Kind, e)
	}
	return e
}
