// This file fuzzes both sides: whatever bytes a peer sends, before and after
// the opening, against a model that takes the whole at once; and long valid
// sequences of frames against what the program did.

package lifecycle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/anysock/anysock"
)

// inChunks sends b in pieces of the sizes that the bytes of chunks say, and
// ends the carrier.
func inChunks(raw *anysock.Conn, b, chunks []byte) {
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(chunks) > 0 {
			n = min(n, 1+int(chunks[i%len(chunks)]))
		}
		if _, err := raw.Write(b[:n]); err != nil {
			return // the stream has had enough
		}
		b = b[n:]
	}
	_ = raw.CloseWrite()
}

// What a model says of a peer's stream.
const (
	isEnd       = "the end"
	isReset     = "a reset"
	isTruncated = "a cut or a breach"
)

// modelReader says what a program must see of a peer that sent b after the
// openings, when it has sent nothing itself.
func modelReader(b []byte) (payload []byte, outcome string) {
	for len(b) >= headerSize {
		kind, n := b[0], int(b[1])<<16|int(b[2])<<8|int(b[3])
		b = b[headerSize:]
		rest := b[min(n, len(b)):]
		whole := len(b) >= n
		switch {
		case kind == 1 && n >= 1 && n <= 65536:
			payload = append(payload, b[:min(n, len(b))]...)
		case kind == 2 && n == 8 && whole && binary.BigEndian.Uint64(b) == uint64(len(payload)):
			return payload, isEnd
		case kind == 4 && n >= 2 && n <= 258 && whole:
			return payload, isReset
		case kind == 5 && n == 8 && whole && binary.BigEndian.Uint64(b) == uint64(len(payload)):
		case kind >= 0x80 && n <= 4096:
		default:
			return payload, isTruncated
		}
		if !whole {
			break
		}
		b = rest
	}
	return payload, isTruncated
}

func FuzzReader(f *testing.F) {
	for name, v := range vectors(f) {
		if len(v) < fixedSize+bodySize || name == "refusal" {
			f.Add(v, []byte{})
			f.Add(append(bytes.Clone(v), v...), []byte{0})
		}
	}
	whole := bytes.Join([][]byte{data("he"), frame(0x90, 9), data("llo"), counted(framePing, 5), counted(frameEnd, 5), counted(framePing, 5)}, nil)
	f.Add(whole, []byte{0, 3, 1})
	f.Add(append(frame(frameData, make([]byte, 70)...), aborted(CodeIdle, "x")...), []byte{63, 64, 65})
	f.Add([]byte{1, 1, 0, 0, 'x'}, []byte{})
	f.Fuzz(func(t *testing.T, b, chunks []byte) {
		c, raw := withRawPeer(t, liveness{})
		go inChunks(raw.Conn, b, chunks)
		want, outcome := modelReader(b)
		got, err := readAll(c)
		if got != string(want) {
			t.Errorf("the program read %d bytes %.40q, the model %d bytes %.40q", len(got), got, len(want), want)
		}
		seen := isTruncated
		switch {
		case err == nil:
			seen = isEnd
		case kindOf(err) == anysock.KindReset:
			seen = isReset
		case kindOf(err) != anysock.KindTruncated:
			t.Errorf("the program was told %v of kind %s", err, kindOf(err))
		}
		if seen != outcome {
			t.Errorf("the program saw %s (%v), the model %s", seen, err, outcome)
		}
	})
}

// FuzzOpening sends anything to an acceptor and to a dialer.
func FuzzOpening(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v, []byte{}, true)
		f.Add(v, []byte{0}, false)
	}
	f.Add(longest(bytes.Clone(vectors(f)["opening-dialer"])), []byte{255}, true)
	f.Fuzz(func(t *testing.T, b, chunks []byte, accepts bool) {
		below, raw := memPair(t, anysock.Options{})
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			inChunks(raw, b, chunks)
		}()
		var err error
		if accepts {
			_, err = server(bounded(t), below, anysock.Target{})
		} else {
			o := testOpening()
			err = dialOpening(bounded(t), below, &o)
		}
		var e *anysock.Error
		if err != nil && (!errors.As(err, &e) || e.Kind == anysock.KindOther || e.Kind == anysock.KindTimeout) {
			t.Errorf("the opening failed with %v", err)
		}
		<-sent
		_ = below.Close()
		got, _ := readAll(raw)
		switch {
		case accepts && !bytes.HasPrefix(b, magic[:]) && got != "":
			t.Errorf("a peer that does not speak lc was sent %x", got)
		case accepts && got != "" && (len(got) < fixedSize+bodySize || got[12]&flagAnswer == 0):
			t.Errorf("the acceptor answered %x", got)
		case !accepts && len(got) != fixedSize+bodySize:
			t.Errorf("the dialer sent %d bytes, want its opening alone", len(got))
		}
	})
}

// A session is one connection and what must be true of it. The raw peer sends
// valid frames only.
type session struct {
	t    *testing.T
	c    *anysock.Conn
	raw  rawPeer
	out  []byte // what the raw peer will send next, not yet sent
	sent int    // DATA bytes the raw peer has sent

	ended, aborted bool   // the raw peer has sent END, ABORT
	expect         []byte // what the program has still to read
	told           bool   // the program was told the end

	wrote  []byte // by the program
	ourEnd bool
	seen   chan sessionLog
}

// A sessionLog is what the raw peer received.
type sessionLog struct {
	data    []byte
	end     int64 // -1 is none
	ack     int64
	pongs   []int64
	pings   int
	problem error
}

// record parses what comes, strictly.
func record(r io.Reader) (l sessionLog) {
	l.end, l.ack = -1, -1
	fail := func(err error) sessionLog {
		if l.problem == nil {
			l.problem = err
		}
		return l
	}
	for {
		var h [headerSize]byte
		if _, err := io.ReadFull(r, h[:]); err == io.EOF {
			return l
		} else if err != nil {
			return fail(err)
		}
		n := int(h[1])<<16 | int(h[2])<<8 | int(h[3])
		if err := checkLength(h[0], n); err != nil {
			return fail(err)
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(r, p); err != nil {
			return fail(err)
		}
		switch h[0] {
		case frameData:
			if l.end >= 0 {
				return fail(errors.New("DATA after END"))
			}
			l.data = append(l.data, p...)
		case frameEnd:
			if l.end >= 0 {
				return fail(errors.New("END twice"))
			}
			l.end = int64(binary.BigEndian.Uint64(p))
		case frameEndAck:
			if l.ack >= 0 {
				return fail(errors.New("END_ACK twice"))
			}
			l.ack = int64(binary.BigEndian.Uint64(p))
		case framePong:
			l.pongs = append(l.pongs, int64(binary.BigEndian.Uint64(p)))
		case framePing:
			l.pings++
			if int64(binary.BigEndian.Uint64(p)) != int64(len(l.data)) {
				return fail(errors.New("PING with a wrong count"))
			}
		case frameAbort:
			return l
		default:
			return fail(errors.New("a frame nobody sends"))
		}
	}
}

// FuzzSession: each byte of the script is one step of the raw peer's or of the
// program's.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x00\x08\x10\x18\x01\x09\x05\x0d\x06\x06\x0e\x02\x03"), []byte{0})
	f.Add([]byte("dDdPpiwWeEraAxX0123456789"), []byte{7, 200})
	f.Add(bytes.Repeat([]byte{0, 0xf9, 0x12, 4, 0xf4, 5, 0xfd}, 8), []byte{})
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 20, 28, 3, 2, 1}, []byte{3})
	f.Fuzz(func(t *testing.T, script, chunks []byte) {
		const most = 200 // steps
		script = script[:min(len(script), most)]
		c, raw := withRawPeer(t, liveness{})
		s := &session{t: t, c: c, raw: raw, seen: make(chan sessionLog, 1)}
		go func() { s.seen <- record(rawReader{raw}) }()
		for i, b := range script {
			s.step(int(b%8), int(b/8), i, chunks)
		}
		s.finish(chunks)
	})
}

// step does one thing; size is 0 to 31.
func (s *session) step(what, size, i int, chunks []byte) {
	closed := s.ended || s.aborted
	switch what {
	case 0: // DATA, up to 961 bytes: what waits unread stays below the carrier's buffer
		if n := 1 + size*size; !closed && s.sent+n < 48<<10 {
			p := bytes.Repeat([]byte{byte(i)}, n)
			s.out = append(s.out, frame(frameData, p...)...)
			s.expect = append(s.expect, p...)
			s.sent += n
		}
	case 1:
		if !s.aborted {
			s.out = append(s.out, counted(framePing, int64(s.sent))...)
		}
	case 2:
		if !closed && size > 27 {
			s.out = append(s.out, counted(frameEnd, int64(s.sent))...)
			s.ended = true
		}
	case 3:
		if !s.aborted && size > 29 {
			s.out = append(s.out, aborted(CodeProgram, "fuzz")...)
			s.aborted = true
		}
	case 4:
		if !s.aborted {
			s.out = append(s.out, frame(byte(0x80+size), make([]byte, size)...)...)
		}
	case 5:
		if !s.ourEnd && !s.aborted && len(s.wrote) < 32<<10 {
			p := bytes.Repeat([]byte{byte(i)}, 1+size*size)
			if _, err := s.c.Write(p); err != nil {
				s.t.Fatalf("writing: %v", err)
			}
			s.wrote = append(s.wrote, p...)
		}
	case 6:
		s.flush(chunks)
		s.read(1 + size*size)
	case 7:
		if !s.ourEnd && !s.aborted && size > 27 {
			if err := s.c.CloseWrite(); err != nil {
				s.t.Fatalf("CloseWrite: %v", err)
			}
			s.ourEnd = true
		}
	}
}

// flush sends what the raw peer has to say.
func (s *session) flush(chunks []byte) {
	for i := 0; len(s.out) > 0; i++ {
		n := len(s.out)
		if len(chunks) > 0 {
			n = min(n, 1+int(chunks[i%len(chunks)]))
		}
		s.raw.send(s.out[:n])
		s.out = s.out[n:]
	}
}

// read reads some bytes if there are any, and the end or the abort if it is
// their turn.
func (s *session) read(n int) {
	if len(s.expect) == 0 && !s.ended && !s.aborted {
		return
	}
	b := make([]byte, n)
	m, err := s.c.Read(b)
	if !bytes.Equal(b[:m], s.expect[:min(m, len(s.expect))]) {
		s.t.Fatalf("the program read other bytes than were sent")
	}
	s.expect = s.expect[min(m, len(s.expect)):]
	switch {
	case err == nil && m == 0:
		s.t.Fatal("neither bytes nor an error")
	case err == nil:
	case len(s.expect) > 0:
		s.t.Fatalf("%d bytes before the end: %v", len(s.expect), err)
	case errors.Is(err, io.EOF):
		if !s.ended {
			s.t.Fatal("an end that was not sent")
		}
		s.told = true
	case kindOf(err) != anysock.KindReset || !s.aborted || s.ended:
		s.t.Fatalf("the program was told %v", err)
	}
}

// finish has the program read everything, end, and looks at what the raw peer
// got.
func (s *session) finish(chunks []byte) {
	if !s.ended && !s.aborted {
		s.out = append(s.out, counted(frameEnd, int64(s.sent))...)
		s.ended = true
	}
	s.flush(chunks)
	rest, err := readAll(s.c)
	if rest != string(s.expect) {
		s.t.Fatalf("at last the program read %d bytes, want %d", len(rest), len(s.expect))
	}
	if s.ended != (err == nil) || err != nil && kindOf(err) != anysock.KindReset {
		s.t.Fatalf("at last the program was told %v", err)
	}
	wasOpen := !s.aborted
	if wasOpen {
		if err := s.c.CloseWrite(); err != nil {
			s.t.Fatalf("CloseWrite: %v", err)
		}
		s.raw.send(counted(frameEndAck, int64(len(s.wrote))))
		if end, err := s.c.Disconnect(bounded(s.t)); err != nil || end.How != anysock.Graceful || end.Unacked != 0 {
			s.t.Fatalf("the ending is %q, %v", end, err)
		}
	} else {
		_ = s.c.Close()
	}
	l := <-s.seen
	if l.problem != nil && (wasOpen || kindOf(l.problem) == anysock.KindOther) {
		s.t.Fatalf("the raw peer got something wrong: %v", l.problem)
	}
	if !bytes.HasPrefix(s.wrote, l.data) || wasOpen && len(l.data) != len(s.wrote) {
		s.t.Fatalf("the raw peer got %d bytes of %d, or others", len(l.data), len(s.wrote))
	}
	if wasOpen && (l.end != int64(len(s.wrote)) || l.ack != int64(s.sent)) {
		s.t.Fatalf("END says %d of %d, END_ACK %d of %d", l.end, len(s.wrote), l.ack, s.sent)
	}
	last := int64(0)
	for _, n := range l.pongs {
		if n < last || n > int64(s.sent) {
			s.t.Fatalf("PONGs %d for %d bytes", l.pongs, s.sent)
		}
		last = n
	}
}
