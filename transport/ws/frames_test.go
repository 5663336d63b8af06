package ws

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// bothSides runs f with our end as a server and as a client.
func bothSides(t *testing.T, f func(t *testing.T, p *rawPeer, c *anysock.Conn)) {
	t.Run("server", func(t *testing.T) {
		p, c := rawClient(t, listen(t, "ws://127.0.0.1:0"))
		f(t, p, c)
	})
	t.Run("client", func(t *testing.T) {
		p, c := rawServer(t)
		f(t, p, c)
	})
}

// Messages come out as the bytes in them, however they are cut into frames.
func TestFragments(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		p.frame(fin|binaryData, "")
		p.frame(binaryData, "a")
		p.frame(fin|ping, "in between")
		p.frame(continuation, "")
		p.frame(continuation, strings.Repeat("b", 126))
		wantRead(t, c, "a"+strings.Repeat("b", 126)) // before the message is whole
		p.frame(fin|continuation, strings.Repeat("c", 70_000))
		p.frame(fin|binaryData, "d")
		wantRead(t, c, strings.Repeat("c", 70_000)+"d")
		p.want(fin|pong, "in between")
		p.closeFrame(1000, "bye")
		p.wantClose(1000)
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after the peer's end: %d, %v", n, err)
		}
	})
}

// What we write is whole binary messages of at most 64 KiB, masked by clients
// and not by servers.
func TestMessages(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		for _, size := range []int{1, 125, 126, 4095, 65_535, 65_536} {
			data := strings.Repeat("m", size)
			if n, err := c.Write([]byte(data)); n != size || err != nil {
				t.Fatal(n, err)
			}
			p.want(fin|binaryData, data)
		}
		if n, err := c.Write(make([]byte, 65_537)); n != 65_537 || err != nil {
			t.Fatal(n, err)
		}
		p.want(fin|binaryData, string(make([]byte, 65_536)))
		p.want(fin|binaryData, "\x00")
		if n, err := c.Write(nil); n != 0 || err != nil { // no message at all
			t.Fatal(n, err)
		}
		if _, err := c.Write([]byte("z")); err != nil {
			t.Fatal(err)
		}
		p.want(fin|binaryData, "z")
	})
}

// What the protocol forbids is answered by a close frame with the right code,
// and is a cut, never an end.
func TestBadFrames(t *testing.T) {
	long := strings.Repeat("x", 126)
	for _, tt := range []struct {
		name string
		send func(p *rawPeer)
		code uint16
		says string
	}{
		{"text", func(p *rawPeer) { p.frame(fin|text, "hello") }, 1003, "text message"},
		{"the beginning of a text", func(p *rawPeer) { p.frame(text, "hello") }, 1003, "text message"},
		{"a reserved bit", func(p *rawPeer) { p.frame(fin|binaryData|0x40, "x") }, 1002, "rsv"},
		{"another reserved bit", func(p *rawPeer) { p.frame(fin|binaryData|0x10, "x") }, 1002, "rsv"},
		{"an unknown opcode", func(p *rawPeer) { p.frame(fin|0x3, "x") }, 1002, "opcode"},
		{"an unknown control opcode", func(p *rawPeer) { p.frame(fin|0xb, "x") }, 1002, "opcode"},
		{"a continuation of nothing", func(p *rawPeer) { p.frame(fin|continuation, "x") }, 1002, "continuation"},
		{"a message in a message", func(p *rawPeer) { p.frame(binaryData, "x"); p.frame(fin|binaryData, "y") }, 1002, "previous message"},
		{"a fragmented ping", func(p *rawPeer) { p.frame(ping, "x") }, 1002, "fragmented"},
		{"a long ping", func(p *rawPeer) { p.frame(fin|ping, long) }, 1002, "length"},
		{"a long close frame", func(p *rawPeer) { p.frame(fin|closing, long) }, 1002, "length"},
		{"half a close code", func(p *rawPeer) { p.frame(fin|closing, "\x03") }, 1002, "too small"},
		{"a close code that is none", func(p *rawPeer) { p.closeFrame(1005, "") }, 1002, "invalid status code"},
		{"a negative length", func(p *rawPeer) { p.send("\x82" + mask(p, 127) + "\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00") }, 1002, "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
				tt.send(p)
				p.wantClose(tt.code)
				_, err := io.Copy(io.Discard, c)
				if !isKind(err, anysock.KindTruncated) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("reading: %v, want a cut that says %q", err, tt.says)
				}
				if _, err := c.Write([]byte("x")); !isKind(err, anysock.KindTruncated) {
					t.Errorf("writing: %v", err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				p.wantEOF() // and no second close frame
				if e := c.End(); e.How != anysock.Truncated {
					t.Errorf("the ending is %v", e)
				}
			})
		})
	}
	t.Run("a client's frame without a mask", func(t *testing.T) {
		p, c := rawClient(t, listen(t, "ws://127.0.0.1:0"))
		p.send(string(frame(fin|binaryData, []byte("x"), false)))
		p.wantClose(1002)
		if _, err := c.Read(make([]byte, 1)); !isKind(err, anysock.KindTruncated) || !strings.Contains(err.Error(), "unmasked") {
			t.Errorf("reading: %v", err)
		}
	})
}

// mask is the second byte of a peer's frame with this length.
func mask(p *rawPeer, length byte) string {
	if p.client {
		length |= 0x80
	}
	return string([]byte{length})
}

// What each close frame means, and each end without one.
func TestPeersEnd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		end   func(p *rawPeer)
		kind  anysock.Kind // KindOther is end of file
		says  string
		reply uint16 // 0 is none
		torn  string // what may come of a frame
	}{
		{"1000", func(p *rawPeer) { p.closeFrame(1000, "") }, anysock.KindOther, "", 1000, ""},
		{"1001, going away", func(p *rawPeer) { p.closeFrame(1001, "bye") }, anysock.KindOther, "", 1001, ""},
		{"no code", func(p *rawPeer) { p.frame(fin|closing, "") }, anysock.KindOther, "", 1005, ""},
		{"1011", func(p *rawPeer) { p.closeFrame(1011, "it \x1b[1m broke") }, anysock.KindReset, `1011: "it \x1b[1m broke"`, 1011, ""},
		{"1002", func(p *rawPeer) { p.closeFrame(1002, "") }, anysock.KindReset, "1002", 1002, ""},
		{"4000", func(p *rawPeer) { p.closeFrame(4000, "") }, anysock.KindReset, "4000", 4000, ""},
		{"a FIN alone", func(p *rawPeer) { p.finish() }, anysock.KindTruncated, "without a close frame", 0, ""},
		{"a FIN in a frame", func(p *rawPeer) { p.send("\x82" + mask(p, 10) + "\x00\x00"); p.finish() }, anysock.KindTruncated, "without a close frame", 0, "\x00\x00"},
		{"a FIN between fragments", func(p *rawPeer) { p.frame(binaryData, ""); p.finish() }, anysock.KindTruncated, "without a close frame", 0, ""},
		{"a FIN in a close frame", func(p *rawPeer) { p.send("\x88" + mask(p, 2)); p.finish() }, anysock.KindTruncated, "without a close frame", 0, ""},
		{"a reset", func(p *rawPeer) { p.reset() }, anysock.KindReset, "reset by peer", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
				p.frame(fin|binaryData, "before")
				wantRead(t, c, "before")
				tt.end(p)
				// It is noticed though nobody reads; an end is no failure.
				if tt.kind != anysock.KindOther {
					if r, err := c.Wait(bounded(t), 0, 1); r&(anysock.Failed|anysock.HungUp) == 0 || err != nil {
						t.Errorf("waiting for a failure: %v, %v", r, err)
					}
				}
				switch tt.reply {
				case 0:
				case 1005:
					p.want(fin|closing, "")
				default:
					p.wantClose(tt.reply)
				}
				rest, err := io.ReadAll(struct{ io.Reader }{c})
				switch {
				case string(rest) != "" && string(rest) != tt.torn:
					t.Errorf("%q after the end", rest)
				case tt.kind == anysock.KindOther:
					if err != nil {
						t.Errorf("reading: %v, want end of file", err)
					}
				case !isKind(err, tt.kind) || !strings.Contains(err.Error(), tt.says):
					t.Errorf("reading: %v, want kind %s and %q", err, tt.kind, tt.says)
				}
				_, err = c.Write([]byte("too late"))
				if want := tt.kind; err == nil || want == anysock.KindOther && !isKind(err, anysock.KindState) || want != anysock.KindOther && !isKind(err, want) {
					t.Errorf("writing: %v", err)
				}
				end, err := c.Disconnect(bounded(t))
				how := map[anysock.Kind]anysock.How{anysock.KindOther: anysock.Graceful, anysock.KindReset: anysock.AbortedByPeer, anysock.KindTruncated: anysock.Truncated}[tt.kind]
				if end.How != how || (err == nil) != (how == anysock.Graceful) {
					t.Errorf("the ending is %v, %v; want %s", end, err, how)
				}
				if how == anysock.Graceful {
					p.wantEOF()
				}
			})
		})
	}
}

// Our end is the close frame 1000, and the peer's own is awaited; what the peer
// sends before that is still read.
func TestOurEnd(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		if _, err := c.Write([]byte("all")); err != nil {
			t.Fatal(err)
		}
		done := make(chan anysock.End, 1)
		go func() {
			end, _ := c.Disconnect(bounded(t))
			done <- end
		}()
		p.want(fin|binaryData, "all")
		p.wantClose(1000)
		p.frame(fin|ping, "still there?")
		p.frame(fin|binaryData, "late words")
		select {
		case end := <-done:
			t.Fatalf("Disconnect did not wait for the peer's close frame: %v", end)
		case <-time.After(20 * time.Millisecond):
		}
		p.closeFrame(1000, "")
		p.wantEOF() // without a pong or a second close frame behind ours
		acked := anysock.AckedNone
		if c.Caps().Has(anysock.CapCloseAck) {
			acked = anysock.AckedKernel
		}
		if end := <-done; end.How != anysock.Graceful || end.By != anysock.Us || end.Drained != 10 || end.AckedBy != acked {
			t.Errorf("the ending is %v", end)
		}
	})
}

// A peer that closes in order, and drops what we had sent before it read that,
// has lost it: that is no graceful end.
func TestUndelivered(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		if !c.Caps().Has(anysock.CapCloseAck) {
			t.Skip("this platform does not tell what was acknowledged: the kernel may have taken all")
		}
		if err := c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		p.closeFrame(1000, "")
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Fatalf("%d, %v; want the peer's end", n, err)
		}
		p.reset()
		if end, err := c.Disconnect(bounded(t)); err == nil || end.How.Complete() {
			t.Errorf("the ending is %v, %v; want a failure", end, err)
		}
	})
}

// The same of the stream alone, where the carrier has no acknowledgement.
func TestUndeliveredByTheStream(t *testing.T) {
	p, s := bareStream(t, settings{})
	if err := s.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	if err := s.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.closeFrame(1000, "")
	if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("%d, %v; want the peer's end", n, err)
	}
	p.reset()
	// The kernel may have taken all meanwhile; then nothing is owed here.
	err := s.CloseWrite()
	if data, _ := s.wire.owed(); data > 0 && !isKind(err, anysock.KindReset) {
		t.Errorf("ending with %d undelivered bytes: %v, want the reset", data, err)
	}
}

// A client that closes and does not wait for our answer has lost nothing.
func TestPeerDoesNotWait(t *testing.T) {
	p, s := bareStream(t, settings{})
	p.closeFrame(1000, "")
	if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("%d, %v; want the peer's end", n, err)
	}
	p.wantClose(1000)
	p.reset()
	if err := s.CloseWrite(); err != nil {
		t.Errorf("ending after it: %v", err)
	}
}

// The peer's close frame is answered, and the connection below ended, also while
// our program does nothing: clients wait for that.
func TestPeersEndIsAnsweredAtOnce(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		p.closeFrame(1000, "")
		p.wantClose(1000)
		p.wantEOF()
		if end := c.End(); end.How != anysock.NotEnded {
			t.Errorf("the ending is %v before our program has looked", end)
		}
	})
}

// An abort is a close frame with a code of failure, and then a reset.
func TestOurAbort(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		if err := c.Abort(); err != nil {
			t.Fatal(err)
		}
		p.wantClose(1011)
		if _, err := p.r.ReadByte(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("after the close frame of an abort: %v, want a reset", err)
		}
	})
}

// A peer that reads nothing does not hold an abort up.
func TestAbortWithoutReader(t *testing.T) {
	bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		if err := c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		began := time.Now()
		if err := c.Abort(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the abort took %s", took)
		}
		if _, err := io.Copy(io.Discard, p.r); err == nil {
			t.Error("the peer read an end of file")
		}
	})
}

// TestMessageOfAnySize: a message that says it is 1 GiB long costs the memory
// of a buffer, and its bytes come out as they come in.
func TestMessageOfAnySize(t *testing.T) {
	const size = 1 << 30
	p, c := rawClient(t, listen(t, "ws://127.0.0.1:0"))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	head := frame(fin|binaryData, nil, true)
	head[1] = 0x80 | 127
	p.send(string(head[:2]) + "\x00\x00\x00\x00\x40\x00\x00\x00" + "\x00\x00\x00\x00")
	piece := bytes.Repeat([]byte("y"), 1<<20)
	go func() {
		for range 64 {
			if _, err := p.Write(piece); err != nil {
				return
			}
		}
		_ = p.Close()
	}()
	n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
	if n < 63<<20 || !isKind(err, anysock.KindTruncated) && !isKind(err, anysock.KindReset) {
		t.Errorf("%d bytes of 64 MiB came, then %v; want nearly all, and a cut", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated for a message of %d", grown, size)
	}
}

// A peer that pings without end and reads no pong is answered less, and costs
// no more memory than a few kilobytes.
func TestPingFlood(t *testing.T) {
	p, s := bareStream(t, settings{})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		flood := bytes.Repeat(frame(fin|ping, bytes.Repeat([]byte("p"), 125), true), 100)
		for !isClosed(stop) {
			if _, err := p.Write(flood); err != nil {
				t.Errorf("the flood: %v", err)
				return
			}
		}
	}()
	// The pongs fill the path to the peer; then what waits is bounded.
	until(t, "pongs wait", func() bool { return s.wire.Queued() > maxPongs })
	for received, most := s.wire.received.Load(), 0; s.wire.received.Load() < received+1<<20; {
		// What is just being taken below is counted twice for a moment.
		if most = max(most, s.wire.Queued()); most > 3*maxPongs {
			t.Errorf("%d bytes of pongs wait, at most about %d should", most, maxPongs)
			break
		}
		runtime.Gosched()
	}
	close(stop)
	<-done
	// Data still passes both ways.
	go func() { _, _ = s.Write([]byte("data")) }()
	for {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.first == fin|binaryData {
			break
		}
	}
	p.frame(fin|binaryData, "hello")
	buf := make([]byte, 10)
	if n, err := s.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	ctx := bounded(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(what + ": did not happen")
		}
	}
}

// Abort and Close after the other side broke off do not overtake the close frame
// that answers it.
func TestReleaseAfterFailure(t *testing.T) {
	for code, breakOff := range map[uint16]func(p *rawPeer){
		1003: func(p *rawPeer) { p.frame(fin|text, "x") },
		1002: func(p *rawPeer) { p.frame(fin|0x3, "x") },
		4001: func(p *rawPeer) { p.closeFrame(4001, "") },
	} {
		for _, release := range []func(c *anysock.Conn) error{(*anysock.Conn).Abort, (*anysock.Conn).Close} {
			bothSides(t, func(t *testing.T, p *rawPeer, c *anysock.Conn) {
				breakOff(p)
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Fatal("no error")
				}
				if err := release(c); err != nil {
					t.Error(err)
				}
				p.wantClose(code)
				p.wantEOF()
			})
		}
	}
}

// A pong, and a close frame, that fall due while a large message waits for its
// reader go out behind it, and nothing is torn, also when the write's deadline
// passes in the middle.
func TestControlFramesBehindALargeMessage(t *testing.T) {
	for _, size := range []int{100, 1 << 20, 16 << 20} {
		p, s := bareStream(t, settings{})
		data := bytes.Repeat([]byte("d"), size)
		if err := s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		written := make(chan int, 1)
		go func() {
			n, err := s.Write(data)
			if (err == nil) != (n == size) {
				t.Errorf("%d of %d bytes, %v", n, size, err)
			}
			written <- n
		}()
		p.frame(fin|ping, "now")
		p.frame(fin|binaryData, "hello")
		buf := make([]byte, 10)
		if n, err := s.Read(buf); string(buf[:n]) != "hello" || err != nil {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
		accepted := <-written
		if err := s.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- s.CloseWrite() }()
		got, pongs := 0, 0
		for {
			f, err := p.next()
			if err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			if f.first == fin|pong && f.payload == "now" {
				pongs++
				continue
			}
			if f.first == fin|closing {
				break
			}
			if f.first != fin|binaryData || len(f.payload) > 64<<10 || strings.Trim(f.payload, "d") != "" {
				t.Fatalf("after %d bytes the frame %#x %.20q of %d", got, f.first, f.payload, len(f.payload))
			}
			got += len(f.payload)
		}
		if got != accepted || pongs != 1 {
			t.Errorf("%d bytes and %d pongs came; %d bytes were accepted of %d", got, pongs, accepted, size)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}
