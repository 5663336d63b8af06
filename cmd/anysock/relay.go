package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// A relayOptions is what the options of relay say.
type relayOptions struct {
	server  serverOptions
	connect connectOptions
	timeout time.Duration
}

func newRelayCommand(a *app) *cobra.Command {
	var o relayOptions
	cmd := &cobra.Command{
		Use:     "relay [OPTIONS] FROM TO",
		Short:   "Accept connections and join each with one to a target",
		GroupID: groupConnect,
		Long: `relay listens on FROM and joins every connection with a new one to TO. What ends on one
side ends in the same way on the other: an end of file becomes a half-close, a reset
stays a reset.

With original: as TO each connection goes where it was going before a firewall redirected
it here; one that was not redirected is reset, and so is one that would come back here.

If the target cannot be reached, it is tried again while the client waits (--retry);
then the client is reset, since its connect has succeeded already. 'anysock connect'
tells that as "reset before any byte".

One line is printed for every connection that has ended, on a terminal or with -v; with
--json one object, on standard output. SIGINT or SIGTERM drains: connections that wait
are still accepted, the listener is closed, and what runs may finish for --drain; then,
or with a second signal, both sides are reset.`,
		Example: `  anysock relay tcp://:8080 unix:/run/app.sock
  anysock relay tcp://127.0.0.1:0 tcp://db:5432 --idle 1h
  anysock relay --json unix:/run/in.sock echo:
  anysock relay tcp://:15001 socks5://proxy:1080,original:`,
		Args:              arguments(2, "FROM, where to listen,", "TO, the target,"),
		ValidArgsFunction: completeAddresses(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.relay(args[0], args[1], o)
		},
	}
	o.server.options(cmd)
	o.connect.dialOptions(cmd)
	f := cmd.Flags()
	_ = f.Lookup("retry").Value.Set(fmt.Sprint(relay.DefaultAttempts)) // a number
	f.Lookup("retry").DefValue = fmt.Sprint(relay.DefaultAttempts)
	f.DurationVar(&o.timeout, "timeout", anysock.DefaultAttemptTimeout, "bound of one attempt to reach the target")
	a.outputOptions(cmd)
	return cmd
}

func (o *relayOptions) check() error {
	o.connect.session.halfOpen = halfOpenAuto // relay has no such option
	if o.timeout <= 0 {
		return &usageError{msg: "--timeout must be more than 0"}
	}
	return errors.Join(o.server.check(), o.connect.check())
}

func (a *app) relay(fromText, toText string, o relayOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	from, err := parseAddress(fromText)
	if err != nil {
		return err
	}
	to, err := parseAddress(toText)
	if err != nil {
		return err
	}
	if err := o.connect.checkSource(to); err != nil {
		return err
	}
	if usesStdout(from, to) {
		a.records = a.stderr
	}
	sig := a.watch()
	lc := anysock.ListenConfig{Group: &a.group, Trace: a.trace()}
	ln, err := lc.ListenAddress(sig.drain, from)
	if err != nil {
		return err
	}
	defer ln.Close()
	broken := a.drainOnBrokenRecords(sig)
	a.tellBound(from, ln)

	var last lastRelayed
	r := relay.Relay{
		Target: to, Dialer: o.connect.dialer(a),
		Options:  relay.Options{Idle: o.server.idle},
		MaxConns: o.server.maxConns, Drain: o.server.drain, Loops: spareProcessor(),
	}
	// A record costs a short connection a fiftieth of its time: there is none
	// where nobody reads it. A listener without a socket may have one connection
	// only, of which the exit status tells.
	level := a.endLevel()
	told := a.json || a.log.Enabled(a.ctx, level)
	if _, err := ln.SyscallConn(); told || err != nil {
		r.OnEnd = func(rec relay.Record) {
			last.set(rec)
			if told {
				a.record(level, "end", rec.String(), rec.How, rec)
			}
		}
	}
	r.Dialer.AttemptTimeout = o.timeout
	if r.MaxConns == 0 {
		r.MaxConns = -1
	}
	if r.Drain == 0 {
		r.Drain = -1
	}
	stop := a.watchExhausted(ln)
	err = r.Serve(sig.drain, ln)
	stop()
	switch {
	case sig.drain.Err() != nil:
		err = nil
		if n := r.Stats().Active; n > 0 {
			a.tellDrain(sig, n, o.server.drain)
		}
	case errors.Is(err, net.ErrClosed):
		// The listener had one connection (stdio:, BIND), and is through; the
		// connection takes its time.
		if r.Wait(sig.drain) == nil {
			_, err = r.Shutdown(sig.abort)
			return errors.Join(err, last.failure(), broken())
		}
		err = nil
		a.tellDrain(sig, r.Stats().Active, o.server.drain)
	case err != nil:
		// Accepting failed for good.
		a.tellDrain(sig, r.Stats().Active, o.server.drain)
	}
	done, serr := r.Shutdown(sig.abort)
	if done.Cut > 0 {
		return errors.Join(err, cutError(done.Cut, o.server.drain, sig))
	}
	return errors.Join(err, serr, broken())
}

// A lastRelayed remembers the connection that ended last.
type lastRelayed struct {
	mu  sync.Mutex
	rec relay.Record
}

func (l *lastRelayed) set(rec relay.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rec = rec
}

// failure is why that connection was not as it should be.
func (l *lastRelayed) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.rec.How.Complete():
		return nil
	case l.rec.How == anysock.Refused:
		return l.rec.Err // says more than that the target refused
	}
	return &failure{err: fmt.Errorf("%s on %s: %w", l.rec.How, l.rec.By, l.rec.Err), status: exitOfHow(l.rec.How)}
}
