// This file tests that frames and openings have the bytes of the
// specification's vectors, both ways.

package lifecycle

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anysock/anysock"
)

func testOpening() opening {
	o := opening{lowest: 1, highest: 1, hops: DefaultHops, required: allCapabilities, offered: allCapabilities}
	for i := range o.correlator {
		o.correlator[i] = byte(i)
	}
	return o
}

func TestVectorsAreWhatIsSent(t *testing.T) {
	v := vectors(t)
	dialer := testOpening()
	answer := testOpening()
	answer.flags, answer.hops = flagAnswer, 0
	onward := testOpening()
	onward.destination = "tcp://db:5432"
	refused := answer
	refused.flags |= flagRefused
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	for name, got := range map[string][]byte{
		"opening-dialer":      dialer.append(nil),
		"opening-acceptor":    answer.append(nil),
		"opening-destination": onward.append(nil),
		"refusal":             join(refused.append(nil), aborted(CodeRefused, "not served")),
		"data":                data("hello"),
		"end":                 counted(frameEnd, 5),
		"end-ack":             counted(frameEndAck, 5),
		"abort":               aborted(CodeNone, ""),
		"abort-reason":        aborted(CodeProgram, "quota"),
		"ping":                counted(framePing, 262144),
		"pong":                counted(framePong, 262144),
		"ignorable":           frame(0xc0, 1, 2, 3),
		"session-dialer":      join(dialer.append(nil), data("hello"), counted(frameEnd, 5), counted(frameEndAck, 2)),
		"session-acceptor":    join(answer.append(nil), counted(frameEndAck, 5), data("hi"), counted(frameEnd, 2)),
	} {
		if want, ok := v[name]; !ok || !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, got, want)
		}
		delete(v, name)
	}
	for name := range v {
		t.Errorf("nothing tests the vector %s", name)
	}
}

// TestWholeSessions plays the vectors of a session against both sides, whole
// and one byte at a time.
func TestWholeSessions(t *testing.T) {
	v := vectors(t)
	for name, pieces := range map[string]func([]byte) [][]byte{
		"whole": func(b []byte) [][]byte { return [][]byte{b} },
		"bytes": func(b []byte) (all [][]byte) {
			for i := range b {
				all = append(all, b[i:i+1])
			}
			return all
		},
	} {
		t.Run("acceptor "+name, func(t *testing.T) {
			below, conn := memPair(t, anysock.Options{})
			raw := rawPeer{t: t, Conn: conn}
			said := make(chan error, 1)
			go func() {
				said <- func() error {
					nc, err := server(bounded(t), below, anysock.Target{})
					if err != nil {
						return err
					}
					c := anysock.Wrap(nc, anysock.Options{})
					if s, err := readAll(c); err != nil || s != "hello" {
						t.Errorf("the acceptor read %q, %v", s, err)
					}
					if _, err := c.Write([]byte("hi")); err != nil {
						return err
					}
					end, err := c.Disconnect(bounded(t))
					if end.How != anysock.Graceful || end.AckedBy != anysock.AckedPeer {
						t.Errorf("the ending is %q", end)
					}
					return err
				}()
			}()
			raw.send(pieces(v["session-dialer"])...)
			raw.expect(v["session-acceptor"])
			if err := <-said; err != nil {
				t.Error(err)
			}
		})
		t.Run("dialer "+name, func(t *testing.T) {
			below, conn := memPair(t, anysock.Options{})
			raw := rawPeer{t: t, Conn: conn}
			said := make(chan error, 1)
			go func() {
				said <- func() error {
					o := testOpening()
					if err := dialOpening(bounded(t), below, &o); err != nil {
						return err
					}
					c := anysock.Wrap(newStream(below, liveness{}), anysock.Options{})
					if _, err := c.Write([]byte("hello")); err != nil {
						return err
					}
					if err := c.CloseWrite(); err != nil {
						return err
					}
					if s, err := readAll(c); err != nil || s != "hi" {
						t.Errorf("the dialer read %q, %v", s, err)
					}
					end, err := c.Disconnect(bounded(t))
					if end.How != anysock.Graceful || end.AckedBy != anysock.AckedPeer {
						t.Errorf("the ending is %q", end)
					}
					return err
				}()
			}()
			raw.send(pieces(v["session-acceptor"])...)
			raw.expect(v["session-dialer"])
			if err := <-said; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAbortReasonIsBoundedText(t *testing.T) {
	for _, reason := range []string{strings.Repeat("x", 300), strings.Repeat("é", 200), "bad \xff byte", "\xff"} {
		b := aborted(CodeProgram+1, reason)
		got := parseAbort(b[headerSize:])
		if len(got.Reason) > MaxReason || !utf8.ValidString(got.Reason) || got.Code != CodeProgram+1 {
			t.Errorf("%.20q... became %d bytes, %q", reason, len(got.Reason), got)
		}
		if checkLength(b[0], len(b)-headerSize) != nil {
			t.Errorf("%.20q...: a frame of %d bytes", reason, len(b))
		}
	}
	if s := (&AbortError{CodeIdle, "a\nb\x1b[2J"}).Error(); strings.ContainsAny(s, "\n\x1b") {
		t.Errorf("control characters are not quoted: %q", s)
	}
}

// TestLengths: each type at its bounds, and one beyond.
func TestLengths(t *testing.T) {
	for _, tt := range []struct {
		kind      byte
		low, high int
	}{
		{frameData, 1, MaxData},
		{frameEnd, 8, 8},
		{frameEndAck, 8, 8},
		{frameAbort, 2, 258},
		{framePing, 8, 8},
		{framePong, 8, 8},
		{0x80, 0, MaxIgnored},
		{0xff, 0, MaxIgnored},
	} {
		for length, ok := range map[int]bool{tt.low - 1: false, tt.low: true, tt.high: true, tt.high + 1: false} {
			if err := checkLength(tt.kind, length); (err == nil) != ok {
				t.Errorf("type %#02x with %d bytes: %v", tt.kind, length, err)
			}
		}
	}
	for _, kind := range []byte{0, 7, 0x7f} {
		if checkLength(kind, 8) == nil {
			t.Errorf("type %#02x is taken", kind)
		}
	}
}
