package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
)

// A listenOptions is what the options of listen say.
type listenOptions struct {
	session sessionOptions
	keep    bool
	timeout time.Duration
}

func newListenCommand(a *app) *cobra.Command {
	var o listenOptions
	cmd := &cobra.Command{
		Use:     "listen [OPTIONS] ADDR",
		Short:   "Accept a connection and join it with standard input and output",
		GroupID: groupConnect,
		Long: `listen listens on ADDR, prints the bound address to standard error, accepts one
connection, closes the listener, sends standard input and writes what comes to standard
output.

` + sessionHelp + `

With --keep it accepts one connection after the other until a signal comes. Input goes
to the connection that is there when it comes; after the end of input every further
connection is told so at once. The exit status then is that of the drain, and each
connection's failure is printed when it happens. Without --keep the status says how the
connection ended: 'anysock help exit'.`,
		Example: `  anysock listen tcp://:3005 < /dev/null > received
  anysock listen --keep 'unix:/run/in.sock?mode=0660' < /dev/null >> log
  tar c . | anysock listen --timeout 1m tcp://[::1]:0`,
		Args:              arguments(1, "the address"),
		ValidArgsFunction: completeAddresses(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.listen(args[0], o)
		},
	}
	cmd.Flags().BoolVar(&o.keep, "keep", false, "accept one connection after the other, until a signal")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "give up if nobody connects for this long; 0 is never")
	o.session.options(cmd)
	a.outputOptions(cmd)
	return cmd
}

func (o *listenOptions) check() error {
	return errors.Join(positive("timeout", o.timeout), o.session.check())
}

func (a *app) listen(address string, o listenOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	addr, err := parseAddress(address)
	if err != nil {
		return err
	}
	if err := ownStreams("listen", addr); err != nil {
		return err
	}
	a.records = a.stderr // standard output is for data
	sig := a.watch()
	lc := anysock.ListenConfig{Group: &a.group, Trace: a.trace()}
	ln, err := lc.ListenAddress(sig.drain, addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	a.tellBound(addr, ln)
	in := newInput(a.stdin)
	defer in.close()
	for {
		c, err := a.acceptOne(sig.drain, ln, o.timeout)
		if err != nil {
			if o.keep && sig.drain.Err() != nil {
				return a.keepDraining(sig, ln, o, in)
			}
			return err
		}
		if !o.keep {
			// Nobody is going to serve those who wait: they see a reset.
			ln.Close()
		}
		if err := a.join(sig, c, o, in); err != nil || !o.keep {
			if !o.keep || a.stdout.broken() != nil || sig.abort.Err() != nil {
				return err
			}
			a.report(err)
		}
	}
}

// join is one accepted connection, to its ending.
func (a *app) join(sig *interrupts, c *anysock.Conn, o listenOptions, in *input) error {
	a.record(slog.LevelInfo, "accepted", "accepted "+peerOf(c), anysock.NotEnded, connectedRecord(c))
	s := &joined{a: a, o: o.session, c: c, in: in}
	return s.run(sig)
}

// keepDraining serves those who were waiting when the signal came.
func (a *app) keepDraining(sig *interrupts, ln *anysock.Listener, o listenOptions, in *input) error {
	conns, err := ln.Drain()
	for i, c := range conns {
		if serr := a.join(sig, c, o, in); serr != nil {
			if a.stdout.broken() != nil || sig.abort.Err() != nil {
				for _, rest := range conns[i+1:] {
					_ = rest.Abort() // they must not take it for an end
				}
				return serr
			}
			a.report(serr)
		}
	}
	return err
}

// acceptOne waits for a connection within the timeout, and finds words for
// what ctx says.
func (a *app) acceptOne(ctx context.Context, ln *anysock.Listener, timeout time.Duration) (*anysock.Conn, error) {
	actx := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		actx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	c, err := ln.AcceptContext(actx)
	var e *anysock.Error
	if err == nil || !errors.As(err, &e) || actx.Err() == nil {
		return c, err
	}
	told := *e
	if ctx.Err() != nil {
		told.Kind, told.Err = anysock.KindCanceled, context.Cause(ctx)
	} else {
		told.Kind, told.Err, told.Hint = anysock.KindTimeout, fmt.Errorf("nobody connected within %s", timeout), "more time with --timeout"
	}
	return nil, &told
}
