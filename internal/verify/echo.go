package verify

// This file judges a plain echo server, as far as that shows: every byte comes
// back, also after our half-close, and then its end.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/anysock/anysock"
)

// echoOrders divides orders into those that an echo server can play and others.
func echoOrders(orders []Order, caps anysock.Caps) (can []Order, cannot []Untried) {
	for _, o := range orders {
		switch o {
		case ClientHalfCloses:
			if caps.Has(anysock.CapHalfClose) {
				can = append(can, o)
				continue
			}
			cannot = append(cannot, Untried{o, "our end has no half-close"})
		case ClientCloses, ClientAbortsSending, ClientAbortsReceiving:
			can = append(can, o)
		default:
			cannot = append(cannot, Untried{o, "an echo server does nothing by itself"})
		}
	}
	return slices.Clip(can), cannot
}

// greetEcho sees that an echo server answers.
func greetEcho(c *anysock.Conn) error {
	const hint = "the far end must be an echo server, such as 'anysock echo'"
	if err := c.SetDeadline(time.Now().Add(anysock.DefaultHandshake)); err != nil {
		return err
	}
	hello := opening{Kind: kindAsk}.encode()
	if _, err := c.Write(hello); err != nil {
		return &PeerError{What: "no echo", Hint: hint, Err: err}
	}
	got := make([]byte, len(hello))
	n, err := io.ReadFull(c, got)
	switch {
	case !bytes.Equal(got[:n], hello[:n]):
		return &PeerError{What: "what answers is no echo server: it says something else", Hint: hint}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		var e *anysock.Error
		if !errors.As(err, &e) {
			return &PeerError{What: "what answers is no echo server: it ends", Hint: hint}
		}
		return &PeerError{What: "no echo", Hint: hint, Err: err}
	case err != nil:
		return &PeerError{What: "no echo", Hint: hint, Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), anysock.DefaultHandshake)
	defer cancel()
	if _, err := c.Disconnect(ctx); err != nil {
		return &PeerError{What: "the echo server does not end in order", Err: err}
	}
	return nil
}

// playEcho is the client's part at an echo server: what it sends comes back.
func (y *party) playEcho() Outcome { return y.over(y.actEcho()) }

func (y *party) actEcho() error {
	p := y.plan
	m, size := p.upward(), p.Up
	switch p.Order {
	case ClientHalfCloses:
		return y.inTurn(func() error {
			return y.atOnce(
				func() error { return y.sendAndEnd(m, size) },
				func() error { return y.receive(m, size, true) })
		}, y.finish)
	case ClientCloses:
		return y.inTurn(func() error {
			return y.atOnce(
				func() error { return y.send(m, size) },
				func() error { return y.receive(m, size, false) })
		}, y.finish)
	case ClientAbortsSending:
		return y.inTurn(func() error { return y.send(m, min(p.Cut, size)) }, y.abort)
	case ClientAbortsReceiving:
		// As much as comes back surely is read before the abort.
		part := min(p.Cut, size, maxChunk)
		return y.inTurn(
			func() error { return y.send(m, part) },
			func() error { return y.receive(m, part, false) },
			y.abort)
	}
	return fault(Broken, "has no part in %s at an echo server", p.Order)
}
