package verify

// This file holds what can be wrong with a connection, and the judgement on one:
// what its two ends have seen, compared with what they did.

import (
	"fmt"
	"strings"

	"github.com/anysock/anysock"
)

// A Fault is what was wrong with a connection. Of several on one connection the
// highest counts: what follows from it is not told.
type Fault uint8

// The faults. Refused and Broken are told to whom they concern; what is beyond
// them is not.
const (
	None       Fault = iota
	Refused          // the connection could not be made
	Broken           // it was reset or cut though both ends were in order
	Unknown          // what became of it at the server could not be found out
	Hang             // what had to come did not: bytes, an end, an abort
	FalseEnd         // an end of file although the sender had not finished
	LostBytes        // an end of file in order before all bytes
	ExtraBytes       // bytes that nobody sent
	WrongBytes       // other bytes than those sent
	faultCount
)

var faultNames = [faultCount]string{
	"none", "refused", "broken", "unknown", "hang", "false-end", "lost-bytes", "extra-bytes", "wrong-bytes",
}

// faultMeanings are for people.
var faultMeanings = [faultCount]string{
	Refused:    "could not be made",
	Broken:     "were broken off with an error although both ends were in order",
	Unknown:    "could not be followed at the far end",
	Hang:       "hung: something did not come in time",
	FalseEnd:   "were told an end of file although the sender had not finished",
	LostBytes:  "lost bytes before an end of file",
	ExtraBytes: "got bytes that nobody had sent",
	WrongBytes: "got wrong bytes",
}

// String is the fault's name.
func (f Fault) String() string {
	if f < faultCount {
		return faultNames[f]
	}
	return fmt.Sprintf("fault %d", byte(f))
}

// Meaning says of connections what it is, for people.
func (f Fault) Meaning() string {
	if f < faultCount {
		return faultMeanings[f]
	}
	return ""
}

// MarshalText is String.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (f *Fault) UnmarshalText(b []byte) error {
	for i, name := range faultNames {
		if name == string(b) {
			*f = Fault(i)
			return nil
		}
	}
	return fmt.Errorf("there is no fault %q", b)
}

// Told reports whether who is concerned was told by an error.
func (f Fault) Told() bool { return f == Refused || f == Broken }

// A Side is one of the two ends of a connection of a run.
type Side uint8

// The sides.
const (
	Client Side = iota
	Far         // the server's
)

// String is "client" or "server".
func (s Side) String() string {
	if s == Far {
		return "server"
	}
	return "client"
}

// MarshalText is String.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// An Outcome is what one end has seen. It checks against the plan what it can
// by itself.
type Outcome struct {
	Fault Fault  `json:"fault"`
	Saw   string `json:"saw,omitempty"` // of a fault: what it was, in words
	// Ended is the ending that came: one of the constants below; empty where
	// none was waited for.
	Ended string `json:"ended,omitempty"`
	// Finished says that this end sent all of its message and ended in order.
	Finished bool  `json:"finished,omitempty"`
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	Missing  int64 `json:"missing,omitempty"` // bytes that did not come before an end of file

	// canceled: the run was cut short, and the fault says nothing.
	canceled bool
}

// How a stream can end for who reads it.
const (
	sawEnd   = "end"
	sawReset = "reset"
	sawCut   = "cut"
	sawLost  = "lost"
	sawError = "error"
)

// downgradeTo says what an abort became.
var downgradeTo = map[string]string{
	sawEnd: abortBecameEnd, sawCut: "abort became a cut", sawLost: "abort became a loss", sawError: "abort became another error",
}

const abortBecameEnd = "abort became an end"

// A Finding is a connection that was not as it had to be.
type Finding struct {
	Number uint64 `json:"number"`
	Order  Order  `json:"order"`
	Fault  Fault  `json:"fault"`
	Side   Side   `json:"side"` // who saw it
	Lost   int64  `json:"lost_bytes,omitempty"`
	Text   string `json:"text"`
	Plan   string `json:"plan"`
	// Client and Server are what both ends saw; Server is empty if it never
	// knew of the connection.
	Client Outcome  `json:"client"`
	Server *Outcome `json:"server,omitempty"`

	unasked bool // the server could not be asked
}

// String is one line for people.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: the %s %s (%s)", f.Fault, f.Side, f.Text, f.Plan)
	switch {
	case f.Server != nil || f.Fault == Refused || f.Fault == Unknown:
	case f.unasked:
		s += "; the server could not be asked"
	default:
		s += "; the server does not know of it"
	}
	return s
}

// A verdict is the judgement on one connection: one fault or none, and the
// endings that became something else because an end of the path cannot express
// them.
type verdict struct {
	finding    *Finding
	downgrades []string
	blind      bool // the server never knew of it, which an abort explains
}

// judge compares what the two ends of a connection saw. caps is what both of
// them can do, server is nil for one that it does not know. alone says that there
// is nobody to know: the far end is an echo.
func judge(p Plan, caps anysock.Caps, client Outcome, server *Outcome, alone bool) verdict {
	var v verdict
	settle := func(o Outcome, other *Outcome) Outcome {
		switch {
		case p.Order.Aborts() && (o.Fault == FalseEnd || o.Fault == None) && o.Ended != "" && o.Ended != sawReset:
			// An abort that came as something else.
			if o.Ended == sawEnd && caps.Has(anysock.CapAbort) {
				return o
			}
			o.Fault, o.Missing = None, 0
			v.downgrades = append(v.downgrades, downgradeTo[o.Ended])
		case o.Fault == LostBytes && other != nil && !other.Finished:
			// Who sent them had not finished, so that the end is what is wrong.
			o.Fault = FalseEnd
		}
		return o
	}
	settled := settle(client, server)
	worst, side := settled, Client
	if server != nil {
		if s := settle(*server, &client); s.Fault > worst.Fault {
			worst, side = s, Far
		}
	} else if !alone && client.Fault == None {
		switch {
		case client.Ended != "" && client.Ended != sawEnd:
			// It is not the server's abort that the client has seen.
			worst = Outcome{Fault: Broken, Saw: "was told an error before the server knew of it"}
		case client.Ended != "" || client.Finished || p.Greet:
			// It cannot have gone well without a server.
			worst = Outcome{Fault: Unknown, Saw: "had its part in order, but the server has no record of it"}
		}
	}
	if worst.Fault == None {
		v.blind = server == nil
		return v
	}
	v.finding = &Finding{
		Number: p.Number, Order: p.Order, Fault: worst.Fault, Side: side, Text: worst.Saw,
		Lost: settled.Missing, Plan: p.String(), Client: client, Server: server,
	}
	if server != nil {
		v.finding.Lost += server.Missing
	}
	return v
}

// firstOf shortens a text that came from elsewhere.
func firstOf(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "..."
	}
	return s
}
