package load

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// This file tests runs against peers, good and bad ones, over mem streams,
// tcp and unix.

// testTimeout is for runs in which nothing times out.
const testTimeout = Span(20 * time.Second)

// everywhere are the carriers, with their engines, that a run against a bad
// peer is made on.
var everywhere = []string{"mem", "tcp", "unix", "tcp by goroutines"}

// servedBy is a Config whose connections a function serves; n counts them.
func servedBy(t *testing.T, where string, w Work, serve func(n int64, c *anysock.Conn)) Config {
	t.Helper()
	var count atomic.Int64
	if where == "mem" {
		var wg sync.WaitGroup
		t.Cleanup(wg.Wait)
		return Config{Work: w, Address: "mem:test", Dial: func(context.Context) (*anysock.Conn, error) {
			near, far := anysock.Pipe(anysock.Options{})
			n := count.Add(1) - 1
			wg.Go(func() { serve(n, far) })
			return near, nil
		}}
	}
	addr := "tcp://127.0.0.1:0"
	if where == "unix" {
		addr = "unix:" + t.TempDir() + "/s"
	}
	return by(where, dialing(w, listen(t, addr, func(_ context.Context, c *anysock.Conn) error {
		serve(count.Add(1)-1, c)
		return nil
	})))
}

func serveEcho(_ int64, c *anysock.Conn) { _ = anysock.ServeEcho(context.Background(), c) }

// services are the peers by their names.
var services = map[string]func(int64, *anysock.Conn){
	"echo":    serveEcho,
	"discard": func(_ int64, c *anysock.Conn) { _ = anysock.ServeDiscard(context.Background(), c) },
	"chargen": func(_ int64, c *anysock.Conn) { _ = anysock.ServeChargen(context.Background(), c) },
}

// dialing is a Config that dials.
func dialing(w Work, addr string) Config {
	return Config{Work: w, Address: addr, Plain: true, Dial: func(ctx context.Context) (*anysock.Conn, error) { return anysock.Dial(ctx, addr) }}
}

// listen serves an address until the test is over, and returns the bound one.
func listen(t *testing.T, addr string, serve func(context.Context, *anysock.Conn) error) string {
	t.Helper()
	ln, err := anysock.Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := range ln.Conns(context.Background()) {
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { _ = serve(context.Background(), c) }) // the other end says how it went
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	if network := ln.Network(); network != "tcp" {
		return addr
	}
	return "tcp://" + ln.Addr().String()
}

func mustRun(t *testing.T, cfg Config) *Result {
	t.Helper()
	r, err := Run(t.Context(), context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// by makes the run one by goroutines, if the name of the case says so.
func by(where string, cfg Config) Config {
	if strings.HasSuffix(where, "by goroutines") {
		cfg.engine = EngineGoroutines
	}
	return cfg
}

// wantEngine fails unless the run was made by the engine that it was meant for.
func wantEngine(t *testing.T, r *Result, where string) {
	t.Helper()
	want := EngineGoroutines
	if haveLoops && (where == "tcp" || where == "unix") {
		want = EngineLoops
	}
	if r.Engine != want {
		t.Errorf("made by %s, want %s", r.Engine, want)
	}
}

// wantClean fails unless nothing has failed and all connections were ended in
// order.
func wantClean(t *testing.T, r *Result, connections int64) {
	t.Helper()
	if len(r.Failures) != 0 || r.Unanswered != 0 || r.Partial != "" {
		t.Errorf("failures %v, %d not answered, partial %q", r.Failures, r.Unanswered, r.Partial)
	}
	if got := r.Endings["graceful"] + r.Endings["delivered"]; got != connections || len(r.Endings) > 2 {
		t.Errorf("endings %v, want %d in order", r.Endings, connections)
	}
}

// A server that holds an answer back until fifty more messages have come has
// made fifty wait, for a time that follows from when those are due, however
// fast this machine is.
func TestStallOverSockets(t *testing.T) {
	const size, stalled, more = 100, 100, 50
	for _, where := range everywhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			w := Work{Mode: Echo, Connections: 1, Size: size, Rate: 1000, Requests: 200, Timeout: testTimeout}
			r := mustRun(t, servedBy(t, where, w, func(n int64, c *anysock.Conn) {
				_, _ = io.CopyN(struct{ io.Writer }{c}, struct{ io.Reader }{c}, (1+stalled)*size) // the probe is one
				held := make([]byte, (1+more)*size)
				_, _ = io.ReadFull(c, held)
				_, _ = c.Write(held)
				serveEcho(n, c)
			}))
			wantEngine(t, r, where)
			wantClean(t, r, 1)
			if r.Requests != 200 || r.Latency.Count() != 200 {
				t.Fatalf("%d answered", r.Requests)
			}
			// The first of them waited for 50 ms at least, the last for 1 ms.
			if r.Latency.Max() < 49*time.Millisecond || r.Latency.At(75.5) < 990*time.Microsecond {
				t.Errorf("the longest %s, p75.5 %s", r.Latency.Max(), r.Latency.At(75.5))
			}
			if p := 100 - 25.0/200*100 + 0.5; r.Latency.At(p) < 25*time.Millisecond {
				t.Errorf("p%g %s", p, r.Latency.At(p))
			}
		})
	}
}

// A number of requests is exactly that number, however they are spread.
func TestRequestsAreExactlyAsMany(t *testing.T) {
	tcp := listen(t, "tcp://127.0.0.1:0", anysock.ServeEcho)
	unix := listen(t, "unix:"+t.TempDir()+"/s", anysock.ServeEcho)
	for name, w := range map[string]Work{
		"one":                  {Connections: 1, Depth: 1, Size: 250},
		"depth":                {Connections: 3, Depth: 16, Size: 250},
		"two goroutines":       {Connections: 3, Depth: 7, Size: 9000},
		"larger than a write":  {Connections: 2, Depth: 2, Size: 200_000},
		"a byte":               {Connections: 2, Depth: 64, Size: 1},
		"more lines than work": {Connections: 40, Depth: 200, Size: 10},
		"open loop":            {Connections: 3, Size: 250, Rate: 20_000},
		"open loop, depth":     {Connections: 3, Depth: 2, Size: 250, Rate: 20_000},
		"calls":                {Mode: Connect, Connections: 4, Size: 250},
		"large calls":          {Mode: Connect, Connections: 4, Size: 100_000},
		"calls, open loop":     {Mode: Connect, Connections: 4, Size: 250, Rate: 5000},
	} {
		if w.Mode == "" {
			w.Mode = Echo
		}
		w.Requests, w.Timeout = 500, testTimeout
		if w.Mode == Connect {
			w.Requests = 100
		}
		for where, addr := range map[string]string{"tcp": tcp, "unix": unix, "echo:": "echo:", "tcp by goroutines": tcp, "unix by goroutines": unix} {
			t.Run(name+" over "+where, func(t *testing.T) {
				t.Parallel()
				r := mustRun(t, by(where, dialing(w, addr)))
				wantEngine(t, r, where)
				connections := int64(w.Connections)
				if w.Mode == Connect {
					connections = w.Requests
				}
				wantClean(t, r, connections)
				if r.Requests != w.Requests || r.Latency.Count() != w.Requests || !r.Verified || r.BytesSent != w.Requests*int64(w.Size) {
					t.Errorf("%d answered, %d in the histogram, %d bytes", r.Requests, r.Latency.Count(), r.BytesSent)
				}
				if w.Rate > 0 && r.Lag.Count() != w.Requests {
					t.Errorf("lag of %d", r.Lag.Count())
				}
			})
		}
	}
}

// Bulk moves as many bytes as it was told, and a little more at most; every
// connection ends in order.
func TestBulk(t *testing.T) {
	const enough, most = 20 << 20, 21 << 20
	serve := map[Mode]func(context.Context, *anysock.Conn) error{
		Up: anysock.ServeDiscard, Down: anysock.ServeChargen, Both: anysock.ServeEcho,
	}
	service := map[Mode]string{Up: "discard:", Down: "chargen:", Both: "echo:"}
	for mode, handler := range serve {
		for where, addr := range map[string]string{
			"tcp":  listen(t, "tcp://127.0.0.1:0", handler),
			"unix": listen(t, "unix:"+t.TempDir()+"/s", handler),
			"mem":  service[mode],

			"tcp by goroutines":  listen(t, "tcp://127.0.0.1:0", handler),
			"unix by goroutines": listen(t, "unix:"+t.TempDir()+"/s", handler),
		} {
			t.Run(string(mode)+" over "+where, func(t *testing.T) {
				t.Parallel()
				r := mustRun(t, by(where, dialing(Work{Mode: mode, Connections: 3, Size: 32 << 10, Bytes: enough, Timeout: testTimeout}, addr)))
				wantEngine(t, r, where)
				wantClean(t, r, 3)
				caps, err := anysock.AddressCaps(anysock.MustParseAddress(addr))
				if err != nil {
					t.Fatal(err)
				}
				acked := caps.Has(anysock.CapCloseAck)
				if mode != Down && (r.BytesSent < enough || r.BytesSent > most || r.Acknowledged != acked) {
					t.Errorf("%d sent, acknowledged: %v", r.BytesSent, r.Acknowledged)
				}
				if mode != Up && (r.BytesReceived < enough || r.BytesReceived > most || !r.Verified) {
					t.Errorf("%d received, verified: %v", r.BytesReceived, r.Verified)
				}
				if mode == Both && r.BytesSent != r.BytesReceived {
					t.Errorf("%d sent, %d received", r.BytesSent, r.BytesReceived)
				}
				if r.Latency != nil || r.Connect.Count() != 3 || r.Seconds <= 0 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

// A run that is bounded by time ends, and says how long it was.
func TestDuration(t *testing.T) {
	const span = 200 * time.Millisecond
	for _, w := range []Work{
		{Mode: Echo, Connections: 2, Depth: 1, Size: 100},
		{Mode: Echo, Connections: 2, Size: 100, Rate: 1000},
		{Mode: Connect, Connections: 2, Size: 100},
		{Mode: Up, Connections: 2, Size: 10_000},
		{Mode: Down, Connections: 2, Size: 10_000},
		{Mode: Both, Connections: 2, Size: 10_000},
	} {
		for where, network := range map[string]string{"mem": "", "tcp": "tcp://127.0.0.1:0", "unix": "unix:"} {
			t.Run(string(w.Mode)+" "+loopName(w)+" over "+where, func(t *testing.T) {
				w.Warmup, w.Duration, w.Timeout = Span(50*time.Millisecond), Span(span), testTimeout
				addr, serve := "echo:", anysock.ServeEcho
				switch w.Mode {
				case Up:
					addr, serve = "discard:", anysock.ServeDiscard
				case Down:
					addr, serve = "chargen:", anysock.ServeChargen
				}
				switch where {
				case "tcp":
					addr = listen(t, network, serve)
				case "unix":
					addr = listen(t, network+t.TempDir()+"/s", serve)
				}
				r := mustRun(t, dialing(w, addr))
				wantEngine(t, r, where)
				if len(r.Failures) != 0 || r.Unanswered != 0 || r.Partial != "" {
					t.Errorf("%+v", r)
				}
				if r.Seconds <= 0 {
					t.Errorf("%g seconds", r.Seconds)
				}
				if w.Rate > 0 && r.Requests != 200 {
					t.Errorf("%d answered, 200 were due", r.Requests)
				}
				if got := r.Endings["graceful"] + r.Endings["delivered"]; got < 2 {
					t.Errorf("endings %v", r.Endings)
				}
			})
		}
	}
}

func loopName(w Work) string {
	if w.Rate > 0 {
		return "open"
	}
	return "closed"
}

// A peer that is not what the mode needs is found before the work, and the
// error says what it did.
func TestPeerIsNotWhatTheModeNeeds(t *testing.T) {
	ends := func(_ int64, c *anysock.Conn) { c.Close() }
	for name, test := range map[string]struct {
		mode   Mode
		serve  func(int64, *anysock.Conn)
		says   string
		silent bool
	}{
		"discard for echo":    {Echo, nil, "of 100 bytes 0 came back", true},
		"chargen for echo":    {Echo, nil, "not with what it was sent", false},
		"an end for echo":     {Echo, ends, "ended the connection when 0 of 100 bytes had come back", false},
		"discard for connect": {Connect, nil, "of 100 bytes 0 came back", true},
		"chargen for both":    {Both, nil, "not with what it was sent", false},
		"echo for up":         {Up, nil, "it sends, and a discard server does not", false},
		"chargen for up":      {Up, nil, "it sends, and a discard server does not", false},
		"echo for down":       {Down, nil, "it sends nothing within", true},
		"an end for down":     {Down, ends, "ended the connection and sent nothing", false},
	} {
		for _, where := range everywhere {
			t.Run(name+" over "+where, func(t *testing.T) {
				t.Parallel()
				w := Work{Mode: test.mode, Connections: 2, Depth: 1, Size: 100, Duration: Span(time.Hour), Timeout: Span(time.Second)}
				if !test.silent {
					w.Timeout = testTimeout
				}
				serve := test.serve
				if serve == nil {
					service, _, _ := strings.Cut(name, " ")
					serve = services[service]
				}
				cfg := servedBy(t, where, w, serve)
				_, err := Run(t.Context(), context.Background(), cfg)
				var e *PeerError
				if !errors.As(err, &e) || !strings.Contains(e.Msg, test.says) || e.Silent != test.silent || e.Mode != test.mode {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// What goes wrong during the work is counted by its kind, and the line is made
// again.
func TestFailuresAreCounted(t *testing.T) {
	// echoThen echoes so many bytes and then does something.
	echoThen := func(bytes int64, then func(*anysock.Conn)) func(int64, *anysock.Conn) {
		return func(n int64, c *anysock.Conn) {
			if n > 0 {
				serveEcho(n, c)
				return
			}
			_, _ = io.CopyN(struct{ io.Writer }{c}, struct{ io.Reader }{c}, bytes)
			then(c)
		}
	}
	// The probe is one message, so the eleventh of the work is hit.
	const size, before = 100, 1100
	for name, test := range map[string]struct {
		kind  string
		then  func(*anysock.Conn)
		lost  int64
		limit Span
	}{
		"an abort": {"reset", func(c *anysock.Conn) { _, _ = io.ReadFull(c, make([]byte, 1)); _ = c.Abort() }, 1, testTimeout},
		"an end": {"ended", func(c *anysock.Conn) {
			_, _ = io.ReadFull(c, make([]byte, size))
			_, _ = c.Disconnect(context.Background())
		}, 1, testTimeout},
		"wrong bytes": {KindWrongBytes, func(c *anysock.Conn) {
			_, _ = io.ReadFull(c, make([]byte, size))
			_, _ = c.Write(make([]byte, size))
			_, _ = io.Copy(io.Discard, c)
		}, 1, testTimeout},
		"more bytes": {KindWrongBytes, func(c *anysock.Conn) {
			_, _ = io.ReadFull(c, make([]byte, size))
			right := newPattern(writePiece).at(streamStart(0, 0)+before-size, size+1) // the probe had a stream of its own
			_, _ = c.Write(right)
			_, _ = io.Copy(io.Discard, c)
		}, 1, testTimeout},
		"silence": {"timeout", func(c *anysock.Conn) { _, _ = io.Copy(io.Discard, c) }, 1, Span(time.Second)},
	} {
		for loop, rate := range map[string]float64{"closed": 0, "open": 50} {
			for _, where := range everywhere {
				t.Run(name+" "+loop+" over "+where, func(t *testing.T) {
					t.Parallel()
					w := Work{Mode: Echo, Connections: 1, Depth: 1, Size: size, Requests: 40, Timeout: test.limit, Rate: rate}
					if test.kind == "timeout" {
						w.Requests = 100 // some are due after it
					}
					r := mustRun(t, servedBy(t, where, w, echoThen(before, func(c *anysock.Conn) { defer c.Close(); test.then(c) })))
					if len(r.Failures) != 1 || r.Failures[0].Kind != test.kind || r.Failures[0].Count != 1 || r.Failures[0].Requests != test.lost || r.Failures[0].First == "" {
						t.Fatalf("failures %+v", r.Failures)
					}
					if r.Requests+r.Failures[0].Requests != w.Requests {
						t.Errorf("%d answered, %d lost", r.Requests, r.Failures[0].Requests)
					}
					if test.kind == "timeout" && (r.Unanswered != 1 || r.Latency.Count() != 100 || r.Latency.Max() < time.Duration(test.limit)) {
						t.Errorf("%d without an answer; the longest %s", r.Unanswered, r.Latency.Max())
					}
					if r.Endings["graceful"] != 1 || r.Connect.Count() != 2 {
						t.Errorf("endings %v", r.Endings)
					}
					wantEngine(t, r, where)
				})
			}
		}
	}
}

// A server that is gone for good does not end the run, and each try to connect
// again is counted.
func TestServerThatIsGone(t *testing.T) {
	ln, err := anysock.Listen(t.Context(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := ln.AcceptContext(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		ln.Close()
		_, _ = io.CopyN(struct{ io.Writer }{c}, struct{ io.Reader }{c}, 500)
		_ = c.Abort()
	})
	defer wg.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	cfg := dialing(Work{Mode: Echo, Connections: 1, Depth: 1, Size: 100, Duration: Span(time.Hour), Timeout: testTimeout}, "tcp://"+ln.Addr().String())
	cfg.Progress = func(p Progress) {
		if p.Phase != PhaseMeasure || p.Connections != 1 || p.Requests > 4 {
			t.Errorf("%+v", p)
		}
		if p.Failures >= 3 {
			stop()
		}
	}
	r, err := Run(ctx, context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int64{}
	for _, f := range r.Failures {
		kinds[f.Kind] = f.Count
	}
	if kinds["reset"] != 1 || kinds["refused"] < 2 || r.Requests != 4 {
		t.Errorf("%d answered, failures %+v", r.Requests, r.Failures)
	}
}

// A connection that cannot be made at the start is an error, and says which.
func TestConnectionThatCannotBeMade(t *testing.T) {
	for _, w := range []Work{
		{Mode: Echo, Connections: 3, Depth: 1}, {Mode: Connect, Connections: 3}, {Mode: Up, Connections: 3},
	} {
		w.Size, w.Requests, w.Timeout = 1, 1, testTimeout
		if w.Mode == Up {
			w.Requests, w.Bytes = 0, 1
		}
		_, err := Run(t.Context(), context.Background(), dialing(w, "tcp://127.0.0.1:1"))
		var e *anysock.Error
		var which *ConnectError
		if !errors.As(err, &e) || e.Kind != anysock.KindRefused || errors.As(err, &which) != (w.Mode != Connect) {
			t.Errorf("%s: %v", w.Mode, err)
		}
	}
	// One of many.
	made := 0
	var mu sync.Mutex
	cfg := servedBy(t, "mem", Work{Mode: Echo, Connections: 10, Depth: 1, Size: 1, Requests: 1, Timeout: testTimeout}, serveEcho)
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context) (*anysock.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if made++; made == 7 {
			return nil, &anysock.Error{Op: anysock.OpSocket, Kind: anysock.KindLimit}
		}
		return dial(ctx)
	}
	_, err := Run(t.Context(), context.Background(), cfg)
	var which *ConnectError
	if !errors.As(err, &which) || which.Of != 10 {
		t.Errorf("%v", err)
	}
}

// Whoever interrupts a run gets what was measured so far.
func TestInterrupted(t *testing.T) {
	for _, w := range []Work{
		{Mode: Echo, Connections: 2, Depth: 4, Size: 100},
		{Mode: Echo, Connections: 2, Size: 100, Rate: 10_000},
		{Mode: Connect, Connections: 2, Size: 100},
		{Mode: Both, Connections: 2, Size: 10_000},
	} {
		for _, where := range everywhere {
			t.Run(string(w.Mode)+" "+loopName(w)+" over "+where, func(t *testing.T) {
				t.Parallel()
				w := w
				w.Duration, w.Timeout = Span(time.Hour), testTimeout
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var served atomic.Int64
				cfg := servedBy(t, where, w, func(n int64, c *anysock.Conn) {
					if served.Add(1) == 2 || w.Mode == Connect && served.Load() == 50 {
						stop() // everybody is there
					}
					serveEcho(n, c)
				})
				r, err := Run(ctx, context.Background(), cfg)
				if errors.Is(err, context.Canceled) {
					return // before the work had begun
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.Partial != "interrupted" || len(r.Failures) != 0 || r.Unanswered != 0 {
					t.Errorf("%+v", r)
				}
				wantEngine(t, r, where)
			})
		}
	}
}

// A server that says nothing any more holds up neither an interruption nor an
// abort.
func TestStoppedInSilence(t *testing.T) {
	for name, abort := range map[string]bool{"interrupted": false, "aborted": true} {
		for _, where := range everywhere {
			t.Run(name+" over "+where, func(t *testing.T) {
				t.Parallel()
				ctx, stop := context.WithCancel(t.Context())
				cut, cutNow := context.WithCancel(context.Background())
				defer stop()
				defer cutNow()
				w := Work{Mode: Echo, Connections: 1, Depth: 1, Size: 100, Duration: Span(time.Hour), Timeout: Span(time.Hour)}
				r, err := Run(ctx, cut, servedBy(t, where, w, func(_ int64, c *anysock.Conn) {
					defer c.Close()
					_, _ = io.CopyN(struct{ io.Writer }{c}, struct{ io.Reader }{c}, 300)
					_, _ = io.ReadFull(c, make([]byte, 100))
					stop()
					if abort {
						cutNow()
					}
					_, _ = io.Copy(io.Discard, c)
				}))
				if err != nil {
					t.Fatal(err)
				}
				if r.Partial != "interrupted" || r.Requests != 2 || len(r.Failures) != 0 || r.Endings["aborted by us"] != 1 {
					t.Errorf("%+v", r)
				}
				if want := int64(1); !abort && r.Unanswered != want {
					t.Errorf("%d without an answer, want %d", r.Unanswered, want)
				}
				wantEngine(t, r, where)
			})
		}
	}
}

// Down from a server that sends something else: it is counted and not
// compared, and the result says so. One that begins with the lines of RFC 864
// and then errs is found.
func TestDownIsComparedIfItCanBe(t *testing.T) {
	zeros := func(_ int64, c *anysock.Conn) {
		defer c.Close()
		for buf := make([]byte, 1000); ; {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}
	for _, where := range everywhere {
		t.Run(where, func(t *testing.T) {
			w := Work{Mode: Down, Connections: 1, Size: 1, Bytes: 100_000, Timeout: testTimeout}
			r := mustRun(t, servedBy(t, where, w, zeros))
			if r.Verified || len(r.Failures) != 0 || r.BytesReceived < 100_000 {
				t.Errorf("%+v", r)
			}
			lines := newChargenPattern(100_000)
			r = mustRun(t, servedBy(t, where, w, func(n int64, c *anysock.Conn) {
				defer c.Close()
				part := append([]byte(nil), lines.at(0, 60_000)...)
				if n == 0 {
					part[1234] ^= 1
				}
				_, _ = c.Write(part)
				_, _ = c.Write(lines.at(60_000, 60_000))
				_, _ = io.Copy(io.Discard, c)
			}))
			if !r.Verified || len(r.Failures) != 1 || r.Failures[0].Kind != KindWrongBytes {
				t.Errorf("%+v", r.Failures)
			}
		})
	}
}

func TestKindsOfFailure(t *testing.T) {
	for _, test := range []struct {
		kind string
		err  error
	}{
		{KindEnded, io.EOF},
		{KindEnded, &EndedError{"tcp:x"}},
		{KindWrongBytes, &WrongBytesError{Peer: "tcp:x"}},
		{KindWrongBytes, &WrongBytesError{Peer: "tcp:x", More: true}},
		{"timeout", os.ErrDeadlineExceeded},
		{"refused", &anysock.Error{Kind: anysock.KindRefused}},
		{"other", errors.New("x")},
	} {
		if got := kindOf(test.err); got != test.kind {
			t.Errorf("%v is %q, want %q", test.err, got, test.kind)
		}
	}
}
