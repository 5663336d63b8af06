package relay_test

import (
	"flag"
	"testing"

	"github.com/anysock/anysock/internal/testproc"
)

// full asks for the whole of TestManyConnections.
var full = flag.Bool("relay.full", false, "relay 10,000 connections, 1,000 at a time, instead of 1,000")

func TestMain(m *testing.M) { testproc.Main(m, testproc.Frame{AtOnce: 8}) }

// descriptors counts the open ones; 0 where that cannot be known.
func descriptors() int { return len(testproc.Descriptors()) }
