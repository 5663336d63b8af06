package sys

import "strings"

// Ready is a set of conditions a Poller waits for or found.
type Ready uint8

// The conditions. Failed and HungUp are always reported.
const (
	Readable Ready = 1 << iota // data, the peer's end, or a connection to accept
	Writable                   // room to send
	PeerEnd                    // the peer ended its direction
	HungUp                     // both directions are over
	Failed                     // an error is pending; it is not consumed by looking
)

func (r Ready) String() string {
	var s []string
	for i, name := range []string{"readable", "writable", "peer-end", "hung-up", "failed"} {
		if r&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	if s == nil {
		return "none"
	}
	return strings.Join(s, "|")
}

// A PollEvent is one descriptor's readiness.
type PollEvent struct {
	Key   uint64 // as given to Add
	Ready Ready
}
