// This file holds the record that each connection of a server leaves.

package proxy

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/anysock/anysock/internal/printable"
	"github.com/anysock/anysock/relay"
)

// A Record says how one connection of a Server went: what was asked for and
// answered, and after that what package relay says of two joined connections.
// Target is what the client asked for, "host:port". Outbound is the leg to the
// target, for BIND the caller's.
//
// Beside the endings of relay.Record there are these, before anything is
// joined:
//
//	How            By        what happened
//	Refused        Outbound  the target could not be reached, or nobody called; Reply says what the client heard
//	Refused        Self      the server said no: the rules, the login, a request that makes no sense, a
//	                         protocol it does not speak, a limit, the time for the handshake
//	its own        Inbound   the client left before it had asked for anything, or while the target was dialed
type Record struct {
	relay.Record

	// Protocol is socks4, socks4a, socks5 or http; "" if that was never known.
	Protocol string `json:"protocol,omitempty"`
	// Command is CONNECT or BIND, or what else the client asked for.
	Command string `json:"command,omitempty"`
	// User is who has logged in; Claimed who the client says it is and has not
	// proved: the user of a SOCKS4 request, or of a login that failed.
	User    string `json:"user,omitempty"`
	Claimed string `json:"claimed,omitempty"`
	// Reply is what the client was told last; nil if nothing.
	Reply *Reply `json:"reply,omitempty"`
}

// String is one line for people. Whatever is not printable is escaped.
func (r Record) String() string {
	var b strings.Builder
	if r.Protocol != "" {
		b.WriteString(r.Protocol + " ")
	}
	if r.Command != "" {
		b.WriteString(r.Command + " ")
	}
	if r.Target != "" {
		b.WriteString(r.Target + " ")
	}
	switch {
	case r.User != "":
		b.WriteString("for " + strconv.Quote(r.User) + " ")
	case r.Claimed != "":
		b.WriteString("for a claimed " + strconv.Quote(r.Claimed) + " ")
	}
	if r.Reply != nil {
		b.WriteString("(" + strconv.Itoa(r.Reply.Code) + " " + r.Reply.Text + ") ")
	}
	rest := r.Record
	rest.Target = "" // it was said
	return printable.Text(b.String()) + rest.String()
}

// MarshalJSON puts the fields of relay.Record behind those of the request.
func (r Record) MarshalJSON() ([]byte, error) {
	head, err := json.Marshal(struct {
		Protocol string `json:"protocol,omitempty"`
		Command  string `json:"command,omitempty"`
		User     string `json:"user,omitempty"`
		Claimed  string `json:"claimed,omitempty"`
		Reply    *Reply `json:"reply,omitempty"`
	}{r.Protocol, r.Command, r.User, r.Claimed, r.Reply})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(r.Record)
	if err != nil || len(head) == len("{}") {
		return body, err
	}
	return slices.Concat(head[:len(head)-1], []byte(","), body[1:]), nil
}

// LogValue makes a Record a group of attributes for log/slog. Whatever is not
// printable is escaped.
func (r Record) LogValue() slog.Value {
	var as []slog.Attr
	add := func(key, value string) {
		if value != "" {
			as = append(as, slog.String(key, printable.Text(value)))
		}
	}
	add("protocol", r.Protocol)
	add("command", r.Command)
	add("user", r.User)
	add("claimed", r.Claimed)
	if r.Reply != nil {
		as = append(as, slog.Int("reply", r.Reply.Code))
	}
	return slog.GroupValue(append(as, r.Record.LogValue().Group()...)...)
}
