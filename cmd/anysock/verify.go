package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/verify"
)

// This file holds the verb verify: very many connections over a path, and what
// it lost and which endings it told wrongly.

// A verifyOptions is what the options of verify say.
type verifyOptions struct {
	relay, serve, echo string

	count, first uint64
	duration     time.Duration
	atOnce       int
	size         int
	late         time.Duration
	patience     time.Duration
	seed         uint64
	orders       string
	allowErrors  bool
	server       serverOptions
}

func newVerifyCommand(a *app) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:     "verify [OPTIONS] ADDR | --relay FROM,TO | --echo ADDR | --serve ADDR",
		Short:   "Find what a path loses and which endings it tells wrongly",
		GroupID: groupConnect,
		Long: `verify sends connections over a path between two ends of its own and judges the path:
messages of random sizes, slow readers, every order of closing, late replies after a
half-close, aborts at random points from either side. Every byte is compared, both ways.

With --relay it is both ends: it listens on TO, which must be the target of whatever is
judged, and dials FROM, where that listens: a relay, a load balancer, a proxy, a
firewall. If FROM is a proxy, TO is dialed through it. To judge the path between two
machines, run 'verify --serve ADDR' on one and 'verify ADDR' on the other; who can reach
it can make it send. --echo judges an echo server, as far as that shows endings.

It finds lost bytes, false ends (an end of file where the sender had aborted or not
finished), hangs, wrong bytes, extra bytes, and connections that were refused or broken
off. What an end of the path cannot express, as an abort on a Unix socket, is a
downgrade: reported, and no fault. An interrupt reports what was done so far; a second
one does not wait for what runs.

The status is 0 if there was no fault and 9 otherwise ('anysock help exit'); with
--allow-errors a connection that was refused or broken off with an error, as it must be
when something fails on the way, is none.`,
		Example: `  anysock relay tcp://:9000 localhost:9001 &
  anysock verify --relay localhost:9000,localhost:9001
  anysock verify --relay socks5://localhost:1080,tcp://127.0.0.1:9001
  anysock verify --serve tcp://:3005           # on one machine
  anysock verify --duration 1m tcp://one:3005  # on the other
  anysock verify --seed 7 --first 41 --count 1 tcp://one:3005  # one connection again`,
		Args:              arguments(0, "the address"),
		ValidArgsFunction: completeAddresses(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("seed") {
				o.seed = uint64(rand.Uint32())
			}
			return a.verify(args, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.relay, "relay", "", "FROM,TO: judge what stands between FROM, dialed, and TO, listened on")
	f.StringVar(&o.serve, "serve", "", "be the far end for verify elsewhere")
	f.StringVar(&o.echo, "echo", "", "judge an echo server")
	f.Uint64Var(&o.count, "count", 0, fmt.Sprintf("connections in all; 0 is %d, or with --duration no bound", verify.DefaultCount))
	f.DurationVar(&o.duration, "duration", 0, "make connections for this long; 0 is until --count")
	f.IntVar(&o.atOnce, "at-once", verify.DefaultAtOnce, "connections at a time")
	f.IntVar(&o.size, "size", verify.DefaultMaxSize, "bytes of the largest message")
	f.DurationVar(&o.late, "late", verify.DefaultLate, "longest pause between an end and the reply to it")
	f.DurationVar(&o.patience, "timeout", verify.DefaultPatience, "what makes no progress for this long hangs")
	f.Uint64Var(&o.seed, "seed", 0, "repeat the run of this seed; without it one is chosen and printed")
	f.Uint64Var(&o.first, "first", 0, "number of the first connection")
	f.StringVar(&o.orders, "orders", "", "orders of ending to try, with commas between them: "+strings.Join(orderWords(), ", ")+"; without it all")
	f.BoolVar(&o.allowErrors, "allow-errors", false, "connections that are refused or broken off with an error are no fault")
	f.IntVar(&o.server.maxConns, "max-conns", defaultMaxConns, "with --serve: connections at once; 0 is no limit")
	f.DurationVar(&o.server.drain, "drain", defaultDrain, "with --serve: time for connections to finish after a signal")
	a.outputOptions(cmd)
	return cmd
}

func orderWords() []string {
	var words []string
	for _, o := range verify.Orders() {
		words = append(words, o.String())
	}
	return words
}

// check refuses what makes no sense, and says which of its modes verify is in.
func (o *verifyOptions) check(args []string) error {
	modes := len(args)
	for _, m := range []string{o.relay, o.serve, o.echo} {
		if m != "" {
			modes++
		}
	}
	switch {
	case modes == 0:
		return &usageError{msg: "verify: the address is missing", hint: "ADDR of a 'verify --serve', or --relay FROM,TO, --echo ADDR, --serve ADDR"}
	case modes > 1:
		return &usageError{msg: "verify: one of ADDR, --relay, --echo and --serve, not several", hint: "'anysock verify --help' says what each is"}
	case o.atOnce < 1:
		return &usageError{msg: fmt.Sprintf("--at-once %d: it must be at least 1", o.atOnce)}
	case o.patience <= 0:
		return &usageError{msg: "--timeout must be more than 0"}
	case o.size > verify.MaxMessage:
		return &usageError{msg: fmt.Sprintf("--size %d: at most %d", o.size, verify.MaxMessage)}
	case o.late > verify.MaxLate:
		return &usageError{msg: fmt.Sprintf("--late %s: at most %s", o.late, verify.MaxLate)}
	}
	return errors.Join(positive("duration", o.duration), positive("size", o.size), positive("late", o.late), o.server.check())
}

// config is what the options say of a run to an address.
func (o *verifyOptions) config(a *app, to anysock.Address) (verify.Config, error) {
	cfg := verify.Config{
		Address: to, Dialer: anysock.Dialer{Group: &a.group, Trace: a.trace()},
		Count: o.count, First: o.first, Duration: o.duration, AtOnce: o.atOnce, Seed: o.seed,
		MaxSize: o.size, Late: o.late, Patience: o.patience,
	}
	// Where 0 is none here it is the default there.
	if cfg.MaxSize == 0 {
		cfg.MaxSize = -1
	}
	if cfg.Late == 0 {
		cfg.Late = -1
	}
	if o.orders == "" {
		return cfg, nil
	}
	var err error
	if cfg.Orders, err = verify.ParseOrders(o.orders); err != nil {
		return cfg, &usageError{msg: "--orders: " + err.Error()}
	}
	return cfg, nil
}

func (a *app) verify(args []string, o verifyOptions) error {
	if err := o.check(args); err != nil {
		return err
	}
	switch {
	case o.serve != "":
		return a.verifyServe(o)
	case o.relay != "":
		return a.verifyRelay(o)
	}
	text := o.echo
	if len(args) > 0 {
		text = args[0]
	}
	addr, err := parseAddress(text)
	if err != nil {
		return err
	}
	if err := ownStreams("verify", addr); err != nil {
		return err
	}
	cfg, err := o.config(a, addr)
	if err != nil {
		return err
	}
	cfg.Echo = o.echo != ""
	return a.verifyRun(a.watch(), cfg, o)
}

// splitRelay takes FROM,TO apart, where FROM may have several hops: what is
// dialed, and what is listened on.
func splitRelay(text string) (from, to anysock.Address, err error) {
	i := strings.LastIndexByte(text, ',')
	if i < 0 {
		return from, to, &usageError{msg: "--relay " + text + ": TO is missing", hint: "FROM,TO: where the relay listens, and its target"}
	}
	if to, err = parseAddress(text[i+1:]); err != nil {
		return from, to, err
	}
	if from, err = parseAddress(text[:i]); err != nil {
		return from, to, err
	}
	if isProxy(from) {
		from, err = parseAddress(text)
	}
	return from, to, err
}

// isProxy reports whether an address leads to a proxy and no further.
func isProxy(addr anysock.Address) bool {
	hops := addr.Hops()
	switch hops[len(hops)-1].Layers[0].Scheme {
	case "socks4", "socks4a", "socks5", "http", "ssh":
		return true
	}
	return false
}

func (a *app) verifyRelay(o verifyOptions) error {
	from, to, err := splitRelay(o.relay)
	if err != nil {
		return err
	}
	for _, addr := range []anysock.Address{from, to} {
		if err := ownStreams("verify", addr); err != nil {
			return err
		}
	}
	cfg, err := o.config(a, from)
	if err != nil {
		return err
	}
	in := a.watch()
	lc := anysock.ListenConfig{Group: &a.group, Trace: a.trace(), Options: anysock.Options{DrainTimeout: o.patience}}
	ln, err := lc.ListenAddress(in.drain, to)
	if err != nil {
		return err
	}
	defer ln.Close()
	a.tellBound(to, ln)
	stop, accepting := context.WithCancel(context.Background())
	far := &verify.Server{
		Patience:   o.patience,
		OnStranger: func(c *anysock.Conn, err error) { a.log.Info("turned away " + peerOf(c) + ": " + err.Error()) },
	}
	served := make(chan error, 1)
	a.spawn(func() { served <- a.guarded(func() error { return far.Serve(stop, ln) }) })
	cfg.Server = far
	err = a.verifyRun(in, cfg, o)
	accepting()
	if serr := <-served; serr != nil {
		err = errors.Join(err, serr)
	}
	cut, cancel := context.WithTimeout(in.abort, verifyLeave)
	defer cancel()
	far.Shutdown(cut)
	return err
}

// verifyLeave bounds the wait for connections that the path has not ended when
// the run is over; the report has them.
const verifyLeave = time.Second

// verifyServe is the far end of runs elsewhere.
func (a *app) verifyServe(o verifyOptions) error {
	addr, err := parseAddress(o.serve)
	if err != nil {
		return err
	}
	if err := ownStreams("verify", addr); err != nil {
		return err
	}
	in := a.watch()
	lc := anysock.ListenConfig{MaxConns: o.server.maxConns, Group: &a.group, Trace: a.trace(), Options: anysock.Options{DrainTimeout: o.patience}}
	ln, err := lc.ListenAddress(in.drain, addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	a.tellBound(addr, ln)
	far := &verify.Server{
		Patience: o.patience,
		OnEnd: func(p verify.Plan, out verify.Outcome) {
			if out.Fault != verify.None {
				a.log.Info(fmt.Sprintf("%s: %s (%s)", out.Fault, out.Saw, p))
			}
		},
		OnStranger: func(c *anysock.Conn, err error) { a.log.Info("turned away " + peerOf(c) + ": " + err.Error()) },
	}
	stopped := a.watchExhausted(ln)
	err = far.Serve(in.drain, ln)
	stopped()
	cut, cancel := context.WithTimeout(in.abort, o.server.drain)
	defer cancel()
	far.Shutdown(cut)
	played, faulty := far.Played()
	a.record(levelNotice, "served", fmt.Sprintf("%s served, %d with something to report, %d strangers turned away",
		count(int(played), "connection"), faulty, far.Strangers()), anysock.NotEnded,
		struct {
			Connections int64 `json:"connections"`
			Faulty      int64 `json:"faulty"`
			Strangers   int64 `json:"strangers"`
		}{played, faulty, far.Strangers()})
	return err
}

// verifyRun makes a run and tells of it.
func (a *app) verifyRun(in *interrupts, cfg verify.Config, o verifyOptions) error {
	tell := &verifyTeller{a: a}
	cfg.OnFinding = tell.finding
	run, err := verify.New(cfg)
	if err != nil {
		return &usageError{msg: "verify: " + err.Error()}
	}
	defer context.AfterFunc(in.drain, func() {
		run.Stop()
		tell.interrupted(in)
	})()
	a.log.Info(fmt.Sprintf("seed %d", o.seed), slog.String("address", cfg.Address.String()))
	tell.start(run, cfg.Count)
	rep, err := run.Run(in.abort)
	tell.stop()
	if err != nil {
		return verifySetup(in, err)
	}
	return tell.summary(in, rep, o.allowErrors)
}

// verifySetup finds words for a run that could not begin.
func verifySetup(in *interrupts, err error) error {
	if in.drain.Err() != nil {
		return &failure{err: errors.New(in.why() + " before it began"), status: exitSetup}
	}
	var p *verify.PeerError
	if !errors.As(err, &p) {
		return err
	}
	status := exitSetup
	var e *anysock.Error
	if errors.As(err, &e) {
		status = exitOfKind(e.Kind)
		if e.Kind == anysock.KindReset {
			status = exitRefused // nobody behind it, as connect tells it
		}
	}
	return &failure{err: p, status: status, hint: p.Hint}
}
