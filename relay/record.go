package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
)

// A Leg is one of the two connections that a relay joins.
type Leg int

// The legs.
const (
	Self     Leg = iota // neither: the relay itself, or nobody knows
	Inbound             // the connection that was accepted
	Outbound            // the connection to the target
)

// String is "relay", "inbound" or "outbound".
func (l Leg) String() string { return [...]string{"relay", "inbound", "outbound"}[l] }

// MarshalText is String.
func (l Leg) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A Record says how one relayed connection went, from its acceptance to its
// end. Marshalled as JSON its field names stay what they are.
//
//	How            By                 what happened
//	Graceful       first to end       both directions ended in order and every byte was passed on;
//	                                  Leg.AckedBy says who acknowledged what the relay sent
//	AbortedByPeer  the leg            it was reset, or would not take what was sent to it
//	Truncated      the leg            its carrier was cut
//	Lost           the leg            it went silent, or did not acknowledge the last bytes
//	Idle           Self               no data either way for Options.Idle
//	AbortedByUs    Self or the leg    cut by Shutdown or the context; or the leg's own deadline,
//	                                  a closed leg, a lack of memory: see Err
//	Refused        Outbound or Self   the target could not be reached, or the relay refuses to
//	                                  (ErrLoop, ErrNotRedirected)
type Record struct {
	How anysock.How `json:"how"`
	By  Leg         `json:"by"`

	// Target is the address that a Relay dialed, with the destination in place
	// of original: if that was found out; Join leaves it empty.
	Target string `json:"target,omitempty"`
	// Inbound and Outbound are the legs' own endings. An Outbound that was
	// never there has no addresses and How NotEnded.
	Inbound  LegRecord `json:"inbound"`
	Outbound LegRecord `json:"outbound"`
	// ToOutbound and ToInbound are the directions.
	ToOutbound Direction `json:"to_outbound"`
	ToInbound  Direction `json:"to_inbound"`

	// Accepted is when the inbound connection came, for Join when it was
	// called; Connected when the outbound one stood; Done when both were over.
	Accepted  time.Time `json:"accepted"`
	Connected time.Time `json:"connected,omitzero"`
	Done      time.Time `json:"done"`
	// Attempts are the failed attempts to reach the target.
	Attempts []Attempt `json:"attempts,omitempty"`

	// Downgrades are the endings that a leg could not express.
	Downgrades []Downgrade `json:"downgrades,omitempty"`

	// Err is the reason of anything but Graceful; "error" in JSON.
	Err error `json:"-"`
}

// A LegRecord is the ending of one leg, as its anysock.End says it.
type LegRecord struct {
	Network string `json:"network,omitempty"` // tcp, unix, ...
	Local   string `json:"local,omitempty"`   // addresses; an unnamed Unix peer's is empty
	Peer    string `json:"peer,omitempty"`

	How      anysock.How  `json:"how"`
	EndedBy  anysock.Side `json:"ended_by"` // us is the relay
	AckedBy  anysock.Ack  `json:"acked_by"` // who has what the relay sent
	Received int64        `json:"received"` // bytes, since the connection was made
	Sent     int64        `json:"sent"`
	Unacked  int64        `json:"unacked"` // of Sent
	Error    string       `json:"error,omitempty"`
}

// A Direction is one of the two flows of bytes.
type Direction struct {
	Bytes     int64     `json:"bytes"`               // passed on, since the legs were joined
	FirstByte time.Time `json:"first_byte,omitzero"` // the first one came in
	Ended     time.Time `json:"ended,omitzero"`      // its end, or its failure, was passed on
}

// An Attempt is one failed try to reach the target.
type Attempt struct {
	Round   int     `json:"round"`           // 1, or higher after a retry
	Address string  `json:"address"`         // the address tried
	Started float64 `json:"started_seconds"` // since dialing began
	Took    float64 `json:"took_seconds"`    //
	Error   string  `json:"error"`           // why it failed
}

// A Downgrade is an ending that a leg could not express, and what its peer saw
// instead.
//
//	Ending      Became   because
//	half-close  held     the leg has no half-close: the end waits until the other direction has ended
//	abort       cut      the leg has no abort, but a framing of its own that was broken off: its peer
//	                     reads an error
//	abort       close    the leg has neither: its peer may take this for an end
//	refusal     cut      the same, when the target could not be reached
//	refusal     close
type Downgrade struct {
	Leg    Leg    `json:"leg"`
	Ending string `json:"ending"`
	Became string `json:"became"`
}

// String is "outbound half-close held".
func (d Downgrade) String() string {
	if d.Became == "held" {
		return d.Leg.String() + " " + d.Ending + " held back"
	}
	return d.Leg.String() + " " + d.Ending + " became a " + d.Became
}

// insteadOfAbort is what the peer of a leg without abort sees of one. A kernel
// socket's close is its end; a layer that can tell a cut from an end has an end
// of its own, which an abort leaves out.
func insteadOfAbort(c *anysock.Conn) string {
	if _, err := c.SyscallConn(); err != nil && c.Caps().Has(anysock.CapCutDetect) {
		return "cut"
	}
	return "close"
}

// Duration is the time from Accepted to Done.
func (r Record) Duration() time.Duration { return r.Done.Sub(r.Accepted) }

// String is one line for people. Whatever is not printable is escaped.
func (r Record) String() string {
	var b strings.Builder
	b.WriteString(r.Inbound.name() + " -> ")
	switch {
	case r.Connected.IsZero() && r.Target != "":
		b.WriteString(r.Target)
	case r.Connected.IsZero():
		b.WriteString("nowhere")
	default:
		b.WriteString(r.Outbound.name())
	}
	b.WriteString(": " + r.How.String())
	switch {
	case r.How == anysock.Graceful:
		fmt.Fprintf(&b, ", %s ended first", r.By)
	case r.By != Self:
		b.WriteString(" on " + r.By.String())
	}
	if !r.Connected.IsZero() {
		fmt.Fprintf(&b, ", %d bytes out, %d back", r.ToOutbound.Bytes, r.ToInbound.Bytes)
	}
	switch n := len(r.Attempts); n {
	case 0:
	case 1:
		b.WriteString(", 1 failed attempt")
	default:
		fmt.Fprintf(&b, ", %d failed attempts", n)
	}
	fmt.Fprintf(&b, ", %s", r.Duration().Round(10*time.Microsecond))
	for _, d := range r.Downgrades {
		b.WriteString(", " + d.String())
	}
	if r.Err != nil {
		b.WriteString(": " + r.Err.Error())
		if hint := r.hint(); hint != "" && r.How == anysock.Refused && r.By == Self {
			b.WriteString(" (" + hint + ")")
		}
	}
	return printable.Text(b.String())
}

// hint is what to try, if Err knows it.
func (r Record) hint() string {
	var e *anysock.Error
	if errors.As(r.Err, &e) {
		return e.Hint
	}
	return ""
}

// name is who is at the other end, as far as it has a name.
func (l LegRecord) name() string {
	if l.Peer != "" {
		return l.Network + ":" + l.Peer
	}
	return l.Network + ":" + l.Local
}

// MarshalJSON adds "error", "hint" (what to try) and "seconds", the Duration,
// to the fields.
func (r Record) MarshalJSON() ([]byte, error) {
	type fields Record
	out := struct {
		fields
		Seconds float64 `json:"seconds"`
		Error   string  `json:"error,omitempty"`
		Hint    string  `json:"hint,omitempty"`
	}{fields: fields(r), Seconds: r.Duration().Seconds(), Hint: r.hint()}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	return json.Marshal(out)
}

// LogValue makes a Record a group of attributes for log/slog, with the names
// of the JSON fields. Whatever is not printable is escaped.
func (r Record) LogValue() slog.Value {
	as := []slog.Attr{slog.String("how", r.How.String()), slog.String("by", r.By.String())}
	if r.Target != "" {
		as = append(as, slog.String("target", printable.Text(r.Target)))
	}
	as = append(as, r.Inbound.attr("inbound"))
	if !r.Connected.IsZero() {
		as = append(as, r.Outbound.attr("outbound"),
			slog.Int64("to_outbound_bytes", r.ToOutbound.Bytes),
			slog.Int64("to_inbound_bytes", r.ToInbound.Bytes))
	}
	if n := len(r.Attempts); n > 0 {
		as = append(as, slog.Int("failed_attempts", n))
	}
	as = append(as, slog.Float64("seconds", r.Duration().Seconds()))
	if len(r.Downgrades) > 0 {
		var all []string
		for _, d := range r.Downgrades {
			all = append(all, d.String())
		}
		as = append(as, slog.String("downgrades", strings.Join(all, ", ")))
	}
	if r.Err != nil {
		as = append(as, slog.String("error", printable.Text(r.Err.Error())))
	}
	if hint := r.hint(); hint != "" {
		as = append(as, slog.String("hint", printable.Text(hint)))
	}
	return slog.GroupValue(as...)
}

func (l LegRecord) attr(key string) slog.Attr {
	as := []slog.Attr{slog.String("network", l.Network), slog.String("local", printable.Text(l.Local))}
	if l.Peer != "" {
		as = append(as, slog.String("peer", printable.Text(l.Peer)))
	}
	as = append(as, slog.String("how", l.How.String()))
	if l.Unacked > 0 {
		as = append(as, slog.Int64("unacked", l.Unacked))
	}
	if l.Error != "" {
		as = append(as, slog.String("error", printable.Text(l.Error)))
	}
	return slog.Attr{Key: key, Value: slog.GroupValue(as...)}
}

// RecordLeg says how c ended, for a Record: of a program that calls Join, as
// Relay does for its own.
func RecordLeg(c *anysock.Conn) LegRecord {
	end := c.End()
	l := LegRecord{
		How: end.How, EndedBy: end.By, AckedBy: end.AckedBy,
		Received: c.Received(), Sent: c.Sent(), Unacked: end.Unacked,
	}
	l.Network, l.Local = addrText(c.LocalAddr())
	_, l.Peer = addrText(c.RemoteAddr())
	if end.Err != nil {
		l.Error = end.Err.Error()
	}
	return l
}

func addrText(a net.Addr) (network, text string) {
	if a == nil {
		return "", ""
	}
	return a.Network(), a.String()
}

// RecordAttempts takes over what a failed Dial lists.
func RecordAttempts(as []anysock.Attempt) []Attempt {
	var out []Attempt
	for _, a := range as {
		r := Attempt{Round: a.Round, Address: a.Addr, Started: a.Started.Seconds(), Took: a.Duration.Seconds()}
		if a.Err != nil {
			r.Error = a.Err.Error()
		}
		out = append(out, r)
	}
	return out
}
