package anysock

import (
	"context"
	"net"

	"github.com/anysock/anysock/internal/sys"
)

// The transports tcp, tcp4, tcp6 and unix: kernel sockets.

var bufferOptions = []OptionSpec{
	{Name: "rcvbuf", Type: OptionInt, Dial: true, Listen: true, Help: "kernel's receive buffer in bytes"},
	{Name: "sndbuf", Type: OptionInt, Dial: true, Listen: true, Help: "kernel's send buffer in bytes"},
}

var tcpOptions = append([]OptionSpec{
	{Name: "backlog", Type: OptionInt, Listen: true, Help: "connections that wait to be accepted (default 4096)"},
	{Name: "reuseaddr", Type: OptionBool, Listen: true, Help: "take a port in TIME_WAIT (default 1)"},
	{Name: "reuseport", Type: OptionBool, Listen: true, Help: "share the port among listeners (default 0)"},
	{Name: "v6only", Type: OptionBool, Listen: true, Help: "no IPv4 on the IPv6 wildcard (default 0)"},
	{Name: "maxconns", Type: OptionInt, Listen: true, Help: "open connections at once (default no limit)"},
	{Name: "interface", Type: OptionString, Dial: true, Listen: true, Help: "network interface by name"},
	{Name: "bind", Type: OptionString, Dial: true, Help: "local address to connect from, host:port"},
	{Name: "timeout", Type: OptionDuration, Dial: true, Help: "one attempt to connect (default 10s)"},
	{Name: "retry", Type: OptionInt, Dial: true, Help: "tries in all (default 1)"},
	{Name: "retryinterval", Type: OptionDuration, Dial: true, Help: "from one try's start to the next (default 1s)"},
	{Name: "keepidle", Type: OptionDuration, Dial: true, Listen: true, Help: "keep-alive after this silence (default 30s)"},
	{Name: "keepinterval", Type: OptionDuration, Dial: true, Listen: true, Help: "between keep-alive probes (default 10s)"},
	{Name: "keepcount", Type: OptionInt, Dial: true, Listen: true, Help: "unanswered probes until lost (default 3)"},
	{Name: "keepalive", Type: OptionBool, Dial: true, Listen: true, Help: "probe an idle connection (default 1)"},
	{Name: "lost", Type: OptionDuration, Dial: true, Listen: true, Help: "nothing heard for this long while something is owed: lost (default 60s)"},
	{Name: "nodelay", Type: OptionBool, Dial: true, Listen: true, Help: "Nagle's algorithm off (default 1)"},
}, bufferOptions...)

var unixOptions = append([]OptionSpec{
	{Name: "backlog", Type: OptionInt, Listen: true, Help: "connections that wait to be accepted (default 4096)"},
	{Name: "mode", Type: OptionMode, Listen: true, Help: "permissions of the socket file (default 0600)"},
	{Name: "maxconns", Type: OptionInt, Listen: true, Help: "open connections at once (default no limit)"},
	{Name: "timeout", Type: OptionDuration, Dial: true, Help: "one attempt to connect (default 10s)"},
	{Name: "retry", Type: OptionInt, Dial: true, Help: "tries in all (default 1)"},
	{Name: "retryinterval", Type: OptionDuration, Dial: true, Help: "from one try's start to the next (default 1s)"},
}, bufferOptions...)

func init() {
	for _, network := range []string{"tcp", "tcp4", "tcp6"} {
		Register(Transport{
			Scheme:  network,
			Options: tcpOptions,
			Caps:    func(Caps, Target) Caps { return kernelCaps(sys.Inet6) },
			Dial: func(ctx context.Context, d *Dialer, t Target) (net.Conn, error) {
				c, err := d.with(t).dialTCP(ctx, network, t.Hop.Host, t.Hop.Port)
				if err != nil {
					return nil, err
				}
				return c, nil
			},
			Listen: func(_ context.Context, lc *ListenConfig, t Target) (DeadlineListener, error) {
				l, err := lc.with(t).kernelListen(network, net.JoinHostPort(t.Hop.Host, t.Hop.Port), t)
				if err != nil {
					return nil, err
				}
				return l, nil
			},
		})
	}
	Register(Transport{
		Scheme:  "unix",
		Options: unixOptions,
		Caps:    func(Caps, Target) Caps { return kernelCaps(sys.Unix) },
		Dial: func(ctx context.Context, d *Dialer, t Target) (net.Conn, error) {
			c, err := d.with(t).dialUnix(ctx, t.Hop.Opaque)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Listen: func(_ context.Context, lc *ListenConfig, t Target) (DeadlineListener, error) {
			l, err := lc.with(t).kernelListen("unix", t.Hop.Opaque, t)
			if err != nil {
				return nil, err
			}
			return l, nil
		},
	})
}

// with is the Dialer that the address's options make.
func (d *Dialer) with(t Target) *Dialer {
	n := *d
	n.Local = t.String("bind", d.Local)
	n.Interface = t.String("interface", d.Interface)
	n.AttemptTimeout = t.Duration("timeout", d.AttemptTimeout)
	n.Retry.Attempts = t.Int("retry", d.Retry.Attempts)
	n.Retry.Interval = t.Duration("retryinterval", d.Retry.Interval)
	n.Options = d.Options.with(t)
	return &n
}

// with is the ListenConfig that the address's options make; those of the
// listening socket are read where they are set.
func (lc *ListenConfig) with(t Target) *ListenConfig {
	n := *lc
	n.Options = lc.Options.with(t)
	return &n
}

func (o Options) with(t Target) Options {
	o.LostAfter = t.Duration("lost", o.LostAfter)
	o.CloseTimeout = t.Duration("closetimeout", o.CloseTimeout)
	o.DrainTimeout = t.Duration("draintimeout", o.DrainTimeout)
	o.DrainBytes = int64(t.Int("drainbytes", int(o.DrainBytes)))
	o.ReceiveBuffer = t.Int("rcvbuf", o.ReceiveBuffer)
	o.SendBuffer = t.Int("sndbuf", o.SendBuffer)
	o.KeepAlive.Idle = t.Duration("keepidle", o.KeepAlive.Idle)
	o.KeepAlive.Interval = t.Duration("keepinterval", o.KeepAlive.Interval)
	o.KeepAlive.Count = t.Int("keepcount", o.KeepAlive.Count)
	o.KeepAlive.Disable = !t.Bool("keepalive", !o.KeepAlive.Disable)
	o.Delay = !t.Bool("nodelay", !o.Delay)
	return o
}
