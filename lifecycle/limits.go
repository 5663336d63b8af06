// This file names every bound of the protocol (docs/LIFECYCLE-PROTOCOL.md,
// section 7) and of this implementation.

package lifecycle

import "time"

// The protocol's bounds.
const (
	MaxOpening = 4096      // bytes of an opening
	MaxData    = 64 << 10  // bytes of one DATA frame's payload
	MaxReason  = 256       // bytes of an ABORT's reason
	MaxIgnored = 4096      // bytes of the payload of a frame that is skipped
	MarkEvery  = 256 << 10 // DATA bytes after which a PING asks how far the peer is
)

// The defaults of liveness, for the idle connection.
const (
	DefaultPingIdle     = 30 * time.Second // first PING after this silence
	DefaultPingInterval = 10 * time.Second // between PINGs
	DefaultPingCount    = 3                // unanswered PINGs until the peer is lost
)

// DefaultHops is the hop limit that a dialer sends.
const DefaultHops = 16

const (
	// readAhead is the pooled buffer for headers and small frames while data
	// flows; an idle connection has smallAhead in its struct instead.
	readAhead  = 16 << 10
	smallAhead = 64
	// bigFrame is a payload that is received where the program wants it, and
	// not into the buffer first: the next one is expected to be as big.
	bigFrame = 8 << 10
	// watchAfter is how long a program may not read until somebody else looks
	// at the carrier for it.
	watchAfter = 200 * time.Millisecond
	// pongEvery is the least time between two PONGs.
	pongEvery = 10 * time.Millisecond
	// lookBound bounds the look for an ABORT after a write has failed.
	lookBound = 50 * time.Millisecond
	// abortGrace bounds how long an ABORT waits for a carrier that is full.
	abortGrace = 20 * time.Millisecond
	// closeGrace bounds how long Close waits for answers that are on their way.
	closeGrace = 50 * time.Millisecond
)
