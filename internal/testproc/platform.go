package testproc

import (
	"errors"
	"testing"

	"github.com/anysock/anysock/internal/sys"
)

// This file says what the platform lacks that tests are about, where the API
// does not declare it.

// HasEpoll reports whether there is a Selector, and word of a peer's failure
// before it is read or written to.
func HasEpoll(t testing.TB) bool {
	t.Helper()
	p, err := sys.NewPoller()
	if errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}
