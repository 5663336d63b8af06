// This file tests the opening on both sides: who is refused and how, what is
// sent to whom, and that a peer which does not speak lc gets nothing.

package lifecycle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// serve runs the acceptor's handshake over one end; the other is the test's.
func serve(t *testing.T) (raw rawPeer, result <-chan error) {
	t.Helper()
	below, conn := memPair(t, anysock.Options{})
	done := make(chan error, 1)
	ctx := bounded(t)
	go func() {
		nc, err := server(ctx, below, anysock.Target{})
		if err == nil {
			defer nc.Close()
		} else {
			_ = below.Abort() // as the listener does
		}
		done <- err
	}()
	return rawPeer{t: t, Conn: conn}, done
}

// edited is the dialer's vector with some bytes changed.
func edited(t *testing.T, edit func(b []byte) []byte) []byte {
	t.Helper()
	return edit(bytes.Clone(vectors(t)["opening-dialer"]))
}

func TestAcceptorRefuses(t *testing.T) {
	extension := func(kind byte, length int, body ...byte) func(b []byte) []byte {
		return func(b []byte) []byte {
			b = append(b, kind, byte(length>>8), byte(length))
			b = append(b, body...)
			binary.BigEndian.PutUint16(b[10:], uint16(len(b)-fixedSize))
			return b
		}
	}
	for _, tt := range []struct {
		name string
		edit func(b []byte) []byte
		code Code
		kind anysock.Kind
	}{
		{"a length below the least", func(b []byte) []byte { b[11] = bodySize - 1; return b[:fixedSize] }, CodeProtocol, anysock.KindAuth},
		{"a length beyond 4096", func(b []byte) []byte { b[10], b[11] = 0x0f, 0xf5; return b[:fixedSize] }, CodeProtocol, anysock.KindAuth},
		{"the flag ANSWER", func(b []byte) []byte { b[12] = flagAnswer; return b }, CodeProtocol, anysock.KindAuth},
		{"an unknown flag", func(b []byte) []byte { b[12] = 0x80; return b }, CodeProtocol, anysock.KindAuth},
		{"versions the wrong way round", func(b []byte) []byte { b[8] = 2; return b }, CodeProtocol, anysock.KindAuth},
		{"a later version only", func(b []byte) []byte { b[8], b[9] = 2, 3; return b }, CodeUnsupported, anysock.KindAuth},
		{"version 0 only", func(b []byte) []byte { b[8], b[9] = 0, 0; return b }, CodeUnsupported, anysock.KindAuth},
		{"a required capability that nobody knows", func(b []byte) []byte { b[14] = 0x80; return b }, CodeUnsupported, anysock.KindAuth},
		{"a capability that is not offered", func(b []byte) []byte { b[21] = 0x1e; return b }, CodeUnsupported, anysock.KindAuth},
		{"a destination that is too long", func(b []byte) []byte { b[39] = 1; return b }, CodeProtocol, anysock.KindAuth},
		{"a destination that is no UTF-8", func(b []byte) []byte { b[39], b[11] = 1, bodySize+1; return append(b, 0xff) }, CodeProtocol, anysock.KindAuth},
		{"a destination", func([]byte) []byte { return vectors(t)["opening-destination"] }, CodeRefused, anysock.KindAuth},
		{"an unknown extension", extension(0x01, 2, 0, 0), CodeUnsupported, anysock.KindAuth},
		{"an extension without its body", extension(0x80, 3, 0, 0), CodeProtocol, anysock.KindAuth},
		{"half an extension", func(b []byte) []byte { b[11] += 2; return append(b, 0x80, 0) }, CodeProtocol, anysock.KindAuth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, result := serve(t)
			raw.send(edited(t, tt.edit))
			ctx := bounded(t)
			answer, err := readOpening(ctx, raw.Conn)
			if err != nil || answer.flags != flagAnswer|flagRefused || answer.lowest != lowestVersion || answer.highest != highestVersion {
				t.Fatalf("the answer is %+v, %v; want a refusal", answer, err)
			}
			var why *AbortError
			if err := readRefusal(ctx, raw.Conn); !errors.As(err, &why) || why.Code != tt.code || why.Reason == "" {
				t.Fatalf("the reason is %v, want code %s", err, tt.code)
			}
			if _, err := readAll(raw); err != nil {
				t.Errorf("behind the refusal came %v, want the carrier's end", err)
			}
			_ = raw.Close()
			if err := <-result; kindOf(err) != tt.kind {
				t.Errorf("the acceptor failed with %v of kind %s, want %s", err, kindOf(err), tt.kind)
			}
		})
	}
}

// TestAcceptorTakes: what is new in later versions and may be ignored.
func TestAcceptorTakes(t *testing.T) {
	for name, edit := range map[string]func(b []byte) []byte{
		"a range of versions":          func(b []byte) []byte { b[8], b[9] = 0, 9; return b },
		"a hop limit of 0":             func(b []byte) []byte { b[13] = 0; return b },
		"more offered than anybody":    func(b []byte) []byte { b[18] = 0xff; return b },
		"nothing required":             func(b []byte) []byte { b[17] = 0; return b },
		"an extension to be ignored":   func(b []byte) []byte { b[11] += 4; return append(b, 0x81, 0, 1, 7) },
		"the longest opening there is": longest,
	} {
		t.Run(name, func(t *testing.T) {
			raw, result := serve(t)
			raw.send(edited(t, edit))
			raw.expect(vectors(t)["opening-acceptor"])
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// longest fills an opening with ignorable extensions up to MaxOpening.
func longest(b []byte) []byte {
	room := MaxOpening - len(b) - 3
	b = append(b, 0x80, byte(room>>8), byte(room))
	b = append(b, make([]byte, room)...)
	binary.BigEndian.PutUint16(b[10:], uint16(len(b)-fixedSize))
	return b
}

// TestAcceptorSaysNothingToOthers: a peer that does not speak lc is left
// without a byte, at its first wrong one.
func TestAcceptorSaysNothingToOthers(t *testing.T) {
	own := string(magic[:])
	for name, hello := range map[string]string{
		"HTTP":              "GET / HTTP/1.1\r\n\r\n",
		"TLS":               "\x16\x03\x01\x02\x00\x01",
		"SSH":               "SSH-2.0-OpenSSH_9.9\r\n",
		"one byte":          "x",
		"seven bits":        "\x0a" + own[1:],
		"changed line ends": "\x8alc/\n\x1a\n",
		"the last byte":     own[:7] + "x",
	} {
		t.Run(name, func(t *testing.T) {
			raw, result := serve(t)
			raw.send([]byte(hello))
			err := <-result // without waiting for the rest
			if kindOf(err) != anysock.KindAuth || !errors.Is(err, errNotLC) {
				t.Errorf("the acceptor failed with %v", err)
			}
			if got, _ := readAll(raw); got != "" {
				t.Errorf("the acceptor sent %x", got)
			}
		})
	}
	for name, hello := range map[string]string{"nothing": "", "half the magic": own[:4], "the magic alone": own} {
		t.Run(name+" and the end", func(t *testing.T) {
			raw, result := serve(t)
			if hello != "" {
				raw.send([]byte(hello))
			}
			if err := raw.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; kindOf(err) != anysock.KindAuth || errors.Is(err, io.EOF) {
				t.Errorf("the acceptor failed with %v", err)
			}
			if got, _ := readAll(raw); got != "" {
				t.Errorf("the acceptor sent %x", got)
			}
		})
	}
}

// TestSilentClientIsGivenUp: the context bounds the opening, whether nothing
// comes or a part.
func TestSilentClientIsGivenUp(t *testing.T) {
	for name, hello := range map[string][]byte{"nothing": nil, "a part": vectors(t)["opening-dialer"][:20]} {
		t.Run(name, func(t *testing.T) {
			below, conn := memPair(t, anysock.Options{})
			raw := rawPeer{t: t, Conn: conn}
			raw.send(hello)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			_, err := server(ctx, below, anysock.Target{})
			var e *anysock.Error
			if kindOf(err) != anysock.KindTimeout || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Hint == "" {
				t.Errorf("the acceptor failed with %v", err)
			}
		})
	}
}

// TestDialerFails with an answer that is none, and says why.
func TestDialerFails(t *testing.T) {
	answer := vectors(t)["opening-acceptor"]
	change := func(edit func(b []byte)) string {
		b := bytes.Clone(answer)
		edit(b)
		return string(b)
	}
	for _, tt := range []struct {
		name, answer string
		kind         anysock.Kind
		says         string
	}{
		{"text", "SSH-2.0-OpenSSH_9.9\r\n", anysock.KindAuth, "does not speak"},
		{"an echo", string(vectors(t)["opening-dialer"]), anysock.KindAuth, "dialed too"},
		{"the end", "", anysock.KindAuth, "ended the connection"},
		{"the end in the answer", string(answer[:20]), anysock.KindAuth, "ended the connection"},
		{"another correlator", change(func(b []byte) { b[37] ^= 1 }), anysock.KindAuth, "another opening"},
		{"a version that was not offered", change(func(b []byte) { b[8], b[9] = 2, 2 }), anysock.KindAuth, "versions"},
		{"several versions", change(func(b []byte) { b[8] = 0 }), anysock.KindAuth, "versions"},
		{"an unknown flag", change(func(b []byte) { b[12] |= 4 }), anysock.KindAuth, "flags"},
		{"a capability missing", change(func(b []byte) { b[21] = 0x17 }), anysock.KindAuth, "does not offer"},
		{"a capability required", change(func(b []byte) { b[14] = 1 }), anysock.KindAuth, "requires"},
		{"a destination", change(func(b []byte) { b[11]++; b[39] = 1 }) + "x", anysock.KindAuth, "destination"},
		{"a refusal", string(vectors(t)["refusal"]), anysock.KindRefused, "not served"},
		{"a refusal of hops", string(vectors(t)["refusal"][:40]) + string(aborted(CodeHops, "far")), anysock.KindHop, "far"},
		{"a refusal of capabilities", string(vectors(t)["refusal"][:40]) + string(aborted(CodeUnsupported, "old")), anysock.KindAuth, "old"},
		{"a refusal without ABORT", string(vectors(t)["refusal"][:40]) + string(counted(frameEnd, 0)), anysock.KindAuth, "without ABORT"},
		{"a refusal with half an ABORT", string(vectors(t)["refusal"][:47]), anysock.KindAuth, "ended the connection"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			below, conn := memPair(t, anysock.Options{})
			raw := rawPeer{t: t, Conn: conn}
			raw.send([]byte(tt.answer))
			if err := raw.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			o := testOpening()
			err := dialOpening(bounded(t), below, &o)
			if kindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the dialer failed with %v of kind %s; want kind %s and %q", err, kindOf(err), tt.kind, tt.says)
			}
			raw.expect(o.append(nil))
			_ = below.Close()
			if rest, _ := readAll(raw); rest != "" {
				t.Errorf("the dialer sent more: %x", rest)
			}
		})
	}
}

// TestBytesBehindTheOpeningAreKept: an acceptor that speaks at once.
func TestBytesBehindTheOpeningAreKept(t *testing.T) {
	below, conn := memPair(t, anysock.Options{})
	raw := rawPeer{t: t, Conn: conn}
	raw.send(vectors(t)["opening-acceptor"], data("hello"), counted(frameEnd, 5))
	o := testOpening()
	if err := dialOpening(bounded(t), below, &o); err != nil {
		t.Fatal(err)
	}
	c := anysock.Wrap(newStream(below, liveness{}), anysock.Options{})
	defer c.Close()
	if s, err := readAll(c); s != "hello" || err != nil {
		t.Errorf("the dialer read %q, %v", s, err)
	}
}
