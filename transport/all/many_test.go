package all_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/losses"
)

// TestManyConnections: random sizes, slow readers and all orders of closing,
// over pairs of transports; no byte is lost and no end is false. With -all.full
// it is 10,000 connections for each pair, 1,000 at a time. With quic it is 500:
// one UDP socket takes the packets of all of them, and when more send at once
// than two processors can serve, it overflows and a round trip takes seconds;
// then one packet lost can outlast the ten seconds for a handshake.
func TestManyConnections(t *testing.T) {
	total, atOnce := 300, 60
	if *full {
		total, atOnce = 10_000, 1000
	}
	all := carriers(t)
	leg := func(t *testing.T, name string, patient bool) losses.Leg {
		i := slices.IndexFunc(all, func(c carrier) bool { return c.name == name })
		c := all[i]
		l := losses.Leg{
			Listen: c.listen(t), Caps: c.caps,
			Dial:   func(ln *anysock.Listener) string { return c.dial(c.at(ln)) },
			Hidden: name == "socks5",
		}
		if patient {
			l.Listen = with(l.Listen, "draintimeout=1m")
			l.Dial = func(ln *anysock.Listener) string { return with(c.dial(c.at(ln)), "timeout=1m&draintimeout=1m") }
		}
		return l
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
			most, patient := atOnce, false
			if *full && slices.Contains(pair[:], "quic") {
				most, patient = 500, true
			}
			losses.Run(t, total, most, leg(t, pair[0], patient), leg(t, pair[1], patient))
		})
	}
}

// with adds options to an address.
func with(address, options string) string {
	if strings.Contains(address, "?") {
		return address + "&" + options
	}
	return address + "?" + options
}
