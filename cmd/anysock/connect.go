package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
)

// A connectOptions is what the options of connect say.
type connectOptions struct {
	session  sessionOptions
	local    string
	iface    string
	retry    int
	interval time.Duration
	timeout  time.Duration
}

func newConnectCommand(a *app) *cobra.Command {
	var o connectOptions
	cmd := &cobra.Command{
		Use:     "connect [OPTIONS] ADDR",
		Short:   "Join a connection with standard input and output",
		GroupID: groupConnect,
		Long: `connect connects to ADDR, sends standard input and writes what comes to standard output.

` + sessionHelp + `

The exit status says how it ended: 'anysock help exit'.`,
		Example: `  echo hello | anysock connect localhost:3005
  anysock connect --retry -1 --timeout 1m db:5432 < query > reply
  anysock connect --local [::1]:0 --trace 'tcp://[::1]:3005'`,
		Args:              arguments(1, "the address"),
		ValidArgsFunction: completeAddresses(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.connect(args[0], o)
		},
	}
	o.dialOptions(cmd)
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "give up connecting after this long, retries included; 0 is no bound but 10s for each attempt")
	o.session.options(cmd)
	a.outputOptions(cmd)
	return cmd
}

// dialOptions are the options about connecting.
func (o *connectOptions) dialOptions(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.local, "local", "", "local address to connect from, host:port; port 0 chooses only the network")
	f.StringVar(&o.iface, "interface", "", "network interface to connect from")
	f.IntVar(&o.retry, "retry", 1, "how often to try in all; -1 is until it succeeds")
	f.DurationVar(&o.interval, "retry-interval", anysock.DefaultRetryInterval, "time from the start of one try to the start of the next")
}

func (o *connectOptions) check() error {
	if o.retry < -1 || o.retry == 0 {
		return &usageError{msg: fmt.Sprintf("--retry %d: it counts tries in all", o.retry), hint: "1 tries once, -1 until it succeeds"}
	}
	if o.interval <= 0 {
		return &usageError{msg: "--retry-interval must be more than 0"}
	}
	return errors.Join(positive("timeout", o.timeout), o.session.check())
}

// checkSource refuses a local address for what has none to choose.
func (o *connectOptions) checkSource(addr anysock.Address) error {
	option := "local"
	switch {
	case o.local == "" && o.iface == "":
		return nil
	case o.local == "":
		option = "interface"
	}
	layers := addr.Hops()[0].Layers
	if base := layers[len(layers)-1].Scheme; !strings.HasPrefix(base, "tcp") && base != "original" {
		return &usageError{msg: fmt.Sprintf("--%s means nothing for a %s address", option, base), hint: "leave it out"}
	}
	return nil
}

// dialer is the Dialer that the options make.
func (o *connectOptions) dialer(a *app) anysock.Dialer {
	return anysock.Dialer{
		Local: o.local, Interface: o.iface,
		Retry: anysock.Retry{Attempts: o.retry, Interval: o.interval},
		Group: &a.group, Trace: a.trace(),
	}
}

func (a *app) connect(address string, o connectOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	addr, err := parseAddress(address)
	if err != nil {
		return err
	}
	if err := ownStreams("connect", addr); err != nil {
		return err
	}
	if err := o.checkSource(addr); err != nil {
		return err
	}
	a.records = a.stderr // standard output is for data
	sig := a.watch()
	c, err := a.dial(sig.drain, addr, o)
	if err != nil {
		return err
	}
	text := "connected to " + peerOf(c)
	if local := c.LocalAddr().String(); isTCP(c.LocalAddr()) {
		text += " from " + local
	}
	a.record(slog.LevelInfo, "connected", text, anysock.NotEnded, connectedRecord(c))
	in := newInput(a.stdin)
	defer in.close()
	s := &joined{a: a, o: o.session, c: c, in: in, dialed: true}
	return s.run(sig)
}

// dial connects within the timeout, and finds words for what ctx says.
func (a *app) dial(ctx context.Context, addr anysock.Address, o connectOptions) (*anysock.Conn, error) {
	dctx := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		dctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	d := o.dialer(a)
	c, err := d.DialAddress(dctx, addr)
	var e *anysock.Error
	if err == nil || !errors.As(err, &e) {
		return c, err
	}
	if dctx.Err() == nil {
		if (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) && len(e.Attempts) == 1 {
			// It came before connect(2) had told of its success; EPIPE when an
			// end came before it.
			err = &failure{err: &anysock.Error{Op: e.Op, Addr: e.Addr, Kind: e.Kind, Err: errResetAtOnce, Attempts: e.Attempts}, status: exitRefused, hint: hintResetAtOnce}
		}
		return nil, err
	}
	told := *e
	if ctx.Err() != nil {
		told.Kind, told.Err, told.Hint = anysock.KindCanceled, context.Cause(ctx), ""
	} else {
		told.Kind, told.Err, told.Hint = anysock.KindTimeout, fmt.Errorf("no connection within %s", o.timeout), "more time with --timeout"
	}
	return nil, &told
}

// A connRecord is a connection for programs.
type connRecord struct {
	Network string `json:"network"`
	Local   string `json:"local"`
	Peer    string `json:"peer"`
}

func connectedRecord(c *anysock.Conn) connRecord {
	return connRecord{Network: c.LocalAddr().Network(), Local: c.LocalAddr().String(), Peer: c.RemoteAddr().String()}
}
