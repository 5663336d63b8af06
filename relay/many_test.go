package relay_test

import (
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/losses"
)

// TestManyConnections: random sizes, slow readers, all orders of closing; no
// byte is lost and no end is false. With -relay.full it is 10,000, 1,000 at a
// time.
func TestManyConnections(t *testing.T) { onEngines(t, testManyConnections) }

func testManyConnections(t *testing.T) {
	total, atOnce := 1000, 200
	if *full {
		total, atOnce = 10_000, 1000
	}
	leg := losses.Leg{
		Listen: address(t, "tcp"), Dial: dialable,
		Caps: anysock.CapHalfClose | anysock.CapAbort,
	}
	losses.RunOn(t, loops, total, atOnce, leg, leg)
}
