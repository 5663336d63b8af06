// This file holds the opening: its bytes, and the exchange on both sides
// (docs/LIFECYCLE-PROTOCOL.md, section 2).

package lifecycle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/anysock/anysock"
)

// The version that this package speaks.
const (
	lowestVersion  = 1
	highestVersion = 1
)

// The flags of an opening.
const (
	flagAnswer = 1 << iota
	flagRefused
)

// allCapabilities is what version 1 offers and asks for: half-close, abort,
// cut detection, close acknowledgement, liveness.
const allCapabilities = 1<<5 - 1

const (
	fixedSize      = 12 // magic, versions, length
	bodySize       = 28 // flags to the destination's length
	correlatorSize = 16
)

var magic = [8]byte{0x8a, 'l', 'c', '/', '\r', '\n', 0x1a, '\n'}

// An opening is what each side says first.
type opening struct {
	lowest, highest   byte
	flags             byte
	hops              byte
	required, offered uint32
	correlator        [correlatorSize]byte
	destination       string
}

// append appends the bytes of o.
func (o *opening) append(b []byte) []byte {
	b = append(b, magic[:]...)
	b = append(b, o.lowest, o.highest)
	b = binary.BigEndian.AppendUint16(b, uint16(bodySize+len(o.destination)))
	b = append(b, o.flags, o.hops)
	b = binary.BigEndian.AppendUint32(b, o.required)
	b = binary.BigEndian.AppendUint32(b, o.offered)
	b = append(b, o.correlator[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.destination)))
	return append(b, o.destination...)
}

// errNotLC: what came is not the magic.
var errNotLC = errors.New("the peer does not speak the lifecycle protocol")

// A refusal is an opening that is to be answered with an ABORT.
type refusal struct{ AbortError }

func (r *refusal) Error() string { return r.Reason }

func refuse(code Code, format string, args ...any) error {
	return &refusal{AbortError{code, fmt.Sprintf(format, args...)}}
}

// readOpening reads one opening and not a byte more. Whatever is no magic is
// found at its first wrong byte. A *refusal says what is wrong with an opening
// that began with the magic; o has what was read of it.
func readOpening(ctx context.Context, below *anysock.Conn) (o opening, err error) {
	var fixed [fixedSize]byte
	for n := 0; n < fixedSize; {
		m, err := below.ReadContext(ctx, fixed[n:])
		n += m
		if seen := min(n, len(magic)); !bytes.Equal(fixed[:seen], magic[:seen]) {
			return o, errNotLC
		}
		if err != nil && n < fixedSize {
			return o, err
		}
	}
	o.lowest, o.highest = fixed[8], fixed[9]
	length := int(binary.BigEndian.Uint16(fixed[10:]))
	if length < bodySize || length > MaxOpening-fixedSize {
		return o, refuse(CodeProtocol, "an opening of %d bytes", fixedSize+length)
	}
	body := make([]byte, length)
	if _, err := below.ReadAtLeast(ctx, body, length); err != nil {
		return o, err
	}
	return o, o.parse(body)
}

// parse reads what follows the fixed part.
func (o *opening) parse(body []byte) error {
	o.flags, o.hops = body[0], body[1]
	o.required = binary.BigEndian.Uint32(body[2:])
	o.offered = binary.BigEndian.Uint32(body[6:])
	copy(o.correlator[:], body[10:])
	n := int(binary.BigEndian.Uint16(body[26:]))
	rest := body[bodySize:]
	if n > len(rest) {
		return refuse(CodeProtocol, "a destination that is longer than the opening")
	}
	if !utf8.Valid(rest[:n]) {
		return refuse(CodeProtocol, "a destination that is no UTF-8")
	}
	o.destination = string(rest[:n])
	for rest = rest[n:]; len(rest) > 0; {
		if len(rest) < 3 || len(rest)-3 < int(binary.BigEndian.Uint16(rest[1:])) {
			return refuse(CodeProtocol, "a broken extension")
		}
		if rest[0]&ignorable == 0 {
			return refuse(CodeUnsupported, "the extension %#02x is unknown here", rest[0])
		}
		rest = rest[3+int(binary.BigEndian.Uint16(rest[1:])):]
	}
	return nil
}

// judge is the acceptor's answer to a well-formed opening: nil, or a *refusal.
func (o *opening) judge() error {
	switch {
	case o.flags != 0:
		return refuse(CodeProtocol, "the flags %#02x in a dialer's opening", o.flags)
	case o.lowest > o.highest:
		return refuse(CodeProtocol, "versions from %d to %d", o.lowest, o.highest)
	case o.highest < lowestVersion || o.lowest > highestVersion:
		return refuse(CodeUnsupported, "version %d is spoken here, you speak %d to %d", highestVersion, o.lowest, o.highest)
	case o.required&^allCapabilities != 0:
		return refuse(CodeUnsupported, "the capabilities %#x are not offered here", o.required&^allCapabilities)
	case allCapabilities&^o.offered != 0:
		return refuse(CodeUnsupported, "the capabilities %#x are required here", allCapabilities&^o.offered)
	case o.destination != "":
		return refuse(CodeRefused, "no destination but this program is served here")
	}
	return nil
}

// checkAnswer is the dialer's judgement of the acceptor's opening to its own.
func (o *opening) checkAnswer(own *opening) error {
	switch {
	case o.flags&flagAnswer == 0:
		return errors.New("the peer's opening is no answer: it dialed too, or sends back what it gets")
	case o.flags&^(flagAnswer|flagRefused) != 0:
		return broken("the flags %#02x in an opening", o.flags)
	case o.flags&flagRefused != 0:
		return nil
	case o.correlator != own.correlator:
		return errors.New("the peer answered another opening than ours")
	case o.lowest != o.highest || o.lowest < own.lowest || o.highest > own.highest:
		return broken("the answer has the versions %d to %d, we speak %d to %d", o.lowest, o.highest, own.lowest, own.highest)
	case own.required&^o.offered != 0:
		return fmt.Errorf("the peer does not offer the capabilities %#x", own.required&^o.offered)
	case o.required&^own.offered != 0:
		return broken("the peer requires the capabilities %#x, which were not offered", o.required&^own.offered)
	case o.destination != "":
		return broken("a destination in an answer")
	}
	return nil
}

// dialOpening is the dialer's side of the exchange.
func dialOpening(ctx context.Context, below *anysock.Conn, own *opening) error {
	if _, err := below.WriteContext(ctx, own.append(nil)); err != nil {
		return openingError(ctx, below, err)
	}
	answer, err := readOpening(ctx, below)
	if err == nil {
		err = answer.checkAnswer(own)
	}
	if err == nil && answer.flags&flagRefused != 0 {
		err = readRefusal(ctx, below)
	}
	if err != nil {
		return openingError(ctx, below, err)
	}
	return nil
}

// readRefusal reads the ABORT behind a refusal; it is the error.
func readRefusal(ctx context.Context, below *anysock.Conn) error {
	var header [headerSize]byte
	if _, err := below.ReadAtLeast(ctx, header[:], headerSize); err != nil {
		return err
	}
	length := int(header[1])<<16 | int(header[2])<<8 | int(header[3])
	if header[0] != frameAbort {
		return broken("a refusal without ABORT")
	}
	if err := checkLength(frameAbort, length); err != nil {
		return err
	}
	payload := make([]byte, length)
	if _, err := below.ReadAtLeast(ctx, payload, length); err != nil {
		return err
	}
	return parseAbort(payload)
}

// acceptOpening is the acceptor's side: nothing is sent before the magic came.
func acceptOpening(ctx context.Context, below *anysock.Conn) error {
	o, err := readOpening(ctx, below)
	if err == nil {
		err = o.judge()
	}
	answer := opening{
		lowest: lowestVersion, highest: highestVersion, flags: flagAnswer,
		required: allCapabilities, offered: allCapabilities, correlator: o.correlator,
	}
	var no *refusal
	if errors.As(err, &no) {
		answer.flags |= flagRefused
		if _, werr := below.WriteContext(ctx, appendAbort(answer.append(nil), &no.AbortError)); werr == nil {
			// The caller aborts what is below, and a reset would overtake the reason.
			_, _ = below.Disconnect(ctx)
		}
		return openingError(ctx, below, err)
	}
	if err != nil {
		return openingError(ctx, below, err)
	}
	answer.lowest = min(o.highest, highestVersion)
	answer.highest = answer.lowest
	if _, err := below.WriteContext(ctx, answer.append(nil)); err != nil {
		return openingError(ctx, below, err)
	}
	return nil
}

// The hints of a failed opening.
const (
	hintNotLC  = "the peer does not speak the lifecycle protocol: leave out 'lc+' here, or add it there"
	hintSilent = "the peer took the connection and said nothing: if it does not speak the lifecycle protocol, leave out 'lc+' here, or add it there"
)

// openingError says why the opening failed.
func openingError(ctx context.Context, below *anysock.Conn, err error) error {
	e := &anysock.Error{Op: anysock.OpHandshake, Addr: peerName(below), Kind: anysock.KindAuth, Err: err}
	var (
		carrier *anysock.Error
		abort   *AbortError
	)
	switch {
	case errors.As(err, &abort):
		e.Err = fmt.Errorf("refused: %w", err)
		switch abort.Code {
		case CodeRefused:
			e.Kind = anysock.KindRefused
		case CodeHops:
			e.Kind = anysock.KindHop
		}
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Hint = anysock.KindTimeout, hintSilent
		e.Err = fmt.Errorf("no answer to the opening of the lifecycle protocol: %w", ctx.Err())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Err, e.Hint = errors.New("the peer ended the connection in the opening of the lifecycle protocol"), hintNotLC
	case errors.As(err, &carrier):
		e.Kind, e.Hint = carrier.Kind, carrier.Hint
		e.Err = fmt.Errorf("in the opening of the lifecycle protocol: %w", carrier.Err)
		if carrier.Err == nil {
			e.Err = carrier
		}
	default:
		e.Hint = hintNotLC
	}
	return e
}

// peerName is the peer for messages.
func peerName(below *anysock.Conn) string {
	if a := below.RemoteAddr(); a != nil && a.String() != "" {
		return a.Network() + ":" + a.String()
	}
	if a := below.LocalAddr(); a != nil {
		return a.Network() + ":" + a.String()
	}
	return "lc"
}
