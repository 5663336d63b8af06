//go:build linux && !anysock_portable

package verify_test

// This file is the soak: relays and servers in a process of their own, in which system calls
// fail at random, under verify for as long as -soak says. What a fault kills must
// be told to both ends as an error, nothing else may be lost, and descriptors and
// memory must not grow.

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/verify"
)

var (
	soakFor  = flag.Duration("soak", 10*time.Second, "how long the soak goes on")
	soakOnly = flag.String("soak.only", "", "the calls that fail, with commas between them; all without it")
	soakSeed = flag.Uint64("soak.seed", 1, "which faults the soak injects, and which connections it makes")
)

// soakPatience is what hangs, in the soak; the relays' own bounds are shorter.
const soakPatience = 60 * time.Second

// A soakChild is that process, for the test.
type soakChild struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	mu    sync.Mutex
	ended bool
}

func startSoak(t *testing.T, targets []string) (*soakChild, []station) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &soakChild{t: t, cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), soakRole+"="+strings.Join(targets, " "), fmt.Sprintf("%s_SEED=%d", soakRole, *soakSeed), soakRole+"_ONLY="+*soakOnly)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !c.ended {
			_ = c.cmd.Process.Kill()
			_ = c.cmd.Wait()
		}
	})
	var at []station
	c.hear(&at)
	return c, at
}

func (c *soakChild) hear(v any) {
	c.t.Helper()
	line, err := c.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		c.t.Fatalf("the servers' process: %v", err)
	}
}

// stats asks for them; say is "calm", or anything else.
func (c *soakChild) stats(say string) soakStats {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintln(c.in, say); err != nil {
		c.t.Fatal(err)
	}
	var st soakStats
	c.hear(&st)
	return st
}

// end has the servers drain, and wants that to go well.
func (c *soakChild) end() {
	c.t.Helper()
	c.in.Close()
	err := c.cmd.Wait()
	c.ended = true
	if err != nil {
		c.t.Errorf("the servers' process: %v", err)
	}
}

// The growth that the soak allows, from its beginning to its end: what a process
// of that load differs by from one moment to the next. Connections that have
// ended are held by who watches for silence until that looks again, which it does
// every 7.5 s; in ten minutes a leak of 20 bytes for each connection shows.
const (
	soakMoreDescriptors = 64
	soakMoreBytes       = 24 << 20
	soakAtOnce          = 15 // connections at each server
	soakSamples         = 40
)

// TestSoak is the whole. CI runs it for 10 s; `make soak` for 10 minutes.
func TestSoak(t *testing.T) {
	far := &verify.Server{Patience: soakPatience}
	lns := []*anysock.Listener{}
	var targets []string
	for _, address := range []string{"tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		lc := anysock.ListenConfig{Options: anysock.Options{DrainTimeout: soakPatience}}
		ln, err := lc.Listen(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		lns = append(lns, ln)
		targets = append(targets, addressOf(ln))
	}
	servers := []*verify.Server{far, {Patience: soakPatience}, {Patience: soakPatience}}
	var serving sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	for i, s := range servers {
		serving.Go(func() {
			if err := s.Serve(ctx, lns[i]); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	defer func() {
		stop()
		serving.Wait()
		for _, s := range servers {
			s.Shutdown(ctx)
		}
	}()
	child, at := startSoak(t, targets)

	run := func(i int, cfg verify.Config) *verify.Report {
		cfg.Address, cfg.Echo = anysock.MustParseAddress(at[i].Address), at[i].Echo
		if !cfg.Echo {
			cfg.Server = servers[i]
		}
		cfg.AtOnce, cfg.Seed, cfg.Patience, cfg.Late = soakAtOnce, *soakSeed, soakPatience, 100*time.Millisecond
		r, err := verify.New(cfg)
		if err != nil {
			t.Error(err)
			return nil
		}
		var rep *verify.Report
		// The first connection of a run may be one that a fault hits.
		for range 20 {
			if rep, err = r.Run(context.Background()); err == nil {
				break
			}
			r, _ = verify.New(cfg)
		}
		if err != nil {
			t.Error(err)
		}
		return rep
	}
	reports := make([]*verify.Report, len(at))
	var running sync.WaitGroup
	over := make(chan struct{})
	for i := range at {
		running.Go(func() { reports[i] = run(i, verify.Config{Duration: *soakFor}) })
	}
	go func() {
		defer close(over)
		running.Wait()
	}()
	var samples []soakStats
	tick := time.NewTicker(*soakFor / soakSamples)
	defer tick.Stop()
	began := time.Now()
	for sampling := true; sampling; {
		select {
		case <-tick.C:
			if time.Since(began) > *soakFor {
				continue // the load is over
			}
			samples = append(samples, child.stats("how are you"))
		case <-over:
			sampling = false
		}
	}
	child.stats("calm")
	var made, hit int64
	for i, rep := range reports {
		if rep == nil {
			continue
		}
		made += rep.Connections
		for _, f := range rep.Findings {
			if !tolerable(rep.Caps, f.Fault) {
				t.Errorf("%s: %v; client %+v, server %+v", at[i].Name, f, f.Client, f.Server)
			}
		}
		for name, n := range rep.Faults {
			var f verify.Fault
			if err := f.UnmarshalText([]byte(name)); err != nil || !tolerable(rep.Caps, f) {
				t.Errorf("%s: %s: %d connections", at[i].Name, name, n)
			}
		}
		hit += rep.Errors() + rep.Losses()
		t.Logf("%s: %d connections, %d in order, %d aborted, %d MB, faults %v, downgraded %v", at[i].Name, rep.Connections, rep.InOrder, rep.Aborted, (rep.Up+rep.Down)>>20, rep.Faults, rep.Downgrades)
	}
	if hit == 0 && *soakOnly == "" || hit > made/2 {
		t.Errorf("%d of %d connections were broken: the faults are too few or too many", hit, made)
	}
	// Afterwards everything is as it was: nothing is broken any more.
	for i := range at {
		if rep := run(i, verify.Config{Count: 200}); rep == nil || rep.Connections != 200 || rep.Losses()+rep.Errors() > 0 {
			t.Errorf("after the faults, %s: %+v", at[i].Name, rep)
		}
	}
	last := child.stats("how are you")
	for deadline := time.Now().Add(soakPatience); last.Active > 0 && time.Now().Before(deadline); last = child.stats("how are you") {
		<-time.After(10 * time.Millisecond)
	}
	if last.Active > 0 {
		t.Errorf("%d connections are still there", last.Active)
	}
	growth(t, samples)
	pace(t, samples)
	t.Logf("%d connections in %s; injected %v; at the end %d descriptors, %d goroutines, heap %d kB, stacks %d kB",
		made, *soakFor, last.Injected, last.Descriptors, last.Goroutines, last.Heap>>10, last.Stacks>>10)
	for call := range flaws {
		if last.Injected[string(call)] == 0 {
			t.Logf("no fault of %s: it was not called often enough", call)
		}
	}
	child.end()
}

// tolerable are the faults that an injected one may cause: those that are told,
// and where the legs have no abort, so that a relay that gives up can only close,
// an end too early.
func tolerable(caps anysock.Caps, f verify.Fault) bool {
	if f.Told() {
		return true
	}
	return !caps.Has(anysock.CapAbort) && (f == verify.FalseEnd || f == verify.LostBytes)
}

// growth compares the first and the last tenth of the samples, leaving out the
// first of all.
func growth(t *testing.T, samples []soakStats) {
	t.Helper()
	if len(samples) < 3 {
		t.Fatalf("only %d samples", len(samples))
	}
	n := max(len(samples)/10, 1)
	first, last := samples[1:1+n], samples[len(samples)-n:]
	for _, what := range []struct {
		name  string
		value func(soakStats) int64
		more  int64
	}{
		{"descriptors", func(s soakStats) int64 { return int64(s.Descriptors) }, soakMoreDescriptors},
		{"heap", func(s soakStats) int64 { return s.Heap }, soakMoreBytes},
		{"stacks", func(s soakStats) int64 { return s.Stacks }, soakMoreBytes},
		{"goroutines", func(s soakStats) int64 { return int64(s.Goroutines) }, 4 * soakMoreDescriptors},
	} {
		before, after := middle(first, what.value), middle(last, what.value)
		t.Logf("%s: %d, then %d", what.name, before, after)
		if after > before+what.more {
			t.Errorf("%s have grown from %d to %d, by more than %d", what.name, before, after, what.more)
		}
	}
}

// pace logs how many connections each station took in the first and the last
// part of the samples, for who looks for something that slows down.
func pace(t *testing.T, samples []soakStats) {
	n := len(samples) / 4
	if n == 0 {
		return
	}
	for name := range samples[0].Accepted {
		took := func(from, to int) int64 { return samples[to].Accepted[name] - samples[from].Accepted[name] }
		t.Logf("%s: %d connections in the first quarter, %d in the last", name, took(0, n), took(len(samples)-1-n, len(samples)-1))
	}
}

// middle is the median.
func middle(samples []soakStats, value func(soakStats) int64) int64 {
	var vs []int64
	for _, s := range samples {
		vs = append(vs, value(s))
	}
	slices.Sort(vs)
	return vs[len(vs)/2]
}

// TestGrowthIsSeen: the soak's own check can fail.
func TestGrowthIsSeen(t *testing.T) {
	var samples []soakStats
	for i := range 40 {
		samples = append(samples, soakStats{Descriptors: 100 + 3*i, Heap: 10 << 20})
	}
	if before, after := middle(samples[1:4], func(s soakStats) int64 { return int64(s.Descriptors) }), middle(samples[37:], func(s soakStats) int64 { return int64(s.Descriptors) }); after <= before+soakMoreDescriptors {
		t.Errorf("%d, then %d: a leak of three descriptors in each fortieth of the time is not seen", before, after)
	}
}
