package anysock

import (
	"fmt"
	"slices"
	"strings"
)

// Caps is the set of lifecycle capabilities of a connection. A capability
// that is declared works as the contract says; the call for one that is not
// returns an error that matches errors.ErrUnsupported.
type Caps uint

// The capabilities.
const (
	CapHalfClose  Caps = 1 << iota // CloseWrite: the peer reads end of file, we still read
	CapAbort                       // the peer can tell Abort from an end
	CapCutDetect                   // a carrier that breaks is an error, not an end
	CapDeadline                    // deadlines and cancellation leave the connection usable
	CapCloseAck                    // it is known when our bytes were acknowledged
	CapPeerID                      // the peer's identity is known (TLS name, Unix credentials)
	CapBindSource                  // the local address can be chosen
)

var capNames = []string{"halfclose", "abort", "cutdetect", "deadline", "closeack", "peerid", "bindsource"}

// Has reports whether all of want are in c.
func (c Caps) Has(want Caps) bool { return c&want == want }

// String is the capabilities' names, separated by commas.
func (c Caps) String() string {
	var s []string
	for i, name := range capNames {
		if c&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	if s == nil {
		return "none"
	}
	return strings.Join(s, ",")
}

// ParseCaps reads what String writes.
func ParseCaps(s string) (Caps, error) {
	if s == "none" {
		return 0, nil
	}
	var c Caps
	for name := range strings.SplitSeq(s, ",") {
		i := slices.Index(capNames, name)
		if i < 0 {
			return 0, fmt.Errorf("anysock: %q is no capability: they are %s", name, strings.Join(capNames, ", "))
		}
		c |= 1 << i
	}
	return c, nil
}

// MarshalText is String.
func (c Caps) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseCaps.
func (c *Caps) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCaps(string(b))
	return err
}
