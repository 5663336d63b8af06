package verify

import (
	"encoding/binary"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// TestPlans: a plan survives the wire; a seed and a number make one plan; the
// sizes, the cuts and the flags are what they should be.
func TestPlans(t *testing.T) {
	d := dice{seed: 7, run: 1 << 60, max: 5000, late: time.Second, orders: Orders()}
	var slow, late, blind, bytes int
	for i := range uint64(3600) {
		p := d.plan(i)
		if !reflect.DeepEqual(p, d.plan(i)) {
			t.Fatalf("number %d is another plan the second time", i)
		}
		o, err := decode(p.encode())
		if err != nil {
			t.Fatal(err)
		}
		q, err := o.plan()
		if err != nil || q != p || o.Kind != kindPlan {
			t.Fatalf("%+v came as %+v, %v", p, q, err)
		}
		cutOf := p.Up
		if p.Order == ServerAbortsSending || p.Order == ClientAbortsReceiving {
			cutOf = p.Down
		}
		if p.Up > 5002 || p.Down > 5002 || p.Order.Aborts() && p.Cut >= cutOf || p.Run != d.run || p.Number != i {
			t.Errorf("%+v", p)
		}
		if p.SlowClient || p.SlowServer {
			slow++
		}
		if p.Late > 0 {
			late++
		}
		if p.Order == ClientAbortsSending && !p.Greet {
			blind++
		}
		bytes += int(p.Up)
	}
	for what, n := range map[string][3]int{"slow": {slow, 350, 550}, "late": {late, 150, 300}, "not greeted": {blind, 60, 140}, "bytes up": {bytes / 3600, 400, 900}} {
		if n[0] < n[1] || n[0] > n[2] {
			t.Errorf("%s: %d, want %d to %d", what, n[0], n[1], n[2])
		}
	}
	other := d
	other.seed++
	if d.plan(1).Seed == other.plan(1).Seed {
		t.Error("two seeds make the same plan")
	}
}

// TestOpeningIsChecked: every changed bit of an opening is noticed.
func TestOpeningIsChecked(t *testing.T) {
	good := Plan{Order: BothEnd, Up: 10, Down: 20}.encode()
	for i := range len(good) * 8 {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := decode(bad); err == nil {
			t.Errorf("bit %d changed and nobody noticed", i)
		}
	}
	for _, p := range []Plan{{Order: orderCount}, {Up: MaxMessage + 3}, {Down: 1 << 62}, {Up: 5, Cut: 6}, {Late: 2 * MaxLate}} {
		o, err := decode(p.encode())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.plan(); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}

// TestMessages: a changed, a missing and a doubled byte anywhere shows.
func TestMessages(t *testing.T) {
	p := Plan{Seed: 0x123456789abcdef}
	up := p.upward()
	long := make([]byte, 0, 3*materialSize)
	for len(long) < cap(long) {
		long = append(long, up.at(uint64(len(long)), min(maxChunk, cap(long)-len(long)))...)
	}
	for _, at := range []int{0, 1, materialSize - 1, materialSize, 2*materialSize + 77} {
		b := slices.Clone(long[at:min(at+maxChunk, len(long))])
		if i := up.differs(b, uint64(at)); i >= 0 {
			t.Errorf("differs at %d", at+i)
		}
		b[len(b)/2]++
		if i := up.differs(b, uint64(at)); i != len(b)/2 {
			t.Errorf("a changed byte is seen at %d, want %d", i, len(b)/2)
		}
		if up.differs(long[at+1:at+100], uint64(at)) < 0 {
			t.Error("a missing byte is not seen")
		}
	}
	if p.downward().differs(long[:100], 0) < 0 {
		t.Error("both ways carry the same")
	}
}

// TestLedgerForgetsTheOldest: what a server remembers is bounded.
func TestLedgerForgetsTheOldest(t *testing.T) {
	var l ledger
	const more = 100
	for i := range uint64(maxRemembered + more) {
		k := key{1, i}
		if !l.open(k) || l.open(k) {
			t.Fatal("a number is known that never came, or comes twice")
		}
		if i == 5 {
			continue // it stays open
		}
		l.close(k, Outcome{Received: int64(i)})
	}
	rs := l.look(1, []uint64{0, 5, more - 1, more, maxRemembered + more - 1, 1 << 40})
	var states []state
	for _, r := range rs {
		states = append(states, r.State)
	}
	if want := []state{unseen, running, unseen, over, over, unseen}; !slices.Equal(states, want) {
		t.Errorf("%v, want %v", states, want)
	}
	if n := len(l.entries); n != maxRemembered+1 {
		t.Errorf("%d are remembered", n)
	}
	if l.look(2, []uint64{200})[0].State != unseen {
		t.Error("another run's")
	}
}

// TestHostileClients: a server takes what makes no sense for strangers, and
// those that fail on the way are counted.
func TestHostileClients(t *testing.T) {
	far, ln := serve(t, "tcp://127.0.0.1:0", waitAtMost)
	errs := make(chan error, 10)
	far.OnStranger = func(_ *anysock.Conn, err error) { errs <- err }
	spoiled := Plan{Up: 3}.encode()
	spoiled[20] ^= 4
	huge := binary.BigEndian.AppendUint32(opening{Kind: kindAsk}.encode(), maxAsk+1)
	other := opening{Kind: 77}.encode()
	for _, tt := range []struct {
		name  string
		bytes []byte
		want  string
		fault Fault
	}{
		{"a web browser", []byte("GET / HTTP/1.1\r\n\r\n"), errStranger.Error(), None},
		{"an end at once", nil, "EOF", None},
		{"an end in the opening", Plan{}.encode()[:40], "an end of file after 40 bytes", FalseEnd},
		{"a spoiled opening", spoiled, errSpoiled.Error(), WrongBytes},
		{"an endless ask", huge, "more than 65536", None},
		{"an ask that is no JSON", append(opening{Kind: kindAsk}.encode(), 0, 0, 0, 1, '!'), "invalid character", None},
		{"another kind", other, errVersion.Error(), None},
		{"a plan out of bounds", Plan{Up: 1 << 50}.encode(), errBounds.Error(), None},
	} {
		var before int64
		if tt.fault != None {
			before = far.Nameless(tt.fault)
		}
		c, err := anysock.Dial(t.Context(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(tt.bytes); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite() // who has seen enough may have reset it already
		_ = c.SetReadDeadline(time.Now().Add(waitAtMost))
		if n, err := io.ReadAll(c); len(n) > 0 || err == nil {
			t.Errorf("%s: answered with %q, %v", tt.name, n, err)
		}
		_ = c.Abort()
		if err := <-errs; !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if tt.fault != None && far.Nameless(tt.fault) != before+1 {
			t.Errorf("%s is not counted", tt.name)
		}
	}
	if n := far.Strangers(); n != 8 {
		t.Errorf("%d strangers", n)
	}
}

// TestAnswersAreBounded: a run does not believe a server that answers without
// bound, for other connections, or nonsense.
func TestAnswersAreBounded(t *testing.T) {
	for _, text := range []string{
		magic + "\xff\xff\xff\xff",
		magic + "\x00\x00\x00\x02{]",
		magic + "\x00\x00\x00\x10{}",
	} {
		ln := listen(t, "tcp://127.0.0.1:0", 0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := ln.AcceptContext(t.Context())
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(text))
			_, _ = io.Copy(io.Discard, c)
			_ = c.Abort()
		}()
		c, err := anysock.Dial(t.Context(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if a, err := exchange(c, 1, ask{Numbers: []uint64{1}}, 200*time.Millisecond); err == nil {
			t.Errorf("%q is an answer: %+v", text, a)
		}
		_ = c.Abort()
		<-done
	}
}

// TestJudgement: one fault for a connection, the worst; what it is depends on
// what the other end did.
func TestJudgement(t *testing.T) {
	abort := Plan{Order: ClientAbortsSending, Up: 10, Cut: 5, Greet: true}
	order := Plan{Order: ClientHalfCloses}
	fine := Outcome{Finished: true, Ended: sawEnd}
	gaveUp := Outcome{}
	for _, tt := range []struct {
		name      string
		plan      Plan
		caps      anysock.Caps
		client    Outcome
		server    *Outcome
		want      Fault
		side      Side
		downgrade string
	}{
		{"in order", order, anysock.CapAbort, fine, &fine, None, 0, ""},
		{"nobody there", order, anysock.CapAbort, fine, nil, Unknown, Client, ""},
		{"the tail", order, anysock.CapAbort, fine, &Outcome{Fault: LostBytes, Missing: 3, Ended: sawEnd}, LostBytes, Far, ""},
		{"an end before the sender's", order, anysock.CapAbort, Outcome{Fault: Broken}, &Outcome{Fault: LostBytes, Missing: 3, Ended: sawEnd}, FalseEnd, Far, ""},
		{"what follows", order, anysock.CapAbort, Outcome{Fault: WrongBytes}, &Outcome{Fault: Broken}, WrongBytes, Client, ""},
		{"refused", order, anysock.CapAbort, Outcome{Fault: Refused}, nil, Refused, Client, ""},
		{"an abort", abort, anysock.CapAbort, gaveUp, &Outcome{Ended: sawReset}, None, 0, ""},
		{"an abort as an end", abort, anysock.CapAbort, gaveUp, &Outcome{Fault: FalseEnd, Ended: sawEnd}, FalseEnd, Far, ""},
		{"an abort as an end where there is none", abort, anysock.CapHalfClose, gaveUp, &Outcome{Fault: FalseEnd, Ended: sawEnd}, None, 0, abortBecameEnd},
		{"an abort as a cut", abort, anysock.CapAbort, gaveUp, &Outcome{Ended: sawCut}, None, 0, "abort became a cut"},
		{"an abort that is not told", abort, anysock.CapAbort, gaveUp, &Outcome{Fault: Hang}, Hang, Far, ""},
		{"an abort of what was greeted and is not known", abort, anysock.CapAbort, gaveUp, nil, Unknown, Client, ""},
		{"a reset that is not the server's", Plan{Order: ServerAbortsSending}, anysock.CapAbort, Outcome{Ended: sawReset}, nil, Broken, Client, ""},
		{"an abort at once", Plan{Order: ClientAbortsSending}, anysock.CapAbort, gaveUp, nil, None, 0, ""},
	} {
		v := judge(tt.plan, tt.caps, tt.client, tt.server, false)
		got, side := None, Client
		if v.finding != nil {
			got, side = v.finding.Fault, v.finding.Side
		}
		if got != tt.want || side != tt.side || strings.Join(v.downgrades, ";") != tt.downgrade {
			t.Errorf("%s: %s seen by the %s, downgrades %v; want %s by the %s, %q", tt.name, got, side, v.downgrades, tt.want, tt.side, tt.downgrade)
		}
	}
}

// TestTryable: what an end of the path cannot do is not tried, and said.
func TestTryable(t *testing.T) {
	half, none := anysock.CapHalfClose|anysock.CapAbort, anysock.CapAbort
	for _, tt := range []struct {
		client, server anysock.Caps
		without        []Order
	}{
		{half, half, nil},
		{half, none, []Order{ClientHalfCloses, ServerHalfCloses, ClientCloses, BothEnd}},
		{none, half, []Order{ClientHalfCloses, ServerHalfCloses, ServerCloses, BothEnd}},
		{none, none, []Order{ClientHalfCloses, ServerHalfCloses, BothEnd}},
	} {
		can, cannot := tryable(Orders(), tt.client, tt.server)
		var left []Order
		for _, u := range cannot {
			left = append(left, u.Order)
			if u.Why == "" {
				t.Errorf("%s: no reason", u.Order)
			}
		}
		if !slices.Equal(left, tt.without) || len(can)+len(left) != int(orderCount) {
			t.Errorf("%v, %v: without %v, want %v", tt.client, tt.server, left, tt.without)
		}
	}
}

// FuzzOpening: no bytes make a plan out of bounds, or a panic.
func FuzzOpening(f *testing.F) {
	f.Add(Plan{Up: 3, Down: 4}.encode())
	f.Add(opening{Kind: kindAsk}.encode())
	f.Add(make([]byte, openingSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != openingSize {
			return
		}
		o, err := decode(b)
		if err != nil {
			return
		}
		if p, err := o.plan(); err == nil && (p.Order >= orderCount || p.Up > MaxMessage+2 || p.Down > MaxMessage+2) {
			t.Errorf("%+v", p)
		}
	})
}
