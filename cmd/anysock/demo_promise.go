package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// This file holds what the demo promises, and finds out whether it was so.

// A promise is one sentence about a session, and why it does not hold; nil if
// it does.
type promise struct {
	text   string
	broken error
}

// promises checks a session that is over. Without a connection from one end to
// the other there is but one.
func (s *demoSession) promises() []promise {
	calls := promise{"every call succeeded", s.failure}
	if s.client.conn == nil || s.server.conn == nil {
		return []promise{calls}
	}
	var ps []promise
	if s.aborted {
		calls.text += ", up to the abort"
		ps = append(ps,
			calls,
			promise{fmt.Sprintf("the client has the %d bytes that were sent before the abort", demoHalf), s.checkPayload(demoPayload()[:demoHalf])},
			promise{"its next read said that the connection was reset: no end of file", s.checkReset()},
			promise{"each side recorded the abort, and whose it was", errors.Join(
				checkEnd(clientRole, s.client.conn, anysock.AbortedByPeer, anysock.Peer, demoBytes, demoHalf),
				checkEnd(serverRole, s.server.conn, anysock.AbortedByUs, anysock.Us, demoHalf, demoBytes),
			)},
			promise{"the relay passed the abort on, and recorded that the server had aborted", s.checkRelay(anysock.AbortedByPeer, relay.Outbound, demoHalf)},
		)
	} else {
		ps = append(ps,
			calls,
			promise{fmt.Sprintf("waiting consumed nothing: all %d bytes came back, in order and unchanged", demoBytes), s.checkPayload(demoPayload())},
			promise{"client and server ended gracefully, and all that they sent was acknowledged", errors.Join(
				checkEnd(clientRole, s.client.conn, anysock.Graceful, anysock.Us, demoBytes, demoBytes),
				checkEnd(serverRole, s.server.conn, anysock.Graceful, anysock.Peer, demoBytes, demoBytes),
			)},
			promise{"nothing was left to do before exit, and nothing was lost", s.checkLeft()},
		)
		if len(s.roles) > 2 {
			ps = append(ps, promise{"the relay passed both ends on as ends, and recorded who ended first", s.checkRelay(anysock.Graceful, relay.Inbound, demoBytes)})
		}
	}
	return append(ps, promise{"each connection has one ending, which agrees with its steps and comes last", checkTrace(s.journal.steps())})
}

// checkPayload compares what arrived with what was sent.
func (s *demoSession) checkPayload(want []byte) error {
	if !bytes.Equal(s.server.got, demoPayload()) {
		return fmt.Errorf("the server received %s", difference(s.server.got, demoPayload()))
	}
	if !bytes.Equal(s.client.got, want) {
		return fmt.Errorf("the client received %s", difference(s.client.got, want))
	}
	return nil
}

// difference says how got differs from want.
func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("%d bytes instead of %d; byte %d is %#02x instead of %#02x", len(got), len(want), i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d bytes instead of %d", len(got), len(want))
}

// checkReset looks at the read that found the abort.
func (s *demoSession) checkReset() error {
	var e *anysock.Error
	switch err := s.client.last; {
	case err == nil:
		return errors.New("it was not made, or said nothing")
	case errors.Is(err, io.EOF):
		return errors.New("it said end of file")
	case !errors.As(err, &e) || e.Kind != anysock.KindReset:
		return fmt.Errorf("it said %w", err)
	}
	return nil
}

// checkEnd looks at the ending that a side recorded.
func checkEnd(who role, c *anysock.Conn, how anysock.How, by anysock.Side, sent, received int64) error {
	acked := anysock.AckedNone
	if how == anysock.Graceful && c.Caps().Has(anysock.CapCloseAck) {
		acked = anysock.AckedKernel
	}
	end := c.End()
	var wrong []string
	expect := func(what string, is, want any) {
		if is != want {
			wrong = append(wrong, fmt.Sprintf("%s %v instead of %v", what, is, want))
		}
	}
	expect("ended", end.How, how)
	expect("by", end.By, by)
	expect("acknowledged by", end.AckedBy, acked)
	expect("sent", end.Sent, sent)
	expect("received", end.Received, received)
	if how == anysock.Graceful {
		expect("unacknowledged", end.Unacked, int64(0))
	}
	if wrong != nil {
		return fmt.Errorf("%s: %s", who, strings.Join(wrong, ", "))
	}
	return nil
}

// checkLeft looks at what Wait, before exit, had to say.
func (s *demoSession) checkLeft() error {
	if s.leftErr != nil {
		return s.leftErr
	}
	if len(s.left) > 0 {
		return fmt.Errorf("%v: %v", s.left[0].Peer, s.left[0])
	}
	return nil
}

// checkRelay looks at the relay's record; back is how many bytes the server
// sent.
func (s *demoSession) checkRelay(how anysock.How, by relay.Leg, back int64) error {
	if len(s.relayed) != 1 {
		return fmt.Errorf("it recorded %d connections instead of 1", len(s.relayed))
	}
	rec := s.relayed[0]
	switch {
	case rec.How != how || rec.By != by:
		return fmt.Errorf("it recorded %q by %s instead of %q by %s", rec.How, rec.By, how, by)
	case rec.Inbound.How != how || rec.Outbound.How != how:
		return fmt.Errorf("its connections ended %q and %q instead of %q", rec.Inbound.How, rec.Outbound.How, how)
	case rec.ToOutbound.Bytes != demoBytes || rec.ToInbound.Bytes != back:
		return fmt.Errorf("it passed on %d and %d bytes instead of %d and %d", rec.ToOutbound.Bytes, rec.ToInbound.Bytes, demoBytes, back)
	case len(rec.Downgrades) > 0:
		return fmt.Errorf("it could not pass on everything: %s", rec.Downgrades[0])
	}
	for _, e := range s.journal.steps() {
		end := e.event.End
		if e.role != relayRole || end == nil {
			continue
		}
		sent, received := int64(demoBytes), back
		if e.event.Peer == rec.Inbound.Peer {
			sent, received = back, demoBytes
		}
		if end.Sent != sent || end.Received != received {
			return fmt.Errorf("its connection to %s ended with %d sent and %d received instead of %d and %d", e.event.Peer, end.Sent, end.Received, sent, received)
		}
	}
	return nil
}

// checkTrace holds the endings against the steps.
func checkTrace(entries []entry) error {
	type account struct {
		who            role
		sent, received int64
		end            *anysock.End
	}
	accounts := map[uint64]*account{}
	for _, e := range entries {
		ev := &e.event
		if (ev.Op == anysock.OpConnect || ev.Op == anysock.OpAccept) && ev.Err == nil {
			accounts[ev.Socket] = &account{who: e.role}
		}
		a := accounts[ev.Socket]
		if a == nil {
			continue
		}
		if a.end != nil {
			return fmt.Errorf("%s: a step follows the ending: %s", e.role, ev)
		}
		switch ev.Op {
		case anysock.OpWrite:
			a.sent += ev.Bytes
		case anysock.OpRead, anysock.OpDisconnect:
			a.received += ev.Bytes
		case anysock.OpEnd:
			a.end = ev.End
		}
	}
	for _, a := range accounts {
		switch {
		case a.end == nil:
			return fmt.Errorf("%s: a connection has no ending", a.who)
		case a.end.Sent != a.sent || a.end.Received != a.received:
			return fmt.Errorf("%s: the ending says %d sent and %d received, the steps say %d and %d", a.who, a.end.Sent, a.end.Received, a.sent, a.received)
		}
	}
	return nil
}
