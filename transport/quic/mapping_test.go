// This file tests the mapping on the wire, with a bare QUIC client that speaks
// it by hand as docs/QUIC.md says.

package quic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
)

// A byHand is such a client.
type byHand struct {
	t       *testing.T
	qc      *quicgo.Conn
	control *quicgo.SendStream
}

func (r rig) byHand(ctx context.Context, t *testing.T, ln *anysock.Listener) *byHand {
	t.Helper()
	qc, err := r.foreignClient(ctx, ln.Addr(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = qc.CloseWithError(codeDone, "") })
	return &byHand{t: t, qc: qc}
}

// stream opens one with the opening byte and data.
func (h *byHand) stream(data string) *quicgo.Stream {
	h.t.Helper()
	qs, err := h.qc.OpenStream()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := qs.Write(append([]byte{openingByte}, data...)); err != nil {
		h.t.Fatal(err)
	}
	return qs
}

func (h *byHand) say(b []byte) {
	h.t.Helper()
	if h.control == nil {
		str, err := h.qc.OpenUniStream()
		if err != nil {
			h.t.Fatal(err)
		}
		h.control = str
	}
	if _, err := h.control.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

func accept(ctx context.Context, t *testing.T, ln *anysock.Listener) *anysock.Conn {
	t.Helper()
	c, err := ln.AcceptContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	return c
}

// The whole life of a stream, message by message.
func TestMappingOnTheWire(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	h := r.byHand(ctx, t, ln)
	qs := h.stream("request")
	c := accept(ctx, t, ln)
	buf := make([]byte, 7)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "request" {
		t.Fatalf("%q, %v", buf, err)
	}
	theirs := make(chan *quicgo.ReceiveStream, 1)
	go func() {
		str, err := h.qc.AcceptUniStream(ctx)
		if err != nil {
			close(theirs)
			return
		}
		theirs <- str
	}()
	if _, err := c.Write([]byte("reply")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(qs)
	if err != nil || string(got) != "reply" {
		t.Fatalf("%q, %v", got, err)
	}
	str, ok := <-theirs
	if !ok {
		t.Fatal("no control stream")
	}
	in := bufio.NewReader(str)
	hear := func(want message) {
		t.Helper()
		m, err := readMessage(in)
		if err != nil || m != want {
			t.Fatalf("the server says %v, %v; want %v", m, err, want)
		}
	}
	hear(message{kind: msgOpened})
	hear(message{msgEnd, 0, 5})
	if n, err := c.Unacked(); n != 5 || err != nil {
		t.Errorf("unacknowledged are %d, %v; want 5", n, err)
	}
	h.say(message{msgTaken, 0, 2}.append(nil))
	h.say(message{msgAsk, 0, 7}.append(nil))
	hear(message{msgTaken, 0, 7})
	if n, err := c.Unacked(); n != 3 || err != nil {
		t.Errorf("after TAKEN 2 unacknowledged are %d, %v; want 3", n, err)
	}
	done := make(chan anysock.End, 1)
	go func() {
		e, _ := c.Disconnect(ctx)
		done <- e
	}()
	if err := qs.Close(); err != nil {
		t.Fatal(err)
	}
	h.say(message{kind: msgEnd, count: 7}.append(nil))
	hear(message{kind: msgTakenEnd})
	select {
	case e := <-done:
		t.Fatalf("Disconnect returned before TAKEN_END: %v", e)
	default:
	}
	h.say(message{kind: msgTakenEnd}.append(nil))
	hear(message{kind: msgDone})
	early := time.NewTimer(doneWait / 10)
	defer early.Stop()
	select {
	case e := <-done:
		t.Fatalf("Disconnect returned before DONE: %v", e)
	case <-early.C:
	}
	h.say(message{kind: msgDone}.append(nil))
	if e := <-done; e.How != anysock.Graceful || e.AckedBy != anysock.AckedKernel || e.Unacked != 0 {
		t.Errorf("the ending is %v", e)
	}
	select {
	case <-h.qc.Context().Done():
		t.Errorf("the server closed the connection: %v", context.Cause(h.qc.Context()))
	default: // that is the client's part
	}
}

// WaitAcked of what was written needs no end: the peer is asked.
func TestWaitAckedWithoutAnEnd(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	a, b := r.pair(ctx, ln, ln.Addr(), "")
	if _, err := a.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := a.WaitAcked(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("WaitAcked while nobody reads: %v", err)
	}
	if n, err := a.Unacked(); n != 1000 || err != nil {
		t.Errorf("unacknowledged are %d, %v; want 1000", n, err)
	}
	if _, err := io.ReadFull(b, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitAcked(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Unacked(); n != 0 || err != nil {
		t.Errorf("unacknowledged are %d, %v; want 0", n, err)
	}
}

// Several streams of one connection are as many Conns, and one that is aborted
// leaves the others alone.
func TestStreamsOfOneConnection(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("&streams=3")
	h := r.byHand(ctx, t, ln)
	var conns []*anysock.Conn
	var streams []*quicgo.Stream
	for range 3 {
		streams = append(streams, h.stream("hello"))
		conns = append(conns, accept(ctx, t, ln))
	}
	if _, err := h.qc.OpenStream(); err == nil {
		t.Error("a fourth stream could be opened, the bound is 3")
	}
	_ = conns[1].Abort()
	var reset *quicgo.StreamError
	if _, err := io.ReadAll(streams[1]); !errors.As(err, &reset) || reset.ErrorCode != codeAbort {
		t.Errorf("the aborted stream says %v, want a reset with code %d", err, codeAbort)
	}
	for _, i := range []int{0, 2} {
		if _, err := conns[i].Write([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(streams[i], make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	// The last one takes the connection with it.
	_, _ = conns[0].Close(), conns[2].Abort()
	_ = conns[0].Abort()
}

// A peer that breaks the mapping is cut off, and that is no end.
func TestBrokenMapping(t *testing.T) {
	r := newRig(t)
	for name, b := range map[string][]byte{
		"unknown message":            {0x07, 0x00},
		"the server's message":       message{kind: msgOpened}.append(nil),
		"message type 0":             {0x00, 0x00},
		"a stream of the server's":   message{kind: msgTakenEnd, stream: 1}.append(nil),
		"a unidirectional stream":    message{kind: msgTakenEnd, stream: 2}.append(nil),
		"END before what came":       message{kind: msgEnd, count: 3}.append(nil),
		"two different ENDs":         message{kind: msgEnd, count: 9}.append(message{kind: msgEnd, count: 8}.append(nil)),
		"TAKEN_END before the end":   message{kind: msgTakenEnd}.append(nil),
		"too many streams to come":   bytes.Repeat(message{kind: msgEnd, stream: 40, count: 1}.append(nil), maxEarly+1),
		"the end of the control str": nil,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := bound(t)
			ln := r.listen("")
			h := r.byHand(ctx, t, ln)
			h.stream("hello")
			c := accept(ctx, t, ln)
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			h.say(b)
			if b == nil {
				if err := h.control.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var app *quicgo.ApplicationError
			<-h.qc.Context().Done()
			if err := context.Cause(h.qc.Context()); !errors.As(err, &app) || !app.Remote || app.ErrorCode != codeProtocol {
				t.Errorf("the server closes with %v, want code %d", err, codeProtocol)
			}
			if _, err := c.Read(make([]byte, 1)); kindOf(err) != anysock.KindTruncated {
				t.Errorf("the read says %v, want truncated", err)
			}
		})
	}
}

// A stream without the opening byte is reset, and never accepted.
func TestWrongOpeningByte(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	h := r.byHand(ctx, t, ln)
	qs, err := h.qc.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := qs.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var reset *quicgo.StreamError
	if _, err := io.ReadAll(qs); !errors.As(err, &reset) || reset.ErrorCode != codeProtocol {
		t.Errorf("the stream says %v, want a reset with code %d", err, codeProtocol)
	}
	good := h.stream("x")
	c := accept(ctx, t, ln)
	if c.RemoteAddr().String() == "" || good.StreamID() != 4 {
		t.Errorf("stream %d from %s", good.StreamID(), c.RemoteAddr())
	}
}

// A message that overtakes its stream is not lost: END still makes the server
// take what nobody reads.
func TestMessageBeforeItsStream(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	h := r.byHand(ctx, t, ln)
	h.say(message{kind: msgEnd, stream: 0, count: 5}.append(nil))
	h.say(message{kind: msgEnd, stream: 4, count: 6}.append(nil))
	in := make(chan message, 8)
	first := h.stream("first")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	accept(ctx, t, ln)
	go func() {
		defer close(in)
		str, err := h.qc.AcceptUniStream(ctx)
		if err != nil {
			return
		}
		for br := bufio.NewReader(str); ; {
			m, err := readMessage(br)
			if err != nil {
				return
			}
			in <- m
		}
	}()
	if m, n := <-in, <-in; m.kind != msgOpened || n.kind != msgTakenEnd || n.stream != 0 {
		t.Fatalf("the server says %v and %v, want OPENED and TAKEN_END of stream 0", m, n)
	}
	second := h.stream("second")
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	accept(ctx, t, ln)
	if m, n := <-in, <-in; m.kind != msgOpened || m.stream != 4 || n.kind != msgTakenEnd || n.stream != 4 {
		t.Fatalf("the server says %v and %v, want OPENED and TAKEN_END of stream 4", m, n)
	}
}

// A message about a stream that is over, or about one that has just been
// opened, breaks nothing on either side.
func TestLateAndFirstMessages(t *testing.T) {
	for _, client := range []bool{true, false} {
		se := &session{mapped: true, client: client, streams: map[quicgo.StreamID]*stream{}, newest: -1}
		m := message{kind: msgDone, stream: 0}
		if err := se.handle(m); (err == nil) == client {
			t.Errorf("client %t: before the stream: %v", client, err)
		}
		se.passed(0)
		if err := se.handle(m); err != nil {
			t.Errorf("client %t: after the stream: %v", client, err)
		}
		if len(se.early) != 0 {
			t.Errorf("client %t: kept are %v", client, se.early)
		}
	}
	// A server that ends at once is heard at once.
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	go func() {
		for c, err := range ln.Conns(ctx) {
			if err != nil {
				return
			}
			_ = c.CloseWrite()
			_ = c.Close()
		}
	}()
	for range 200 {
		c, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), ""))
		if err != nil {
			t.Fatal(err)
		}
		if e, err := c.Disconnect(ctx); err != nil || e.How != anysock.Graceful {
			t.Fatalf("%v, %v", e, err)
		}
	}
}

// What is taken into memory is bounded by a window, and all of it is read.
func TestTailIsBoundedAndComplete(t *testing.T) {
	const window, all = 64 << 10, 4 << 20
	r, ctx := newRig(t), bound(t)
	ln := r.listen("&rcvbuf=65536")
	h := r.byHand(ctx, t, ln)
	data := make([]byte, all)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	qs := h.stream("")
	c := accept(ctx, t, ln)
	h.say(message{kind: msgEnd, count: all}.append(nil))
	var sent int
	for sent < all {
		// Each pause is long enough for the collector to start, and to go on.
		if err := qs.SetWriteDeadline(time.Now().Add(5 * collectAfter)); err != nil {
			t.Fatal(err)
		}
		n, err := qs.Write(data[sent:])
		sent += n
		if n == 0 && err != nil {
			break
		}
	}
	// A window is in our memory, one in the library's, and a packet waits.
	if sent <= window || sent > 2*window+collectChunk+4<<10 {
		t.Errorf("%d bytes could be sent while nobody reads, want more than one window of %d and about two", sent, window)
	}
	wrote := make(chan error, 1)
	go func() {
		err := qs.SetWriteDeadline(time.Time{})
		_, werr := qs.Write(data[sent:])
		wrote <- errors.Join(err, werr, qs.Close())
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// With many streams less of each is taken into memory.
func TestTailRoomIsShared(t *testing.T) {
	se := &session{window: DefaultStreamWindow, streams: map[quicgo.StreamID]*stream{}}
	for n, want := range map[int]int{1: DefaultStreamWindow, 15: 1 << 20, 100: connectionWindow / 100, 1000: collectChunk} {
		for i := range n {
			se.streams[quicgo.StreamID(i)] = nil
		}
		if got := se.tailRoom(); got != want {
			t.Errorf("with %d streams: %d, want %d", n, got, want)
		}
		clear(se.streams)
	}
}

// Whatever comes on a control stream is a message or an error, and what is
// written is read back.
func FuzzControlMessages(f *testing.F) {
	f.Add(message{kind: msgEnd, stream: 4, count: 1 << 40}.append(nil))
	f.Add(message{kind: msgDone, stream: 1 << 61}.append(message{kind: msgTaken, stream: 8, count: 0}.append(nil)))
	f.Add([]byte{0xc0, 0, 0, 0, 0, 0, 0, 1, 0x40})
	f.Add([]byte{0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			m, err := readMessage(r)
			if err != nil {
				return
			}
			if m.count < 0 || m.stream < 0 || m.kind < msgEnd || m.kind > msgOpened {
				t.Fatalf("message %v", m)
			}
			again, err := readMessage(bytes.NewReader(m.append(nil)))
			if err != nil || again != m {
				t.Fatalf("%v was read back as %v, %v", m, again, err)
			}
		}
	})
}
