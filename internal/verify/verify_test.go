package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// listen listens, with a patience for ends like that of the run.
func listen(t *testing.T, address string, patience time.Duration) *anysock.Listener {
	t.Helper()
	lc := anysock.ListenConfig{Options: anysock.Options{DrainTimeout: patience}}
	ln, err := lc.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// serve starts a server and stops it at the end of the test.
func serve(t *testing.T, address string, patience time.Duration) (*Server, *anysock.Listener) {
	t.Helper()
	ln := listen(t, address, patience)
	s := &Server{Patience: patience}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.Shutdown(ctx)
	})
	return s, ln
}

func parse(t *testing.T, address string) anysock.Address {
	t.Helper()
	a, err := anysock.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// judgement runs cfg and returns its report.
func judgement(t *testing.T, cfg Config) *Report {
	t.Helper()
	if cfg.Late == 0 {
		cfg.Late = 20 * time.Millisecond
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*waitAtMost)
	defer cancel()
	rep, err := r.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("the run does not end")
	}
	return rep
}

// wantNothing wants a report without any fault, of n connections.
func wantNothing(t *testing.T, rep *Report, n int64) {
	t.Helper()
	for _, f := range rep.Findings {
		t.Errorf("%v; client %+v, server %+v", f, f.Client, f.Server)
	}
	if rep.Connections != n || len(rep.Faults) > 0 || rep.Lost != 0 || !rep.Complete {
		t.Errorf("%+v", rep)
	}
}

// TestDirect: without anything between the two ends there is nothing to find,
// over every transport of the root.
func TestDirect(t *testing.T) {
	for _, tt := range []struct {
		listen     string
		downgraded bool // an abort is a close
	}{
		{"tcp://127.0.0.1:0", false},
		{"unix:" + filepath.Join(t.TempDir(), "s"), true},
		{"mem:verify-direct", false},
	} {
		t.Run(strings.SplitN(tt.listen, ":", 2)[0], func(t *testing.T) {
			const n = 360
			far, ln := serve(t, tt.listen, waitAtMost)
			dial := ln.Network() + ":" + ln.Addr().String()
			if ln.Network() == "tcp" {
				dial = ln.Addr().String()
			}
			for _, mode := range []string{"one process", "asked over the path"} {
				t.Run(mode, func(t *testing.T) {
					cfg := Config{Address: parse(t, dial), Count: n, AtOnce: 40, Seed: 3, Patience: waitAtMost}
					if mode == "one process" {
						cfg.Server = far
					}
					rep := judgement(t, cfg)
					wantNothing(t, rep, n)
					aborts := rep.Aborted + rep.NotJudged
					for what, count := range rep.Downgrades {
						if !tt.downgraded {
							t.Errorf("downgraded: %s", what)
						}
						aborts += count
					}
					if rep.InOrder != n*5/9 || aborts != n*4/9 {
						t.Errorf("%d in order, %d aborted: %+v", rep.InOrder, aborts, rep)
					}
					if tt.downgraded == (rep.Downgrades[abortBecameEnd] == 0) {
						t.Errorf("downgrades: %v", rep.Downgrades)
					}
					for _, o := range Orders() {
						if rep.Orders[o.String()] != n/9 {
							t.Errorf("%s: %d times", o, rep.Orders[o.String()])
						}
					}
				})
			}
		})
	}
}

// TestBadRelays: every defect is found, and called by its name.
func TestBadRelays(t *testing.T) {
	const n = 180
	all := Orders()
	inOrder := []Order{ClientHalfCloses, ServerHalfCloses, ClientCloses, ServerCloses, BothEnd}
	for _, tt := range []struct {
		name   string
		defect defect
		orders []Order
		// want must be among the faults; also may be, and nothing else.
		want Fault
		also []Fault
		// of all connections how many at least, in percent.
		percent int64
		text    string
	}{
		{name: "none", orders: all, want: None},
		{
			name: "resets become ends", defect: defect{polite: true}, orders: all,
			want: FalseEnd, also: []Fault{Broken}, percent: 10, text: "had aborted",
		},
		{
			name: "the tail is lost", defect: defect{tail: true}, orders: inOrder,
			want: LostBytes, also: []Fault{FalseEnd, Hang, Broken}, percent: 20, text: "read an end of file after",
		},
		{
			name: "the late reply is dropped", defect: defect{endsBoth: true}, orders: []Order{ClientHalfCloses},
			want: FalseEnd, also: []Fault{LostBytes, Broken}, percent: 50,
		},
		{
			name: "it hangs", defect: defect{stops: 20 << 10}, orders: inOrder,
			want: Hang, also: []Fault{Broken}, percent: 5, text: "waited in vain for byte",
		},
		{
			name: "ends are not passed on", defect: defect{deafEnd: true}, orders: []Order{ClientHalfCloses, ServerHalfCloses},
			want: Hang, also: []Fault{Broken}, percent: 100, text: "waited in vain for the end",
		},
		{
			name: "a byte is corrupted", orders: all,
			defect: defect{bytes: func(p []byte, up bool, offset int64) []byte {
				if i := 1000 - offset; !up && i >= 0 && i < int64(len(p)) {
					p[i] ^= 0x20
				}
				return p
			}},
			want: WrongBytes, also: []Fault{Broken}, percent: 20, text: "got a wrong byte at ",
		},
		{
			name: "a byte is left out", orders: inOrder,
			defect: defect{bytes: func(p []byte, up bool, offset int64) []byte {
				if i := 1000 - offset; up && i >= 0 && i < int64(len(p)) {
					return slices.Delete(p, int(i), int(i)+1)
				}
				return p
			}},
			want: WrongBytes, also: []Fault{Broken, LostBytes, FalseEnd, Hang}, percent: 20, text: "got a wrong byte at ",
		},
		{
			name: "bytes are injected at the end", orders: []Order{ClientHalfCloses, ServerHalfCloses, BothEnd},
			defect: defect{last: func(bool) []byte { return []byte("bye") }},
			want:   ExtraBytes, also: []Fault{Broken}, percent: 100, text: "a byte too many after",
		},
		{
			name: "openings are corrupted", orders: inOrder,
			defect: defect{bytes: func(p []byte, up bool, offset int64) []byte {
				if i := 30 - offset; up && offset == 0 && len(p) > 30 && p[9] == kindPlan {
					p[i] ^= 1
				}
				return p
			}},
			// The server resets these. A relay that copies takes a reset for an end
			// where the write of the other direction has got the error (socket(7),
			// SO_ERROR): rarely here, and rightly found.
			want: WrongBytes, also: []Fault{Broken, LostBytes}, percent: 100,
		},
		{
			name: "one in ten is refused", defect: defect{refuses: func(i int64) bool { return i%10 == 5 }}, orders: inOrder,
			want: Broken, also: []Fault{Refused}, percent: 8,
		},
	} {
		for _, local := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, ", server local ", local), func(t *testing.T) {
				t.Parallel()
				patience := waitAtMost
				count := uint64(n)
				if tt.want == Hang || slices.Contains(tt.also, Hang) {
					patience, count = time.Second, 40
				}
				want, also := tt.want, tt.also
				if !local {
					// The answers go over the same relay.
					also = append(slices.Clone(also), Unknown)
					if tt.name == "openings are corrupted" {
						want = Broken // whose they were the server cannot say
					}
				}
				far, ln := serve(t, "tcp://127.0.0.1:0", patience)
				cfg := Config{
					Address: parse(t, relayTo(t, ln.Addr().String(), tt.defect)), Count: count, AtOnce: 40,
					Seed: 5, Patience: patience, Orders: tt.orders,
				}
				if local {
					cfg.Server = far
				}
				var mu sync.Mutex
				var texts []string
				cfg.OnFinding = func(f Finding) {
					mu.Lock()
					defer mu.Unlock()
					texts = append(texts, f.String())
				}
				rep := judgement(t, cfg)
				if want == None {
					wantNothing(t, rep, n)
					return
				}
				var concerned int64
				for _, n := range rep.Faults {
					concerned += n
				}
				if rep.Faults[want.String()] == 0 || concerned*100 < tt.percent*int64(count) {
					t.Errorf("%d connections of %d with %s: %v", rep.Faults[want.String()], count, want, rep.Faults)
				}
				for name := range rep.Faults {
					var f Fault
					if err := f.UnmarshalText([]byte(name)); err != nil {
						t.Error(err)
					}
					if f != want && !slices.Contains(also, f) {
						t.Errorf("found %s: %v\n%s", f, rep.Faults, strings.Join(texts[:min(len(texts), 10)], "\n"))
					}
				}
				if want.Told() != (rep.Losses() == 0) {
					t.Errorf("%d losses: %v", rep.Losses(), rep.Faults)
				}
				if rep.Errors()+rep.Losses() == 0 {
					t.Error("nothing counts")
				}
				if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, tt.text) }) {
					t.Errorf("nobody says %q:\n%s", tt.text, strings.Join(texts[:min(len(texts), 10)], "\n"))
				}
				if rep.Faults[LostBytes.String()] > 0 && rep.Lost == 0 {
					t.Errorf("no bytes were counted: %+v", rep)
				}
			})
		}
	}
}

// TestEcho: our echo server has no fault; one that loses its tail has.
func TestEcho(t *testing.T) {
	echo := func(t *testing.T) string {
		ln := listen(t, "tcp://127.0.0.1:0", 0)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			for c, err := range ln.Conns(ctx) {
				if err != nil {
					t.Error(err)
					return
				}
				wg.Go(func() { _ = anysock.ServeEcho(ctx, c) })
			}
		})
		t.Cleanup(func() { cancel(); wg.Wait() })
		return ln.Addr().String()
	}
	t.Run("ours", func(t *testing.T) {
		rep := judgement(t, Config{Address: parse(t, echo(t)), Echo: true, Count: 200, AtOnce: 20, Seed: 9, Patience: waitAtMost})
		wantNothing(t, rep, 200)
		if rep.InOrder != 100 || rep.NotJudged != 100 || len(rep.Untried) != 5 {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("without its tail", func(t *testing.T) {
		at := relayTo(t, echo(t), defect{bytes: func(p []byte, up bool, offset int64) []byte {
			if offset > 1<<10 && !up && len(p) > 0 { // not the greeting
				return p[:len(p)-1]
			}
			return p
		}})
		rep := judgement(t, Config{
			Address: parse(t, at), Echo: true, Count: 40, AtOnce: 20, Seed: 9, Patience: time.Second,
			Orders: []Order{ClientHalfCloses},
		})
		if rep.Losses() < 5 {
			t.Errorf("%+v", rep)
		}
	})
}

// TestNobodyThere: what is no server of verify is said to be none, and what it
// does.
func TestNobodyThere(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(c net.Conn)
		want  string
		kind  anysock.Kind
	}{
		{"echo", func(c net.Conn) {
			b := make([]byte, 1000)
			n, _ := c.Read(b)
			_, _ = c.Write(b[:n])
			_, _ = c.Read(b)
		}, "no server of verify", 0},
		{"greets", func(c net.Conn) {
			_, _ = c.Write([]byte("220 mail.example ESMTP\r\n"))
			_, _ = c.Read(make([]byte, 100))
		}, `it says "220 mail`, 0},
		{"ends", func(c net.Conn) {
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = c.Read(make([]byte, 1000))
			_, _ = c.Read(make([]byte, 1))
		}, "ended without an answer", 0},
		{"resets", func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); reset(c) }, "reset without an answer", anysock.KindReset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := ln.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				tt.serve(c)
			}()
			r, err := New(Config{Address: parse(t, ln.Addr().String()), Count: 1})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Run(t.Context())
			var p *PeerError
			if !errors.As(err, &p) || !strings.Contains(err.Error(), tt.want) || p.Hint == "" {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var e *anysock.Error
			if tt.kind != 0 && (!errors.As(err, &e) || e.Kind != tt.kind) {
				t.Errorf("got %v of another kind", err)
			}
			ln.Close()
			<-done
		})
	}
	t.Run("refused", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		r, err := New(Config{Address: parse(t, ln.Addr().String()), Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Run(t.Context())
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindRefused {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no echo", func(t *testing.T) {
		_, ln := serve(t, "tcp://127.0.0.1:0", waitAtMost)
		r, err := New(Config{Address: parse(t, ln.Addr().String()), Count: 1, Echo: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer context.AfterFunc(ctx, func() {})()
		time.AfterFunc(100*time.Millisecond, cancel) // a server of verify waits for a question
		_, err = r.Run(ctx)
		var p *PeerError
		if !errors.As(err, &p) {
			t.Errorf("got %v", err)
		}
	})
}

// TestStop: a run that is stopped finishes what it has begun and says that it
// is not complete; one that is cut does not wait.
func TestStop(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprint("cut ", cut), func(t *testing.T) {
			far, ln := serve(t, "tcp://127.0.0.1:0", waitAtMost)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var r *Run
			var once sync.Once
			stop := func() { r.Stop() }
			if cut {
				stop = cancel
			}
			var err error
			r, err = New(Config{
				Address: parse(t, ln.Addr().String()), Server: far, Count: 1 << 40, AtOnce: 10, Patience: waitAtMost,
				OnOpen: func(p Plan, _ *anysock.Conn) {
					if p.Number >= 100 {
						once.Do(stop)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			rep, err := r.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Complete || rep.Connections < 80 || rep.Connections > 5000 || rep.Losses() > 0 {
				t.Errorf("%+v", rep)
			}
			if cut == (rep.Cut == 0) {
				t.Errorf("%d were cut", rep.Cut)
			}
			if p := r.Progress(); p.Active != 0 || p.Done < 80 {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestDuration: a run may be bounded by time.
func TestDuration(t *testing.T) {
	far, ln := serve(t, "tcp://127.0.0.1:0", waitAtMost)
	rep := judgement(t, Config{Address: parse(t, ln.Addr().String()), Server: far, Duration: 300 * time.Millisecond, Patience: waitAtMost})
	wantNothing(t, rep, rep.Connections)
	if rep.Connections == 0 {
		t.Error("no connections")
	}
}

// TestBadConfig: what makes no sense is refused.
func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{{Duration: -1}, {AtOnce: -1}, {MaxSize: MaxMessage + 1}, {Late: 2 * MaxLate}, {Patience: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	if _, err := ParseOrders("client-closes,no-such"); err == nil || !strings.Contains(err.Error(), "server-half-closes") {
		t.Errorf("got %v", err)
	}
	if os, err := ParseOrders("both-end,client-closes,both-end"); err != nil || !slices.Equal(os, []Order{BothEnd, ClientCloses}) {
		t.Errorf("got %v, %v", os, err)
	}
}
