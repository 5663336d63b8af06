package all_test

import (
	"slices"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/losses"
)

// TestManyConnections: random sizes, slow readers and all orders of closing,
// over pairs of transports; no byte is lost and no end is false. With -all.full
// it is 10,000 connections for each pair, 1,000 at a time. With quic it is 100:
// on a busy machine so many outlast the bounds of a disconnect, which the
// endings then say.
func TestManyConnections(t *testing.T) {
	total, atOnce := 300, 60
	if *full {
		total, atOnce = 10_000, 1000
	}
	all := carriers(t)
	leg := func(t *testing.T, name string) losses.Leg {
		i := slices.IndexFunc(all, func(c carrier) bool { return c.name == name })
		c := all[i]
		return losses.Leg{
			Listen: c.listen(t), Caps: c.caps,
			Dial:   func(ln *anysock.Listener) string { return c.dial(c.at(ln)) },
			Hidden: name == "socks5",
		}
	}
	// One after the other: each fills the machine.
	for _, pair := range [][2]string{
		{"tcp", "tls"},
		{"tls", "tcp"},
		{"tcp", "wss"},
		{"wss", "tcp"},
		{"tcp", "quic"},
		{"quic", "tcp"},
		{"unix", "tls"},
		{"tls", "unix"},
		{"tcp", "socks5"},
		{"socks5", "tcp"},
	} {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			most := atOnce
			if slices.Contains(pair[:], "quic") {
				most = min(most, 100)
			}
			losses.Run(t, total, most, leg(t, pair[0]), leg(t, pair[1]))
		})
	}
}
