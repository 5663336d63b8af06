// This file registers the scheme word lc: its options, its capabilities, and
// the handshake of either side.

package lifecycle

import (
	"context"
	"crypto/rand"
	"net"
	"time"

	"github.com/anysock/anysock"
)

func init() {
	anysock.Register(anysock.Transport{
		Scheme: "lc",
		Options: []anysock.OptionSpec{
			{Name: "pingcount", Type: anysock.OptionInt, Dial: true, Listen: true, Help: "unanswered signs of life until the peer is lost (default 3)"},
			{Name: "pingidle", Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "ask for a sign of life after this silence (default 30s; 0 never)"},
			{Name: "pinginterval", Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "between unanswered signs of life (default 10s)"},
		},
		Caps:   func(below anysock.Caps, _ anysock.Target) anysock.Caps { return capsOver(below) },
		Client: client,
		Server: server,
	})
}

// own are the capabilities that lc adds to any carrier.
const own = anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapCloseAck

// capsOver is what lc over such a carrier can do.
func capsOver(below anysock.Caps) anysock.Caps {
	return own | below&(anysock.CapDeadline|anysock.CapPeerID|anysock.CapBindSource)
}

// liveness is when an idle peer is asked for a sign of life.
type liveness struct {
	idle     time.Duration // 0 is never
	interval time.Duration
	count    int
}

func livenessOf(t anysock.Target) liveness {
	l := liveness{
		idle:     t.Duration("pingidle", DefaultPingIdle),
		interval: t.Duration("pinginterval", DefaultPingInterval),
		count:    t.Int("pingcount", DefaultPingCount),
	}
	if l.interval == 0 {
		l.interval = DefaultPingInterval
	}
	if l.count == 0 {
		l.count = DefaultPingCount
	}
	return l
}

// client sends the opening and waits for the peer's: Dial succeeds only with a
// peer that speaks the protocol.
func client(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	o := opening{
		lowest: lowestVersion, highest: highestVersion, hops: DefaultHops,
		required: allCapabilities, offered: allCapabilities,
	}
	_, _ = rand.Read(o.correlator[:]) // never fails (crypto/rand)
	if err := dialOpening(ctx, below, &o); err != nil {
		return nil, err
	}
	return newStream(below, livenessOf(t)), nil
}

// server waits for the peer's opening and answers it.
func server(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	if err := acceptOpening(ctx, below); err != nil {
		return nil, err
	}
	return newStream(below, livenessOf(t)), nil
}
