package all_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/testproc"
)

// full asks for the whole of TestManyConnections.
var full = flag.Bool("all.full", false, "relay 10,000 connections for each pair of transports, 1,000 at a time, instead of 300")

func TestMain(m *testing.M) {
	// The tests wait more than they work. A UDP socket of quic outlives its
	// connection for three probe timeouts, which on a busy machine are long.
	testproc.Main(m, testproc.Frame{AtOnce: 8, Patience: patience})
}

// patience bounds what must happen, on a busy machine.
const patience = 30 * time.Second

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
