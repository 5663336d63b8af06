package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/load"
)

// This file holds the verb bench: its options, the run, and what its errors
// mean. The work is package load's.

// The defaults of bench.
const (
	defaultBenchDuration = 10 * time.Second
	defaultBenchWarmup   = time.Second
	defaultBenchMessage  = 250      // bytes: a small request
	defaultBenchPiece    = 64 << 10 // bytes, in bulk
)

// A benchOptions is what the options of bench say.
type benchOptions struct {
	work     load.Work
	mode     string
	size     sizeValue
	bytes    sizeValue
	duration time.Duration
	warmup   time.Duration
	timeout  time.Duration
	source   connectOptions
	compare  bool
}

func newBenchCommand(a *app) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:     "bench [OPTIONS] ADDR",
		Short:   "Measure a server: rate and latency, or bytes",
		GroupID: groupConnect,
		Long: `bench makes work for the server at ADDR, through any layers and hops, and measures what
becomes of it. Whatever comes back is compared with what was sent.

  --mode     the work                                           the server
  echo       messages on standing connections, sent back        anysock echo
  connect    for each message a connection, made and ended      anysock echo
  up         bytes to the server as fast as it takes them       anysock discard
  down       bytes from the server as fast as it sends them     anysock chargen
  both       both at once                                       anysock echo

Without --rate it is a closed loop: each answer makes the next message. With --rate it is
an open loop: messages are due at fixed times, and latency counts from then, so that a
server that stalls is charged with all that were due meanwhile.

The counted time follows --warmup. It ends after --duration, or with --requests or
--bytes after so much; SIGINT or SIGTERM ends it early, with what was measured so far.
With --json the result is one object, which --compare reads.

The exit status is 0 if nothing failed: every connection was made and ended in order,
every answer came and was right. Otherwise it is 9 for wrong bytes, else that of the
failure that came most ('anysock help exit').`,
		Example: `  anysock bench localhost:3005
  anysock bench --connections 64 --depth 16 unix:/run/echo.sock
  anysock bench --rate 20000 --connections 100 --duration 1m tls://db:5432
  anysock bench --mode up --bytes 10G socks5://proxy:1080,tcp://sink:9
  anysock bench --json localhost:3005 > old.json
  anysock bench --compare old.json new.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.compare {
				return arguments(2, "the older result", "the newer result")(cmd, args)
			}
			return arguments(1, "the address")(cmd, args)
		},
		ValidArgsFunction: completeAddresses(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.compare {
				if err := onlyCompare(cmd); err != nil {
					return err
				}
				return a.compareBench(args[0], args[1])
			}
			o.settle(cmd.Flags())
			return a.bench(args[0], o)
		},
	}
	o.options(cmd)
	a.outputOptions(cmd)
	return cmd
}

func (o *benchOptions) options(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", string(load.Echo), "the work: echo, connect, up, down or both")
	f.IntVar(&o.work.Connections, "connections", 1, "connections at once")
	f.IntVar(&o.work.Depth, "depth", 1, "unanswered messages on each connection at once; with --rate as many as are due, unless it is given")
	f.Var(&o.size, "size", "bytes of a message, or of what is written at once in bulk: 250, 64K, 1M (default 250, in bulk 64K)")
	f.Float64Var(&o.work.Rate, "rate", 0, "messages a second on all connections together; 0 is as fast as they are answered")
	f.DurationVar(&o.duration, "duration", defaultBenchDuration, "time that is counted; 0 with --requests or --bytes is no bound, and their default")
	f.DurationVar(&o.warmup, "warmup", defaultBenchWarmup, "work before that, which is not counted; none with --requests or --bytes, unless it is given")
	f.Int64Var(&o.work.Requests, "requests", 0, "end after this many messages")
	f.Var(&o.bytes, "bytes", "end after this many bytes in bulk: 10G")
	f.DurationVar(&o.timeout, "timeout", anysock.DefaultAttemptTimeout, "give up a connection that is not made, or an answer of which nothing comes, after this long")
	f.StringVar(&o.source.local, "local", "", "local address to connect from, host:port; port 0 chooses only the network")
	f.StringVar(&o.source.iface, "interface", "", "network interface to connect from")
	f.BoolVar(&o.compare, "compare", false, "compare two results of --json instead: anysock bench --compare OLD.json NEW.json")
	var modes []string
	for _, m := range load.Modes() {
		modes = append(modes, string(m))
	}
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(modes, cobra.ShellCompDirectiveNoFileComp))
}

// settle finds the values of options that depend on others.
func (o *benchOptions) settle(f *pflag.FlagSet) {
	w := &o.work
	w.Mode = load.Mode(o.mode)
	w.Size, w.Bytes = int(o.size), int64(o.bytes)
	if !f.Changed("size") {
		w.Size = defaultBenchMessage
		if w.Mode.Bulk() {
			w.Size = defaultBenchPiece
		}
	}
	if w.Rate != 0 && w.Mode == load.Echo && !f.Changed("depth") {
		w.Depth = 0
	}
	if bounded := w.Requests > 0 || w.Bytes > 0; bounded {
		if !f.Changed("duration") {
			o.duration = 0
		}
		if !f.Changed("warmup") {
			o.warmup = 0
		}
	}
	w.Duration, w.Warmup, w.Timeout = load.Span(o.duration), load.Span(o.warmup), load.Span(o.timeout)
}

// onlyCompare refuses options that mean nothing beside --compare.
func onlyCompare(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "compare", "json", "verbose":
		default:
			err = &usageError{msg: "--" + f.Name + " means nothing with --compare", hint: "leave it out"}
		}
	})
	return err
}

// A sizeValue is a number of bytes, with K, M and G for powers of 1024.
type sizeValue int64

func (v *sizeValue) String() string { return "" } // the default depends on the mode
func (v *sizeValue) Type() string   { return "bytes" }

func (v *sizeValue) Set(text string) error {
	digits := strings.TrimSuffix(strings.TrimSuffix(text, "B"), "i")
	shift := 0
	if n := len(digits); n > 0 {
		if i := strings.IndexByte("kmg", digits[n-1]|0x20); i >= 0 {
			digits, shift = digits[:n-1], 10*(i+1)
		} else if digits != text {
			return errors.New("it is a number of bytes, with K, M or G: 64K")
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<62>>shift {
		return errors.New("it is a number of bytes, with K, M or G: 64K")
	}
	*v = sizeValue(n << shift)
	return nil
}

// bench makes the run, and says what came of it.
func (a *app) bench(address string, o benchOptions) error {
	if err := o.work.Check(); err != nil {
		var e *load.WorkError
		if errors.As(err, &e) {
			return &usageError{msg: "--" + e.Field + ": " + e.Msg, hint: e.Hint}
		}
		return err
	}
	addr, err := parseAddress(address)
	if err != nil {
		return err
	}
	if err := ownStreams("bench", addr); err != nil {
		return err
	}
	if err := o.source.checkSource(addr); err != nil {
		return err
	}
	d := anysock.Dialer{
		Local: o.source.local, Interface: o.source.iface,
		AttemptTimeout: o.timeout, Group: &a.group, Trace: a.trace(),
	}
	live := a.newLiveLine(o.work)
	sig := a.watch()
	r, err := load.Run(sig.drain, sig.abort, load.Config{
		Work: o.work, Address: addr.String(), Plain: d.Trace == nil && o.plain(addr), Progress: live.progress(),
		Dial: func(ctx context.Context) (*anysock.Conn, error) { return d.DialAddress(ctx, addr) },
	})
	live.clear()
	if err != nil {
		return benchError(err, addr, sig)
	}
	if a.json {
		a.record(levelNotice, "bench", "", anysock.NotEnded, r)
	} else if _, err := a.stdout.Write([]byte(benchSummary(r))); err != nil {
		return &outputError{err}
	}
	return benchOutcome(r)
}

// plain reports whether connecting to addr is no more than connecting a
// socket.
func (o *benchOptions) plain(addr anysock.Address) bool {
	hops := addr.Hops()
	if len(hops) != 1 || len(hops[0].Layers) != 1 || len(hops[0].Options) != 0 || o.source.local != "" || o.source.iface != "" {
		return false
	}
	switch hops[0].Layers[0].Scheme {
	case "tcp", "tcp4", "tcp6", "unix":
		return true
	}
	return false
}

// benchError is why there is no result.
func benchError(err error, addr anysock.Address, sig *interrupts) error {
	var (
		peer *load.PeerError
		e    *anysock.Error
	)
	layers := addr.Hops()[len(addr.Hops())-1].Layers
	switch {
	case sig.drain.Err() != nil:
		return &failure{err: fmt.Errorf("bench: %w before anything was measured", context.Cause(sig.drain)), status: exitSetup}
	case errors.As(err, &peer):
		f := &failure{err: peerError{peer}, status: exitSetup, hint: peerHint(peer)}
		if peer.Silent {
			f.status = exitLost
		}
		return f
	case errors.As(err, &e) && e.Kind == anysock.KindReset && len(layers) == 1 && strings.HasPrefix(layers[0].Scheme, "tcp"):
		// By the probe: a relay says so that its target cannot be had.
		return &failure{err: fmt.Errorf("bench %s: %w", e.Addr, errResetAtOnce), status: exitRefused, hint: hintResetAtOnce}
	}
	return err
}

// A peerError says that the peer is not what the mode needs.
type peerError struct{ *load.PeerError }

func (e peerError) Error() string {
	what := "does not echo"
	switch e.Mode {
	case load.Up:
		what = "is no discard server"
	case load.Down:
		what = "is no server that sends"
	}
	return fmt.Sprintf("bench %s: the peer %s: %s", e.Peer, what, e.Msg)
}

// peerHint says which server the mode needs.
func peerHint(e *load.PeerError) string {
	switch e.Mode {
	case load.Up:
		return "--mode up needs a server like 'anysock discard'; for one that echoes, --mode both"
	case load.Down:
		return "--mode down needs a server like 'anysock chargen'"
	}
	if e.Silent {
		return fmt.Sprintf("--mode %s needs a server like 'anysock echo'; for one that takes bytes and says nothing, --mode up", e.Mode)
	}
	return fmt.Sprintf("--mode %s needs a server like 'anysock echo'; for one that sends by itself, --mode down", e.Mode)
}

// benchOutcome is what the result means for the exit status: nil if nothing
// failed.
func benchOutcome(r *load.Result) error {
	var (
		words []string
		worst *load.Failure
	)
	for i := range r.Failures {
		f := &r.Failures[i]
		words = append(words, fmt.Sprintf("%s %s", grouped(f.Count), f.Kind))
		switch {
		case worst == nil, f.Kind == load.KindWrongBytes:
			worst = f
		case worst.Kind != load.KindWrongBytes && f.Count > worst.Count:
			worst = f
		}
	}
	if worst == nil {
		if r.Unanswered > 0 && r.Partial == "" {
			return &failure{
				err:    fmt.Errorf("bench: %s of %s were not answered in time", grouped(r.Unanswered), plural(r.Unanswered+r.Requests, "message")),
				status: exitLost, hint: "a lower --rate, or more --connections",
			}
		}
		return nil
	}
	f := &failure{
		err:    fmt.Errorf("bench: failures: %s; the first: %s", strings.Join(words, ", "), worst.First),
		status: exitOf(worst.Err),
	}
	var e *anysock.Error
	switch {
	case worst.Kind == load.KindWrongBytes:
		f.status = exitVerify
	case worst.Kind == load.KindEnded:
		f.status = exitAborted
	case errors.As(worst.Err, &e):
		f.hint = e.Hint
	}
	return f
}
