package all_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// TestMatrix: a relay between each ordered pair of carriers passes on every
// ending, and its record says what became of one that a leg cannot express.
// What is expected of a cell follows from the facts of the two carriers; the
// tables of docs/ARCHITECTURE.md are made of the same (see TestTables).
func TestMatrix(t *testing.T) {
	all := carriers(t)
	for _, in := range all {
		for _, out := range all {
			t.Run(in.name+" to "+out.name, func(t *testing.T) {
				t.Parallel()
				s := newStation(t, in, out)
				for _, up := range []bool{true, false} {
					t.Run("half-close "+way(up), func(t *testing.T) { s.halfClose(t, up) })
					t.Run("abort "+way(up), func(t *testing.T) { s.abort(t, up) })
					t.Run("cut "+way(up), func(t *testing.T) { s.cut(t, up) })
					t.Run("graceful "+way(up), func(t *testing.T) { s.graceful(t, up) })
				}
				t.Run("refusal", func(t *testing.T) { s.refusal(t) })
			})
		}
	}
}

func way(up bool) string {
	if up {
		return "by the client"
	}
	return "by the server"
}

// A station is a relay from one carrier to another, and a server behind it.
type station struct {
	in, out carrier
	server  *anysock.Listener
}

func newStation(t *testing.T, in, out carrier) *station {
	t.Helper()
	return &station{in: in, out: out, server: listen(t, out.listen(t))}
}

func listen(t *testing.T, address string) *anysock.Listener {
	t.Helper()
	ln, err := anysock.Listen(t.Context(), address)
	if err != nil {
		t.Fatalf("listen on %s: %v", address, err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// A line is one relayed connection. Its near end begins the ending that is
// tested, its far end is told.
type line struct {
	near, far       *anysock.Conn
	nearCar, farCar carrier
	nearLeg, farLeg relay.Leg
	cable           cable // of the near end; nil if none was asked for
	records         chan relay.Record
}

// A relayed is a Relay for one test.
type relayed struct {
	at      string // where clients connect
	records chan relay.Record
}

// start starts a relay to target; the test's end shuts it down.
func (s *station) start(t *testing.T, target string) relayed {
	t.Helper()
	to, err := anysock.ParseAddress(target)
	if err != nil {
		t.Fatal(err)
	}
	records := make(chan relay.Record, 1)
	r := &relay.Relay{
		Target: to, Dialer: anysock.Dialer{Retry: anysock.Retry{Attempts: 1}},
		OnEnd: func(rec relay.Record) { records <- rec },
	}
	ln := listen(t, s.in.listen(t))
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, _ = r.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return relayed{at: s.in.at(ln), records: records}
}

// connect makes a line; up says that the client is its near end. With a cable
// the near end is connected through one.
func (s *station) connect(t *testing.T, up, cabled bool) *line {
	t.Helper()
	ctx := bounded(t)
	l := &line{}
	// through is the way to a listener, by a cable if there is to be one.
	through := func(c carrier, at string, cabled bool) string {
		if !cabled {
			return c.dial(at)
		}
		l.cable = lay(t, c.cable, at)
		return c.dial(l.cable.at()) + c.cutOptions
	}
	r := s.start(t, through(s.out, s.out.at(s.server), cabled && !up))
	l.records = r.records
	client, err := anysock.Dial(ctx, through(s.in, r.at, cabled && up))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = client.Abort() })
	server, err := s.server.AcceptContext(ctx)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { _ = server.Abort() })
	for c, car := range map[*anysock.Conn]carrier{client: s.in, server: s.out} {
		c.SetDeadline(time.Now().Add(patience))
		if c == client && c.Caps() != car.caps {
			t.Errorf("%s can do %v, the tables say %v", car.name, c.Caps(), car.caps)
		}
	}
	l.near, l.nearCar, l.nearLeg = client, s.in, relay.Inbound
	l.far, l.farCar, l.farLeg = server, s.out, relay.Outbound
	if !up {
		l.near, l.far = l.far, l.near
		l.nearCar, l.farCar = l.farCar, l.nearCar
		l.nearLeg, l.farLeg = l.farLeg, l.nearLeg
	}
	// Something has gone both ways.
	say(t, client, text(300))
	hear(t, server, text(300))
	say(t, server, text(200))
	hear(t, client, text(200))
	return l
}

// record is the relay's, once both legs are over.
func (l *line) record(t *testing.T) relay.Record {
	t.Helper()
	select {
	case rec := <-l.records:
		return rec
	case <-time.After(patience):
		t.Fatal("the relay has no record")
		return relay.Record{}
	}
}

// wantRecord requires how the relay has seen the ending, and what it says
// became of it.
func (l *line) wantRecord(t *testing.T, how anysock.How, downgrades ...relay.Downgrade) {
	t.Helper()
	rec := l.record(t)
	if rec.How != how || rec.By != l.nearLeg {
		t.Errorf("the record says %v by %v, want %v by %v: %v", rec.How, rec.By, how, l.nearLeg, rec)
	}
	if !slices.Equal(rec.Downgrades, downgrades) {
		t.Errorf("downgrades %v, want %v", rec.Downgrades, downgrades)
	}
}

// text is n bytes that do not repeat soon.
func text(n int) []byte {
	p := make([]byte, n)
	x := uint32(n)*2654435761 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
	return p
}

func say(t *testing.T, c *anysock.Conn, p []byte) {
	t.Helper()
	if n, err := c.Write(p); err != nil {
		t.Fatalf("write: %d of %d bytes: %v", n, len(p), err)
	}
}

func hear(t *testing.T, c *anysock.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read: %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes were read, but not those that were written", len(got))
	}
}

// ending reads on, and says in the words of the tables what comes.
func ending(c *anysock.Conn) string {
	n, err := c.Read(make([]byte, 1))
	var e *anysock.Error
	switch {
	case n > 0:
		return "more bytes"
	case errors.Is(err, io.EOF):
		return ended
	case errors.As(err, &e) && e.Kind == anysock.KindReset:
		return told
	case errors.As(err, &e) && e.Kind == anysock.KindTruncated:
		return cut
	}
	return fmt.Sprint(err)
}

func wantEnding(t *testing.T, c *anysock.Conn, want string) {
	t.Helper()
	if got := ending(c); got != want {
		t.Errorf("the far end sees %q, want %q", got, want)
	}
}

// finish disconnects, which must be graceful.
func finish(t *testing.T, c *anysock.Conn) {
	t.Helper()
	end, err := c.Disconnect(bounded(t))
	if err != nil || end.How != anysock.Graceful {
		t.Errorf("ended %v, %v", end, err)
	}
}

// halfClose: the near end ends its direction, and the reply comes after that.
func (s *station) halfClose(t *testing.T, up bool) {
	l := s.connect(t, up, false)
	say(t, l.near, text(1000))
	err := l.near.CloseWrite()
	if !l.nearCar.halfCloses() {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("half-close of %s: %v", l.nearCar.name, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	hear(t, l.far, text(1000))
	var downgrades []relay.Downgrade
	if l.farCar.halfCloses() {
		wantEnding(t, l.far, ended)
	} else {
		// It is held, which also gives the relay time to have read it.
		l.far.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := l.far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the end was not held: %d bytes, %v", n, err)
		}
		l.far.SetReadDeadline(time.Now().Add(patience))
		downgrades = []relay.Downgrade{{Leg: l.farLeg, Ending: "half-close", Became: held}}
	}
	say(t, l.far, text(2000))
	finish(t, l.far)
	hear(t, l.near, text(2000))
	wantEnding(t, l.near, ended)
	finish(t, l.near)
	l.wantRecord(t, anysock.Graceful, downgrades...)
}

// graceful: the near end disconnects when it has all, and the far end does so
// when it reads the end.
func (s *station) graceful(t *testing.T, up bool) {
	l := s.connect(t, up, false)
	if l.nearCar.halfCloses() && !l.farCar.halfCloses() {
		t.Log("the end is held until the far end ends: see half-close")
		finishBoth(t, l.far, l.near)
		l.nearLeg = l.farLeg
		l.wantRecord(t, anysock.Graceful)
		return
	}
	finishBoth(t, l.near, l.far)
	l.wantRecord(t, anysock.Graceful)
}

// finishBoth disconnects one end, and the other when it has read that.
func finishBoth(t *testing.T, first, second *anysock.Conn) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		finish(t, first)
	}()
	wantEnding(t, second, ended)
	finish(t, second)
	<-done
}

// abort: the near end aborts.
func (s *station) abort(t *testing.T, up bool) {
	l := s.connect(t, up, false)
	err := l.near.Abort()
	if unsupported := errors.Is(err, errors.ErrUnsupported); err != nil && !unsupported || unsupported == l.nearCar.caps.Has(anysock.CapAbort) {
		t.Errorf("abort of %s: %v", l.nearCar.name, err)
	}
	if l.nearCar.abort == ended {
		// The relay cannot tell it from an end.
		wantEnding(t, l.far, ended)
		finish(t, l.far)
		if rec := l.record(t); !rec.How.Complete() || len(rec.Downgrades) > 0 {
			t.Errorf("record: %v", rec)
		}
		return
	}
	wantEnding(t, l.far, l.farCar.abort)
	l.wantRecord(t, seenAs(l.nearCar.abort), l.farCar.downgraded(l.farLeg, "abort")...)
}

// seenAs is what the relay's record says of an ending that looks so.
func seenAs(abort string) anysock.How {
	switch abort {
	case told:
		return anysock.AbortedByPeer
	case cut:
		return anysock.Truncated
	}
	return anysock.Graceful
}

// downgraded is what the record says of an ending that the leg cannot
// express.
func (c carrier) downgraded(leg relay.Leg, ending string) []relay.Downgrade {
	if c.caps.Has(anysock.CapAbort) {
		return nil
	}
	return []relay.Downgrade{{Leg: leg, Ending: ending, Became: c.became}}
}

// cut: what carries the near end's connection breaks.
func (s *station) cut(t *testing.T, up bool) {
	near := s.in
	if !up {
		near = s.out
	}
	if near.cable == "" {
		return // nothing lies below it: what breaks it is a reset, or silence
	}
	l := s.connect(t, up, true)
	l.cable.cut()
	wantEnding(t, l.far, l.farCar.abort)
	l.wantRecord(t, l.nearCar.cutHow, l.farCar.downgraded(l.farLeg, "abort")...)
}

// refusal: nobody listens at the target.
func (s *station) refusal(t *testing.T) {
	gone := listen(t, s.out.listen(t))
	at := s.out.at(gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if tcp, ok := gone.Addr().(*net.TCPAddr); ok {
		// Bound and not listening, so that nobody else gets the port.
		hold, err := anysock.NewSocket("tcp4")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hold.Close() })
		if err := errors.Join(hold.SetReuseAddr(true), hold.Bind(tcp.String())); err != nil {
			t.Fatal(err)
		}
	}
	r := s.start(t, s.out.dial(at))
	var got string
	client, err := anysock.Dial(bounded(t), s.in.dial(r.at))
	var e *anysock.Error
	switch {
	case err == nil:
		defer client.Abort()
		client.SetDeadline(time.Now().Add(patience))
		got = ending(client)
	case errors.As(err, &e) && (e.Kind == anysock.KindReset || e.Kind == anysock.KindRefused || e.Kind == anysock.KindHop):
		got = told // before the connecting was seen to have succeeded
	default:
		got = err.Error()
	}
	if got != s.in.abort {
		t.Errorf("the client sees %q, want %q", got, s.in.abort)
	}
	l := &line{nearLeg: relay.Outbound, records: r.records}
	l.wantRecord(t, anysock.Refused, s.in.downgraded(relay.Inbound, "refusal")...)
}
