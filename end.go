package anysock

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// How says how a connection ended. Exactly one of these is set, once.
//
//	            their end seen   ours acknowledged   what happened
//	Graceful    yes              yes (or unknowable) both directions ended in order
//	Delivered   no               yes (or unknowable) we closed; they had not ended within the bound
//	AbortedByUs                                      Abort, or a bound that says abort
//	AbortedByPeer                                    a reset
//	Truncated                                        the carrier was cut without an end
//	Lost                                             silence: nothing heard for the bound
//	Idle                                             no data either way for the relay's idle timeout
//	Refused                                          the onward target could not be reached
//
// Where AckedBy is AckedNone, nobody could say whether our bytes arrived.
type How int

// The ways to end.
const (
	NotEnded How = iota
	Graceful
	Delivered
	AbortedByUs
	AbortedByPeer
	Truncated
	Lost
	Idle
	Refused
	howCount
)

var howNames = [howCount]string{
	"not ended", "graceful", "delivered", "aborted by us", "aborted by peer",
	"truncated", "lost", "idle", "refused",
}

// String is the field's word for it.
func (h How) String() string {
	if h < 0 || h >= howCount {
		return fmt.Sprintf("How(%d)", int(h))
	}
	return howNames[h]
}

// MarshalText is String.
func (h How) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Complete reports whether nothing of ours was lost as far as can be known:
// Graceful or Delivered.
func (h How) Complete() bool { return h == Graceful || h == Delivered }

// A Side is one of the two ends of a connection.
type Side int

// The sides.
const (
	Nobody Side = iota // not known, or the path between them
	Us
	Peer
)

// String is "us", "peer" or "nobody".
func (s Side) String() string { return [...]string{"nobody", "us", "peer"}[s] }

// MarshalText is String.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Ack says who acknowledged our bytes.
type Ack int

// Who acknowledged.
const (
	AckedNone   Ack = iota // nobody: the carrier has no acknowledgement, or it had not come
	AckedKernel            // the next hop's kernel has the bytes; its program may not have read them
	AckedPeer              // the peer's program confirmed them (lc only)
)

// String is "none", "kernel" or "peer".
func (a Ack) String() string { return [...]string{"none", "kernel", "peer"}[a] }

// MarshalText is String.
func (a Ack) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// An End is the record of how a connection ended.
type End struct {
	How      How   `json:"how"`
	By       Side  `json:"by"` // who ended first: sent the first end, or aborted
	AckedBy  Ack   `json:"acked_by"`
	Sent     int64 `json:"sent"`     // bytes accepted by Write
	Received int64 `json:"received"` // bytes handed to Read, and drained ones
	Unacked  int64 `json:"unacked"`  // of Sent, not acknowledged at the end
	Drained  int64 `json:"drained"`  // of Received, discarded by Disconnect or Close

	Local net.Addr `json:"-"`
	Peer  net.Addr `json:"-"`

	Opened        time.Time `json:"opened"`
	FirstReceived time.Time `json:"first_received,omitzero"` // the first byte came in
	WriteEnded    time.Time `json:"write_ended,omitzero"`    // our end went out
	ReadEnded     time.Time `json:"read_ended,omitzero"`     // theirs came in
	Ended         time.Time `json:"ended"`

	Err error `json:"-"` // the error behind anything that is not Complete
}

// String is one line for people.
func (e End) String() string {
	var b strings.Builder
	b.WriteString(e.How.String())
	if e.How == NotEnded {
		return b.String()
	}
	fmt.Fprintf(&b, ": %d sent, %d received", e.Sent, e.Received)
	if e.Drained > 0 {
		fmt.Fprintf(&b, " (%d drained)", e.Drained)
	}
	if e.Unacked > 0 {
		fmt.Fprintf(&b, ", %d unacknowledged", e.Unacked)
	}
	if e.By != Nobody {
		fmt.Fprintf(&b, ", ended by %s", e.By)
	}
	if e.AckedBy != AckedNone {
		fmt.Fprintf(&b, ", acknowledged by %s", e.AckedBy)
	}
	fmt.Fprintf(&b, ", %s", e.Ended.Sub(e.Opened).Round(10*time.Microsecond))
	return b.String()
}

// An IdleError is the reason of an Idle ending: whoever served the connection
// (loop, relay) gives up one that moves no data.
type IdleError struct {
	After time.Duration // without data in either direction
}

func (e *IdleError) Error() string { return "no data in either direction for " + e.After.String() }

// Timeout reports true.
func (e *IdleError) Timeout() bool { return true }
