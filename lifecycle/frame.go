// This file holds the frames: types, lengths, and how each is written
// (docs/LIFECYCLE-PROTOCOL.md, section 3).

package lifecycle

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/anysock/anysock"
)

// The types of frames.
const (
	frameData   = 0x01
	frameEnd    = 0x02
	frameEndAck = 0x03
	frameAbort  = 0x04
	framePing   = 0x05
	framePong   = 0x06

	ignorable = 0x80 // bit of a type that may be skipped when unknown
)

const (
	headerSize = 4 // type, and length in three bytes
	countSize  = 8 // the payload of END, END_ACK, PING and PONG
	codeSize   = 2 // what an ABORT begins with
)

// A Code says why an ABORT was sent. Those from CodeProgram on belong to
// programs.
type Code uint16

// The codes.
const (
	CodeNone        Code = iota // the program gave up and said no more
	CodeProtocol                // the peer broke a rule of the protocol
	CodeRefused                 // the destination is not served or cannot be reached
	CodeUnsupported             // no common version, or a capability is missing
	CodeHops                    // too many gateways
	CodeIdle                    // no data for the time that a relay allows
	CodeTruncated               // behind a relay the other carrier was cut
	CodeLost                    // behind a relay the other peer went silent

	CodeProgram Code = 4096
)

var codeNames = [...]string{
	"no reason", "protocol error", "refused", "unsupported", "hop limit reached", "idle",
	"truncated behind a relay", "lost behind a relay",
}

// String is what the code means.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// An AbortError is what an ABORT said. It is found by errors.As in the error
// of kind KindReset that a peer's ABORT becomes; given as the cause of
// Conn.AbortAs it is what the peer is told. Reason is cut to MaxReason bytes.
type AbortError struct {
	Code   Code
	Reason string // the sender's words: Error quotes what is not printable
}

// Error is the code and the reason.
func (e *AbortError) Error() string {
	s := "the peer aborted"
	if e.Code != CodeNone {
		s += ": " + e.Code.String()
	}
	if e.Reason != "" {
		s += fmt.Sprintf(": %q", e.Reason)
	}
	return s
}

// codeFor is what the peer is told about an ending of ours.
func codeFor(how anysock.How) Code {
	switch how {
	case anysock.Idle:
		return CodeIdle
	case anysock.Refused:
		return CodeRefused
	case anysock.Truncated:
		return CodeTruncated
	case anysock.Lost:
		return CodeLost
	}
	return CodeNone
}

// appendHeader appends what a frame begins with.
func appendHeader(b []byte, kind byte, length int) []byte {
	return append(b, kind, byte(length>>16), byte(length>>8), byte(length))
}

// appendCount appends a frame whose payload is a count.
func appendCount(b []byte, kind byte, count int64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, kind, countSize), uint64(count))
}

// appendAbort appends an ABORT.
func appendAbort(b []byte, e *AbortError) []byte {
	reason := strings.ToValidUTF8(e.Reason, "?")
	if len(reason) > MaxReason {
		n := MaxReason
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	b = appendHeader(b, frameAbort, codeSize+len(reason))
	return append(binary.BigEndian.AppendUint16(b, uint16(e.Code)), reason...)
}

// parseAbort reads an ABORT's payload, whose length was checked.
func parseAbort(p []byte) *AbortError {
	return &AbortError{Code: Code(binary.BigEndian.Uint16(p)), Reason: string(p[codeSize:])}
}

// maxControl is the longest frame that is read as a whole.
const maxControl = headerSize + codeSize + MaxReason

// A protocolError is a rule that the peer broke.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "the peer broke the lifecycle protocol: " + e.what }

func broken(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

// checkLength reports a frame whose length its type does not have.
func checkLength(kind byte, length int) error {
	low, high := countSize, countSize
	switch kind {
	case frameData:
		low, high = 1, MaxData
	case frameEnd, frameEndAck, framePing, framePong:
	case frameAbort:
		low, high = codeSize, codeSize+MaxReason
	default:
		if kind&ignorable == 0 {
			return broken("a frame of the unknown type %#02x", kind)
		}
		low, high = 0, MaxIgnored
	}
	if length < low || length > high {
		return broken("a frame of type %#02x with %d bytes; it has %d to %d", kind, length, low, high)
	}
	return nil
}
