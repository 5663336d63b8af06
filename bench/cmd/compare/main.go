//go:build linux

// Compare measures anysock's servers and relay against others, and writes the
// results as Markdown. Run it inside the module bench:
//
//	go -C bench run ./cmd/compare -list
//	go -C bench run ./cmd/compare                                  # everything, about a quarter of an hour
//	go -C bench run ./cmd/compare -o ../docs/BENCHMARKS.md         # and put it there
//	go -C bench run ./cmd/compare -set echo -work '^64$' -only 'anysock|gnet'
//
// How it measures is told by package bench/internal/compare. A program that is
// not installed is named and left out. Status 1 means that the run did not
// finish; a candidate that failed is named in its table.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/anysock/anysock/bench/internal/compare"
)

func main() {
	// A child ends with the thread that started it, which is this one.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		stop()
		os.Exit(1) //nolint:gocritic // the deferred stop has just been called
	}
}

// options are the flags.
type options struct {
	list       bool
	sets       string
	work, only string
	base       string
	file       string
	samples    string
	threads    int
	plan       compare.Plan
}

func parse() options {
	var o options
	flag.BoolVar(&o.list, "list", false, "print the sets, works and candidates, and measure nothing")
	flag.StringVar(&o.sets, "set", "all", "sets to run, separated by commas")
	flag.StringVar(&o.work, "work", "", "regular expression of the works' names")
	flag.StringVar(&o.only, "only", "", "regular expression of the candidates' names")
	flag.StringVar(&o.base, "base", "", "`candidate` that the others are compared with, and that is measured a second time, instead of the set's own")
	flag.StringVar(&o.samples, "samples", "", "`file` to which every slot is added, as a line of JSON")
	flag.StringVar(&o.file, "o", "", "Markdown `file` in which the sections of these sets are replaced or added")
	flag.IntVar(&o.plan.Rounds, "rounds", 12, "slots of each candidate in a work")
	flag.IntVar(&o.threads, "threads", 1, "threads or loops of the servers, in works that do not say; with more than one they may use the load's core too")
	flag.DurationVar(&o.plan.Slot, "slot", 300*time.Millisecond, "length of a slot")
	flag.DurationVar(&o.plan.Warmup, "warmup", 50*time.Millisecond, "load before every slot that is not counted")
	flag.Parse()
	return o
}

func run(ctx context.Context) error {
	o := parse()
	if flag.NArg() > 0 || o.plan.Rounds < 1 || o.threads < 1 || o.plan.Slot < time.Millisecond || o.plan.Warmup < time.Millisecond {
		return errors.New("usage: no arguments, -rounds and -threads at least 1, -slot and -warmup at least 1ms")
	}
	if o.file != "" && (o.work != "" || o.only != "" || o.base != "" || o.threads != 1) {
		return errors.New("-o replaces the whole section of a set: it goes without -work, -only, -base and -threads")
	}
	chosen, err := choose(o)
	if err != nil {
		return err
	}
	if o.list {
		list(chosen)
		return nil
	}
	if err := raiseLimit(); err != nil {
		return err
	}
	if err := compare.Adopt(); err != nil {
		return err
	}
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.Tools.Remove()
	if o.samples != "" {
		f, err := os.OpenFile(o.samples, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		b.Samples = json.NewEncoder(f)
	}
	var total time.Duration
	for _, s := range chosen {
		total += s.Estimate(o.plan)
	}
	fmt.Fprintf(os.Stderr, "this takes about %v, after the programs are built\n", total.Round(time.Second))
	begun := time.Now()
	for _, s := range chosen {
		section, err := s.Run(ctx, b, os.Stderr, o.plan)
		if err != nil {
			return err
		}
		fmt.Println(section)
		if o.file != "" {
			if err := compare.Publish(o.file, s.Name, section); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(os.Stderr, "took %v\n", time.Since(begun).Round(time.Second))
	return nil
}

// raiseLimit lets the children have as many descriptors as there may be. The
// Go runtime raises its own limit only; a call of Setrlimit passes it on.
func raiseLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// newBench gives the last core to the servers and the first to the load, since
// interrupts tend to come to the first.
func newBench(ctx context.Context) (*compare.Bench, error) {
	cpus, err := compare.CPUs()
	if err != nil {
		return nil, err
	}
	if len(cpus) < 2 {
		return nil, errors.New("two cores are needed, one for the server and one for the load")
	}
	first, last := cpus[:1], cpus[len(cpus)-1:]
	tools, err := compare.NewToolbox(ctx)
	if err != nil {
		return nil, err
	}
	return &compare.Bench{Tools: tools, ServerCPUs: last, LoadCPUs: first, AllCPUs: slices.Concat(first, last)}, nil
}

func choose(o options) ([]compare.Set, error) {
	work, err := regexp.Compile(o.work)
	if err != nil {
		return nil, fmt.Errorf("-work: %w", err)
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	sets := compare.Sets()
	var chosen []compare.Set
	for name := range strings.SplitSeq(o.sets, ",") {
		i := slices.IndexFunc(sets, func(s compare.Set) bool { return s.Name == name })
		switch {
		case name == "all":
			chosen = sets
		case i < 0:
			return nil, fmt.Errorf("there is no set %q", name)
		default:
			chosen = append(chosen, sets[i])
		}
	}
	for i := range chosen {
		s := &chosen[i]
		s.Works = slices.DeleteFunc(s.Works, func(w compare.Work) bool { return !work.MatchString(w.Name) })
		for j := range s.Works {
			s.Works[j].Threads = max(s.Works[j].Threads, o.threads)
		}
		if o.base != "" {
			if err := s.CompareWith(o.base); err != nil {
				return nil, err
			}
		}
		s.Candidates = slices.DeleteFunc(s.Candidates, func(c compare.Candidate) bool { return !only.MatchString(c.Name) })
		if len(s.Candidates) == 0 || len(s.Works) == 0 && len(s.Points) == 0 {
			return nil, fmt.Errorf("nothing of the set %s is chosen", s.Name)
		}
	}
	return chosen, nil
}

func list(sets []compare.Set) {
	for _, s := range sets {
		fmt.Printf("set %s: %s\n", s.Name, s.Title)
		for _, w := range s.Works {
			fmt.Printf("  work %-14s %s\n", w.Name, w.Title)
		}
		for _, c := range s.Candidates {
			fmt.Printf("  candidate %s\n", c.Name)
		}
	}
}
