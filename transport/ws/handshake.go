// This file holds what both sides' handshakes share: the time limit, and the
// limit of what the other side may say.

package ws

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	"github.com/anysock/anysock/internal/printable"
)

var longAgo = time.Unix(1, 0)

// A handshake is the connection below while HTTP is spoken on it, bounded by
// ctx.
type handshake struct {
	ctx   context.Context
	below *anysock.Conn
	wire  *wire
	in    io.LimitedReader // of the carrier: what the other side may say
	stop  func() bool
}

func beginHandshake(ctx context.Context, below *anysock.Conn, client bool) *handshake {
	h := &handshake{ctx: ctx, below: below, wire: &wire{below: below, client: client}}
	h.wire.Over(below)
	h.in = io.LimitedReader{R: &h.wire.Carrier, N: maxHead}
	h.stop = context.AfterFunc(ctx, h.interrupt)
	return h
}

// interrupt wakes the handshake: ctx is done.
func (h *handshake) interrupt() {
	_ = h.below.SetReadDeadline(longAgo)
	_ = h.wire.SetFlushDeadline(longAgo)
}

// end releases ctx. The error says that it was done.
func (h *handshake) end() error {
	if !h.stop() {
		return h.ctx.Err()
	}
	return nil
}

// send sends text.
func (h *handshake) send(p []byte) error {
	if _, err := h.wire.Carrier.Write(p); err != nil {
		return err
	}
	return h.wire.Flush()
}

// keep hands what came with the last bytes of the handshake to the wire.
func (h *handshake) keep(br *bufio.Reader) {
	if n := br.Buffered(); n > 0 {
		h.wire.early, _ = br.Peek(n)
	}
}

// tooLong reports whether the other side has said all that it may.
func (h *handshake) tooLong() bool { return h.in.N == 0 }

// failed is the error of a handshake that broke off.
func (h *handshake) failed(err error) error {
	var e *anysock.Error
	switch {
	case h.ctx.Err() != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, h.ctx.Err())):
		err = fmt.Errorf("the other side did not finish the WebSocket handshake in time: %w", h.ctx.Err())
		return h.error(kindOf(h.ctx.Err()), err, "")
	case errors.Is(err, deadline.ErrCut), errors.Is(err, io.ErrUnexpectedEOF):
		return h.error(anysock.KindTruncated, errors.New("the other side ended the connection during the WebSocket handshake"),
			"does it speak WebSocket at this port, and without TLS if the address says ws?")
	case errors.As(err, &e):
		return e
	}
	return h.error(anysock.KindAuth, plain(err), "does the other side speak WebSocket at this port, and without TLS if the address says ws?")
}

func kindOf(err error) anysock.Kind {
	if errors.Is(err, context.DeadlineExceeded) {
		return anysock.KindTimeout
	}
	return anysock.KindCanceled
}

func (h *handshake) error(kind anysock.Kind, err error, hint string) error {
	addr := "ws with " + h.below.RemoteAddr().Network() + ":" + h.below.RemoteAddr().String()
	return &anysock.Error{Op: anysock.OpHandshake, Addr: addr, Kind: kind, Err: err, Hint: hint}
}

// maxShown bounds what an error repeats of what the other side said.
const maxShown = 200

// shown quotes text of the other side's, so that it is harmless for a terminal
// and a log.
func shown(s string) string {
	cut := ""
	if len(s) > maxShown {
		s, cut = s[:maxShown], "..."
	}
	return strconv.QuoteToASCII(strings.TrimSpace(s)) + cut
}

// plain is the innermost error, without the steps that the libraries name.
// Their texts may repeat what the other side said.
func plain(err error) error {
	for next := err; next != nil; next = errors.Unwrap(err) {
		err = next
	}
	s := err.Error()
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	return errors.New(printable.Text(s))
}
