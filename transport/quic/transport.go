// This file registers the transport: its options, its capabilities, and what
// the options make of the library's configuration.

package quic

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/tlsconfig"
)

const scheme = "quic"

// The protocols (ALPN, RFC 7301) of our mapping.
const (
	Protocol          = "anysock/1"    // a Conn per stream
	ProtocolLifecycle = "anysock-lc/1" // the same with lc inside
)

// lcScheme is the layer that has to be agreed upon.
const lcScheme = "lc"

var options = []anysock.OptionSpec{
	{Name: tlsconfig.OptionCA, Type: anysock.OptionString, Dial: true, Help: "file of certificates to trust (default: the system's)"},
	{Name: tlsconfig.OptionSNI, Type: anysock.OptionString, Dial: true, Help: "name to verify the server by (default: the host)"},
	{Name: tlsconfig.OptionInsecure, Type: anysock.OptionString, Dial: true, Help: "skip-verify: take any certificate; logged"},
	{Name: tlsconfig.OptionCert, Type: anysock.OptionString, Dial: true, Listen: true, Help: "file of our certificate and its chain"},
	{Name: tlsconfig.OptionKey, Type: anysock.OptionString, Dial: true, Listen: true, Help: "its private key: a file, or env:NAME"},
	{Name: tlsconfig.OptionClientCA, Type: anysock.OptionString, Listen: true, Help: "file of certificates that clients must be signed by"},
	{Name: tlsconfig.OptionClientName, Type: anysock.OptionString, Listen: true, Help: "name that a client's certificate must have; may repeat; * is any"},
	{Name: "alpn", Type: anysock.OptionString, Dial: true, Listen: true, Help: "protocol of a foreign peer, raw streams; may repeat (default " + Protocol + ")"},
	{Name: "bind", Type: anysock.OptionString, Dial: true, Help: "local address to connect from, host:port"},
	{Name: "interface", Type: anysock.OptionString, Dial: true, Listen: true, Help: "network interface by name"},
	{Name: "timeout", Type: anysock.OptionDuration, Dial: true, Help: "one attempt to connect (default 10s)"},
	{Name: "retry", Type: anysock.OptionInt, Dial: true, Help: "tries in all (default 1)"},
	{Name: "retryinterval", Type: anysock.OptionDuration, Dial: true, Help: "from one try's start to the next (default 1s)"},
	{Name: "backlog", Type: anysock.OptionInt, Listen: true, Help: "streams that wait to be accepted (default 4096)"},
	{Name: "maxconns", Type: anysock.OptionInt, Listen: true, Help: "open connections at once (default no limit)"},
	{Name: "streams", Type: anysock.OptionInt, Listen: true, Help: "open streams of one QUIC connection (default 100)"},
	{Name: "v6only", Type: anysock.OptionBool, Listen: true, Help: "no IPv4 on the IPv6 wildcard (default 0)"},
	{Name: "keepidle", Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "probe after this silence (default 30s, at most a third of lost)"},
	{Name: "keepalive", Type: anysock.OptionBool, Dial: true, Listen: true, Help: "probe an idle connection (default 1); without it silence ends it"},
	{Name: "lost", Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "nothing heard for this long: lost (default 60s; the lesser of both sides)"},
	{Name: "rcvbuf", Type: anysock.OptionInt, Dial: true, Listen: true, Help: "bytes a stream takes before they are read (default 6291456)"},
}

func init() {
	anysock.Register(anysock.Transport{
		Scheme:  scheme,
		Options: options,
		Caps: func(_ anysock.Caps, t anysock.Target) anysock.Caps {
			// With several protocols to choose from each stream says for itself.
			return capsOf(!slices.ContainsFunc(protocols(t), func(p string) bool { return !isOurs(p) }))
		},
		Dial:   dial,
		Listen: listen,
	})
}

// capsOf is what a stream can do with our mapping, or without it.
func capsOf(mapped bool) anysock.Caps {
	c := anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline | anysock.CapBindSource
	if mapped {
		c |= anysock.CapCloseAck
	}
	return c
}

func isOurs(protocol string) bool { return protocol == Protocol || protocol == ProtocolLifecycle }

// protocols is what to offer, or to choose from.
func protocols(t anysock.Target) []string {
	if t.Above() == lcScheme {
		return []string{ProtocolLifecycle}
	}
	if p := t.Strings("alpn"); len(p) > 0 {
		return p
	}
	return []string{Protocol}
}

// checkProtocols finds what makes no sense.
func checkProtocols(t anysock.Target) error {
	named := t.Strings("alpn")
	if t.Above() == lcScheme && len(named) > 0 {
		return &anysock.Error{
			Op: "parse", Addr: scheme, Kind: anysock.KindAddress,
			Err:  errors.New("option alpn: lc is agreed upon by the protocol " + ProtocolLifecycle + ", so there is none to choose"),
			Hint: "leave out lc or alpn",
		}
	}
	for _, p := range named {
		if len(p) > 255 {
			return &anysock.Error{Op: "parse", Addr: scheme, Kind: anysock.KindAddress, Err: errors.New("option alpn: a protocol has at most 255 bytes (RFC 7301)")}
		}
		if p == ProtocolLifecycle {
			return &anysock.Error{
				Op: "parse", Addr: scheme, Kind: anysock.KindAddress,
				Err: fmt.Errorf("option alpn: %s needs the layer %s", p, lcScheme), Hint: "write lc+quic: and leave alpn out",
			}
		}
	}
	return nil
}

// secured finishes the TLS configuration: QUIC is TLS 1.3 (RFC 9001), and
// without tickets there is nothing to resume and no 0-RTT.
func secured(c *tls.Config, t anysock.Target) *tls.Config {
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = protocols(t)
	c.SessionTicketsDisabled = true
	return c
}

// uniStreams is one where only our mapping can be agreed upon: the peer's
// control stream.
func uniStreams(t anysock.Target) int64 {
	if slices.ContainsFunc(protocols(t), func(p string) bool { return !isOurs(p) }) {
		return foreignUniStreams
	}
	return 1
}

// configFor makes the library's configuration. handshakeIdle is how long the
// other side may be silent during the handshake; the library gives twice that
// in all.
func configFor(t anysock.Target, o anysock.Options, handshakeIdle time.Duration) *quicgo.Config {
	window := uint64(DefaultStreamWindow)
	if n := t.Int("rcvbuf", o.ReceiveBuffer); n > 0 {
		window = uint64(n)
	}
	idle := t.Duration("lost", o.LostAfter)
	switch {
	case idle == 0:
		idle = anysock.DefaultLostAfter
	case idle < 0:
		idle = noIdleTimeout
	}
	keep := t.Duration("keepidle", o.KeepAlive.Idle)
	if keep <= 0 {
		keep = anysock.DefaultKeepIdle
	}
	if !t.Bool("keepalive", !o.KeepAlive.Disable) {
		keep = 0
	}
	return &quicgo.Config{
		HandshakeIdleTimeout:           handshakeIdle,
		MaxIdleTimeout:                 idle,
		KeepAlivePeriod:                min(keep, max(idle/keepAlivePart, time.Millisecond)),
		InitialStreamReceiveWindow:     min(window, initialWindow),
		MaxStreamReceiveWindow:         window,
		InitialConnectionReceiveWindow: initialWindow,
		MaxConnectionReceiveWindow:     connectionWindow,
		MaxIncomingStreams:             -1,
		MaxIncomingUniStreams:          uniStreams(t),
		Allow0RTT:                      false,
	}
}
