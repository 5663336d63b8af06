package anysock_test

import (
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/internal/testproc"
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

// needEpoll skips a test of that where there is none.
func needEpoll(t testing.TB) {
	t.Helper()
	if !testproc.HasEpoll(t) {
		t.Skip("this platform has no epoll")
	}
}
