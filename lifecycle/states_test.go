// This file tests each row of the specification's state table
// (docs/LIFECYCLE-PROTOCOL.md, section 4), on both sides of the connection's
// life: before the peer's END and after it.

package lifecycle

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/anysock/anysock"
)

// A play is what the raw peer sends, and what the program must see.
type play struct {
	name   string
	before string   // what our side does first: "", "write" (5 bytes), "end" (write and CloseWrite)
	send   [][]byte // by the raw peer; then its carrier ends
	read   string   // what the program reads
	end    error    // io.EOF, or nil for a failure of kind
	kind   anysock.Kind
	breach bool // the peer is told by ABORT protocol
}

func TestStateTable(t *testing.T) {
	const (
		truncated = anysock.KindTruncated
		reset     = anysock.KindReset
	)
	end := func(n int64) []byte { return counted(frameEnd, n) }
	for _, p := range []play{
		// receive OPEN
		{name: "DATA", send: [][]byte{data("hello")}, read: "hello", kind: truncated},
		{name: "two DATA", send: [][]byte{data("he"), data("llo")}, read: "hello", kind: truncated},
		{name: "END", send: [][]byte{data("hello"), end(5)}, read: "hello", end: io.EOF},
		{name: "END alone", send: [][]byte{end(0)}, end: io.EOF},
		{name: "END with a count that is too low", send: [][]byte{data("hello"), end(4)}, read: "hello", kind: truncated, breach: true},
		{name: "END with a count that is too high", send: [][]byte{data("hello"), end(6)}, read: "hello", kind: truncated, breach: true},
		{name: "END with a negative count", send: [][]byte{end(-1)}, kind: truncated, breach: true},
		{name: "END_ACK of nothing", send: [][]byte{counted(frameEndAck, 0)}, kind: truncated, breach: true},
		{name: "END_ACK before our END", before: "write", send: [][]byte{counted(frameEndAck, 5)}, kind: truncated, breach: true},
		{name: "END_ACK", before: "end", send: [][]byte{counted(frameEndAck, 5), end(0)}, end: io.EOF},
		{name: "END_ACK of another count", before: "end", send: [][]byte{counted(frameEndAck, 4)}, kind: truncated, breach: true},
		{name: "END_ACK twice", before: "end", send: [][]byte{counted(frameEndAck, 5), counted(frameEndAck, 5)}, kind: truncated, breach: true},
		{name: "ABORT", send: [][]byte{data("hello"), aborted(CodeProgram, "quota")}, read: "hello", kind: reset},
		{name: "ABORT in a later version's words", send: [][]byte{aborted(4000, "new")}, kind: reset},
		{name: "PING with a wrong count", send: [][]byte{data("hello"), counted(framePing, 4)}, read: "hello", kind: truncated, breach: true},
		{name: "PONG without PING", send: [][]byte{counted(framePong, 0)}, kind: truncated, breach: true},
		{name: "a frame to skip", send: [][]byte{data("he"), frame(0xc0, 1, 2, 3), data("llo"), frame(0x80), end(5)}, read: "hello", end: io.EOF},
		{name: "the longest frame to skip", send: [][]byte{frame(0xff, make([]byte, MaxIgnored)...), data("hello"), end(5)}, read: "hello", end: io.EOF},
		{name: "a frame to skip that is too long", send: [][]byte{appendHeader(nil, 0x80, MaxIgnored+1)}, kind: truncated, breach: true},
		{name: "an unknown frame", send: [][]byte{frame(0x07)}, kind: truncated, breach: true},
		{name: "type 0", send: [][]byte{frame(0)}, kind: truncated, breach: true},
		{name: "DATA of 0 bytes", send: [][]byte{frame(frameData)}, kind: truncated, breach: true},
		{name: "DATA that is too long", send: [][]byte{appendHeader(nil, frameData, MaxData+1)}, kind: truncated, breach: true},
		{name: "ABORT that is too short", send: [][]byte{frame(frameAbort, 1)}, kind: truncated, breach: true},
		{name: "ABORT that is too long", send: [][]byte{appendHeader(nil, frameAbort, 259)}, kind: truncated, breach: true},
		{name: "END of 7 bytes", send: [][]byte{frame(frameEnd, 0, 0, 0, 0, 0, 0, 0)}, kind: truncated, breach: true},
		{name: "the carrier's end", kind: truncated},
		{name: "the carrier's end in a header", send: [][]byte{{frameData, 0}}, kind: truncated},
		{name: "the carrier's end in DATA", send: [][]byte{data("hello")[:6]}, read: "he", kind: truncated},
		{name: "the carrier's end in END", send: [][]byte{end(0)[:11]}, kind: truncated},

		// receive ENDED: the end that was read stays true
		{name: "DATA after END", send: [][]byte{end(0), data("x")}, end: io.EOF, breach: true},
		{name: "END twice", send: [][]byte{end(0), end(0)}, end: io.EOF, breach: true},
		{name: "END_ACK after END", before: "end", send: [][]byte{end(0), counted(frameEndAck, 5)}, end: io.EOF},
		{name: "ABORT after END", send: [][]byte{end(0), aborted(CodeNone, "")}, end: io.EOF},
		{name: "PING after END with a wrong count", send: [][]byte{end(0), counted(framePing, 1)}, end: io.EOF, breach: true},
		{name: "an unknown frame after END", send: [][]byte{end(0), frame(0x10)}, end: io.EOF, breach: true},
	} {
		for how, cut := range map[string]func([][]byte) [][]byte{"whole": joined, "bytes": split} {
			t.Run(fmt.Sprintf("%s %s", p.name, how), func(t *testing.T) { p.run(t, cut(p.send)) })
		}
	}
}

func joined(frames [][]byte) [][]byte {
	var all []byte
	for _, f := range frames {
		all = append(all, f...)
	}
	if all == nil {
		return nil
	}
	return [][]byte{all}
}

func split(frames [][]byte) (all [][]byte) {
	for _, b := range joined(frames) {
		for i := range b {
			all = append(all, b[i:i+1])
		}
	}
	return all
}

func (p *play) run(t *testing.T, pieces [][]byte) {
	c, raw := withRawPeer(t, liveness{})
	if p.before != "" {
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		raw.expect(data("hello"))
	}
	if p.before == "end" {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		raw.expect(counted(frameEnd, 5))
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, b := range pieces {
			if _, err := raw.Write(b); err != nil {
				return // the stream has had enough
			}
		}
		_ = raw.CloseWrite()
	}()
	got, err := readAll(c)
	if got != p.read {
		t.Errorf("the program read %q, want %q", got, p.read)
	}
	switch {
	case p.end != nil && err != nil:
		t.Errorf("the program was told %v, want the end", err)
	case p.end == nil && err == nil:
		t.Error("the program took it for an end")
	case p.end == nil && kindOf(err) != p.kind:
		t.Errorf("the program was told %v of kind %s, want kind %s", err, kindOf(err), p.kind)
	}
	<-sent
	if p.end != nil {
		raw.expect(counted(frameEndAck, int64(len(p.read))))
	}
	if p.breach {
		p.expectBreach(t, c, raw)
	}
}

// expectBreach: the peer is told that it broke the protocol, by the last frame.
func (p *play) expectBreach(t *testing.T, c *anysock.Conn, raw rawPeer) {
	t.Helper()
	head := make([]byte, headerSize+codeSize)
	if _, err := io.ReadFull(rawReader{raw}, head); err != nil {
		t.Fatalf("the raw peer waits for ABORT: %v", err)
	}
	if head[0] != frameAbort || head[4] != 0 || Code(head[5]) != CodeProtocol {
		t.Fatalf("the raw peer got %x, want ABORT protocol", head)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a write after a breach is taken")
	}
	_ = c.Close()
	rest, err := io.ReadAll(rawReader{raw})
	if len(rest) != int(head[3])-codeSize || err != nil && kindOf(err) != anysock.KindReset {
		t.Errorf("behind the code came %q, %v; want a reason of %d bytes and the carrier's end", rest, err, int(head[3])-codeSize)
	}
}

// TestPingIsAnsweredBehindTheData: when the program has taken what is before
// it, and not earlier.
func TestPingIsAnsweredBehindTheData(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	raw.send(data("hello"), counted(framePing, 5))
	buf := make([]byte, 3)
	if _, err := c.Read(buf); err != nil {
		t.Fatal(err)
	}
	expectSilence(t, raw)
	if _, err := c.Read(buf); err != nil {
		t.Fatal(err)
	}
	raw.expect(counted(framePong, 5)) // by the watcher: nobody reads now
	raw.send(counted(framePing, 5))
	raw.expect(counted(framePong, 5))
	raw.send(counted(frameEnd, 5), counted(framePing, 5))
	raw.expect(counted(framePong, 5))
	if s, err := readAll(c); s != "" || err != nil {
		t.Errorf("the program read %q, %v", s, err)
	}
	raw.expect(counted(frameEndAck, 5))
}

// expectSilence fails the test if the stream says anything while its watcher
// had the time to.
func expectSilence(t *testing.T, raw rawPeer) {
	t.Helper()
	_ = raw.SetReadDeadline(timeout(3 * watchAfter))
	defer func() { _ = raw.SetReadDeadline(never) }()
	b := make([]byte, 64)
	if n, err := raw.Read(b); !isDeadline(err) {
		t.Fatalf("the raw peer got %x, %v; want nothing", b[:n], err)
	}
}

// TestPongConfirms: a PONG's count is what the peer's program has taken, and
// must be one that was asked for.
func TestPongConfirms(t *testing.T) {
	for _, tt := range []struct {
		name    string
		pongs   []int64
		unacked int64
		breach  bool
	}{
		{"all", []int64{MarkEvery}, 0, false},
		{"again", []int64{MarkEvery, MarkEvery}, 0, false},
		{"some", []int64{100}, MarkEvery - 100, false},
		{"back", []int64{100, 99}, 0, true},
		{"more than was asked for", []int64{MarkEvery + 1}, 0, true},
		{"negative", []int64{-1}, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, raw := withRawPeerOptions(t, liveness{}, anysock.Options{})
			written := make(chan error, 1)
			go func() {
				_, err := c.Write(make([]byte, MarkEvery))
				written <- err
			}()
			for range MarkEvery / MaxData {
				raw.expect(frame(frameData, make([]byte, MaxData)...))
			}
			raw.expect(counted(framePing, MarkEvery)) // the mark
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if n, err := c.Unacked(); n != MarkEvery || err != nil {
				t.Errorf("before the answer %d bytes are unacknowledged, %v", n, err)
			}
			for _, n := range tt.pongs {
				raw.send(counted(framePong, n))
			}
			raw.send(data("x"))
			_, err := io.ReadFull(c, make([]byte, 1))
			if tt.breach {
				if kindOf(err) != anysock.KindTruncated {
					t.Errorf("the program was told %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n, err := c.Unacked(); n != tt.unacked || err != nil {
				t.Errorf("%d bytes are unacknowledged, %v; want %d", n, err, tt.unacked)
			}
		})
	}
}

// TestAbortTellsCodeAndReason, found by errors.As, with what came before it
// delivered first.
func TestAbortTellsCodeAndReason(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	raw.send(data("hello"), aborted(CodeProgram+7, "quota"))
	s, err := readAll(c)
	var why *AbortError
	if s != "hello" || kindOf(err) != anysock.KindReset || !errors.As(err, &why) {
		t.Fatalf("the program read %q, %v", s, err)
	}
	if why.Code != CodeProgram+7 || why.Reason != "quota" {
		t.Errorf("the reason is %v", why)
	}
	if e := c.End(); e.How != anysock.AbortedByPeer || !errors.As(e.Err, &why) {
		t.Errorf("the ending is %q, %v", e, e.Err)
	}
}

// TestCompleteIgnoresWhatComes: after both directions were confirmed nothing
// of the carrier's matters.
func TestCompleteIgnoresWhatComes(t *testing.T) {
	for name, last := range map[string]func(raw rawPeer){
		"ABORT":          func(raw rawPeer) { raw.send(aborted(CodeNone, "")) },
		"carrier's end":  func(raw rawPeer) { _ = raw.CloseWrite() },
		"carrier's fall": func(raw rawPeer) { _ = raw.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			c, raw := withRawPeer(t, liveness{})
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			raw.expect(counted(frameEnd, 0))
			raw.send(counted(frameEnd, 0), counted(frameEndAck, 0))
			if _, err := readAll(c); err != nil {
				t.Fatal(err)
			}
			raw.expect(counted(frameEndAck, 0))
			if err := c.WaitAcked(bounded(t)); err != nil {
				t.Fatal(err)
			}
			last(raw)
			s := underneath(c)
			s.mu.Lock()
			s.watch()
			s.mu.Unlock()
			until(t, "somebody has looked", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.reader == nobody || name == "ABORT"
			})
			select {
			case <-s.Failed():
				t.Error("it is noticed as a failure")
			default:
			}
			end, err := c.Disconnect(bounded(t))
			if end.How != anysock.Graceful || err != nil {
				t.Errorf("the ending is %q, %v", end, err)
			}
		})
	}
}
