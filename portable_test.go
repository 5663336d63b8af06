package anysock_test

import (
	"errors"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// What a platform may lack, for tests of just that: docs/ARCHITECTURE.md.

// needOwnSockets skips a test where sockets are package net's, which lacks what.
func needOwnSockets(t testing.TB, what string) {
	t.Helper()
	s, err := sys.Open(sys.Unix)
	must(t, "socket", err)
	defer s.Close()
	if s.Num() < 0 {
		t.Skip("package net " + what)
	}
}

// acksKnown reports whether the platform tells what was acknowledged.
func acksKnown(t testing.TB) bool {
	t.Helper()
	return capsOfAddress(t, "tcp://h:1").Has(anysock.CapCloseAck)
}

// needAcks skips a test of acknowledgements where there are none to see.
func needAcks(t testing.TB) {
	t.Helper()
	if !acksKnown(t) {
		t.Skip("this platform does not tell what was acknowledged")
	}
}

// hasEpoll reports whether there is a Selector, and Wait for more than what
// reading tells.
func hasEpoll(t testing.TB) bool {
	t.Helper()
	s, err := anysock.NewSelector()
	if errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	must(t, "NewSelector", err)
	must(t, "close", s.Close())
	return true
}

// needEpoll skips a test of that where there is none.
func needEpoll(t testing.TB) {
	t.Helper()
	if !hasEpoll(t) {
		t.Skip("this platform has no epoll")
	}
}
