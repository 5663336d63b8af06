package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// This file is the server behind the verbs echo, discard and chargen: it
// accepts, serves each connection, and drains. Connections of tcp and unix live
// on event loops (serve_loop.go), all others on a goroutine each.

const (
	// defaultAddress is where servers listen if no address is given.
	defaultAddress = "tcp://:3005"
	// defaultMaxConns bounds the connections of a server at once.
	defaultMaxConns = 10_000
	// defaultDrain is how long connections may take to finish after a signal.
	defaultDrain = 30 * time.Second
	// exhaustedInterval is how often a lack of descriptors is looked for, and
	// so how often it is logged at most.
	exhaustedInterval = time.Second
)

// A serverOptions is what the options of a server say.
type serverOptions struct {
	maxConns int
	idle     time.Duration
	drain    time.Duration
}

// A service is what such a verb does with a connection, in its two forms.
type service struct {
	serve func(context.Context, *anysock.Conn) error
	loop  func() loop.Handler
}

// newServerCommand is a verb that serves connections.
func newServerCommand(a *app, name, short, long string, svc service) *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use:     name + " [OPTIONS] [ADDR]",
		Short:   short,
		GroupID: groupServe,
		Long: long + `

It listens on ` + defaultAddress + ` unless ADDR says otherwise, and prints the bound address; port 0
is any free port. SIGINT or SIGTERM drains: connections that wait are still accepted,
the listener is closed, and what runs may finish for --drain; a second signal aborts.`,
		Example: fmt.Sprintf(`  anysock %[1]s
  anysock %[1]s tcp://127.0.0.1:0
  anysock %[1]s 'unix:/run/%[1]s.sock?mode=0660'`, name),
		Args:              arguments(0, "the address"),
		ValidArgsFunction: completeAddresses(1),
		RunE: func(_ *cobra.Command, args []string) error {
			addr := defaultAddress
			if len(args) > 0 {
				addr = args[0]
			}
			return a.serve(addr, o, svc)
		},
	}
	o.options(cmd)
	a.outputOptions(cmd)
	return cmd
}

func (o *serverOptions) options(cmd *cobra.Command) {
	cmd.Flags().IntVar(&o.maxConns, "max-conns", defaultMaxConns, "connections at once, others wait to be accepted; 0 is no limit")
	cmd.Flags().DurationVar(&o.idle, "idle", 0, "abort a connection that moves no data for this long; 0 is never")
	cmd.Flags().DurationVar(&o.drain, "drain", defaultDrain, "time for connections to finish after a signal; then they are aborted")
}

func (o *serverOptions) check() error {
	return errors.Join(positive("max-conns", o.maxConns), positive("idle", o.idle), positive("drain", o.drain))
}

// A server is one run of a serving verb.
type server struct {
	a     *app
	o     serverOptions
	serve func(context.Context, *anysock.Conn) error
	cut   context.Context // done: abort the connections
	wg    sync.WaitGroup  // the connections being served

	mu   sync.Mutex
	open int
	lost int         // connections that were cut
	last anysock.End // the connection that ended last
}

func (a *app) serve(address string, o serverOptions, svc service) error {
	if err := o.check(); err != nil {
		return err
	}
	addr, err := parseAddress(address)
	if err != nil {
		return err
	}
	if usesStdout(addr) {
		a.records = a.stderr
	}
	in := a.watch()
	lc := anysock.ListenConfig{MaxConns: o.maxConns, Group: &a.group, Trace: a.trace()}
	if onLoops(addr) && lc.Trace == nil {
		return a.serveOnLoops(addr, lc, o, svc.loop(), in)
	}
	ln, err := lc.ListenAddress(in.drain, addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	broken := a.drainOnBrokenRecords(in)
	a.tellBound(addr, ln)

	cut, cancel := context.WithCancelCause(in.abort)
	defer cancel(nil)
	s := &server{a: a, o: o, serve: svc.serve, cut: cut}
	defer s.wg.Wait()
	defer cancel(errStopped) // before the wait, should anything below fail
	stop := a.watchExhausted(ln)
	err = s.accept(in.drain, ln)
	stop()
	if err != nil {
		return err
	}
	own := in.drain.Err() == nil // the listener had one connection, and is through
	if own {
		s.finishOwn(in.drain)
	}
	if err := s.drain(in, ln, cancel); err != nil {
		return err
	}
	if own && !s.last.How.Complete() {
		return &endError{end: s.last, status: exitOfHow(s.last.How)}
	}
	return broken()
}

var errStopped = errors.New("the server stopped")

// drainOnBrokenRecords makes a standard output that takes no more records a
// reason to drain; the function that it returns says whether that happened.
func (a *app) drainOnBrokenRecords(in *interrupts) (broken func() error) {
	a.onRecordsBroken = func() { in.cancelDrain(&outputError{a.stdout.broken()}) }
	return func() error {
		if err := a.stdout.broken(); err != nil {
			return &outputError{err}
		}
		return nil
	}
}

// accept serves connections until ctx is done or the listener has had all its
// connections, which is no error.
func (s *server) accept(ctx context.Context, ln *anysock.Listener) error {
	for c, err := range ln.Conns(ctx) {
		if err != nil {
			return err
		}
		s.start(c)
	}
	return nil
}

// start serves c on a goroutine; serve waits for it.
func (s *server) start(c *anysock.Conn) {
	s.a.log.Info("accepted " + peerOf(c))
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	s.wg.Add(1)
	s.a.spawn(func() {
		defer s.wg.Done()
		stop := s.a.watchIdle(c, s.o.idle)
		_ = s.serve(s.cut, c) // the ending says more
		stop()
		s.ended(c.End())
	})
}

// ended tells how a connection ended.
func (s *server) ended(end anysock.End) {
	s.mu.Lock()
	s.open--
	s.last = end
	if end.How == anysock.AbortedByUs && s.cut.Err() != nil {
		s.lost++
	}
	s.mu.Unlock()
	s.a.record(s.a.endLevel(), "end", peerName(end)+": "+endText(end), end.How, newEndRecord(end))
}

func (s *server) count() (open, lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.lost
}

// finishOwn waits for the connections of a listener that is at its end, or for
// a reason to drain. No clock bounds it.
func (s *server) finishOwn(drain context.Context) {
	over := make(chan struct{})
	s.a.spawn(func() {
		defer close(over)
		s.wg.Wait()
	})
	select {
	case <-over:
	case <-drain.Done():
	}
}

// drain accepts what waits, closes the listener and lets connections finish;
// at the deadline, or when in.abort is done, they are aborted.
func (s *server) drain(in *interrupts, ln *anysock.Listener, cut context.CancelCauseFunc) error {
	conns, err := ln.Drain()
	for _, c := range conns {
		s.start(c)
	}
	if open, _ := s.count(); open > 0 {
		s.a.tellDrain(in, open, s.o.drain)
	}
	finished := make(chan struct{})
	s.a.spawn(func() {
		defer close(finished)
		s.wg.Wait()
	})
	limit := time.NewTimer(s.o.drain)
	defer limit.Stop()
	select {
	case <-finished:
	case <-limit.C:
		cut(errDrainDeadline)
	case <-in.abort.Done():
	}
	<-finished // aborted connections end at once
	if _, lost := s.count(); lost > 0 {
		return cutError(lost, s.o.drain, in)
	}
	return err
}

var errDrainDeadline = errors.New("cut at the drain deadline")

// tellDrain says that a drain has begun and how long it may take.
func (a *app) tellDrain(in *interrupts, open int, limit time.Duration) {
	a.log.Warn(fmt.Sprintf("%s: finishing %s, for at most %s; a second signal aborts", in.why(), count(open, "connection"), limit))
}

// cutError says that a drain did not finish.
func cutError(n int, limit time.Duration, in *interrupts) error {
	if in.abort.Err() != nil {
		return &failure{err: fmt.Errorf("drain: %s aborted, %w", count(n, "connection"), context.Cause(in.abort)), status: exitAborted}
	}
	return &failure{
		err:    fmt.Errorf("drain: %s aborted after %s", count(n, "connection"), limit),
		status: exitAborted,
		hint:   "more time with --drain, or an idle timeout with --idle",
	}
}

// count is "1 connection" or "2 connections".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// peerOf names the peer of an open connection.
func peerOf(c *anysock.Conn) string {
	return peerName(anysock.End{Local: c.LocalAddr(), Peer: c.RemoteAddr()})
}

// watchExhausted warns while accepting fails for want of descriptors or
// memory, until stop is called.
func (a *app) watchExhausted(lns ...*anysock.Listener) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.spawn(func() {
		defer close(done)
		tick := time.NewTicker(exhaustedInterval)
		defer tick.Stop()
		var before int64
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			var failures, shed int64
			for _, ln := range lns {
				f, s := ln.Exhausted()
				failures, shed = failures+f, shed+s
			}
			if failures > before {
				before = failures
				a.log.Warn("accept: out of descriptors or memory: clients wait",
					slog.Int64("failures", failures), slog.Int64("reset", shed),
					say(statement{hint: "raise the limit of open files ('ulimit -n'), or lower --max-conns", attrs: []slog.Attr{slog.String("op", anysock.OpAccept), slog.String("kind", anysock.KindLimit.String())}}))
			}
		}
	})
	return func() {
		cancel()
		<-done
	}
}
