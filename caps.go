package anysock

import "strings"

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
