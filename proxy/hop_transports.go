// This file registers the hops of an address.

package proxy

import (
	"context"
	"net"

	"github.com/anysock/anysock"
)

// The schemes.
const (
	schemeSocks5  = "socks5"
	schemeSocks4  = "socks4"
	schemeSocks4a = "socks4a"
	schemeHTTP    = "http"
)

// The options of the hops, and their words.
const (
	optionPass    = "pass"
	optionHeader  = "header"
	optionResolve = "resolve"
	optionPeer    = "peer"

	resolveRemote = "remote"
	resolveLocal  = "local"
)

func init() {
	pass := anysock.OptionSpec{Name: optionPass, Type: anysock.OptionString, Dial: true, Help: "the password of USER@: env:NAME or file:PATH"}
	resolve := anysock.OptionSpec{Name: optionResolve, Type: anysock.OptionString, Dial: true, Check: checkResolve, Help: "who finds the address of a host name: remote (the proxy, default) or local"}
	header := anysock.OptionSpec{Name: optionHeader, Type: anysock.OptionString, Dial: true, Repeat: true, Check: checkHeader, Help: "a header field of the request, as in 'X-Team: blue'; may be repeated"}
	peer := []anysock.OptionSpec{{Name: optionPeer, Type: anysock.OptionString, Listen: true, Check: checkPeer, Help: "who may call in: host or host:port (default anybody)"}}

	anysock.Register(anysock.Transport{
		Scheme: schemeSocks5, Options: []anysock.OptionSpec{pass, resolve}, Caps: capsThrough,
		Prepare: prepare(schemeSocks5), Through: through, ListenThrough: listenThrough, BehindOptions: peer,
	})
	anysock.Register(anysock.Transport{
		Scheme: schemeSocks4, Caps: capsThrough,
		Prepare: prepare(schemeSocks4), Through: through, ListenThrough: listenThrough, BehindOptions: peer,
	})
	anysock.Register(anysock.Transport{
		Scheme: schemeSocks4a, Options: []anysock.OptionSpec{resolve}, Caps: capsThrough,
		Prepare: prepare(schemeSocks4a), Through: through, ListenThrough: listenThrough, BehindOptions: peer,
	})
	anysock.Register(anysock.Transport{
		Scheme: schemeHTTP, Options: []anysock.OptionSpec{pass, resolve, header}, Caps: capsThrough,
		Prepare: prepare(schemeHTTP), Through: through,
	})
}

// capsThrough is what a stream through a proxy can do: as the connection to the
// proxy, except that this one's peer is known and the stream's is not.
func capsThrough(below anysock.Caps, _ anysock.Target) anysock.Caps {
	return below &^ anysock.CapPeerID
}

// protocolNames is what the schemes are called in messages.
var protocolNames = map[string]string{
	schemeSocks5: "SOCKS5", schemeSocks4: "SOCKS4", schemeSocks4a: "SOCKS4a", schemeHTTP: "HTTP CONNECT",
}

// through asks a proxy to connect. The stream is the connection to the proxy
// itself: a kernel socket stays one.
func through(ctx context.Context, below *anysock.Conn, t anysock.Target, next anysock.Hop) (net.Conn, error) {
	x := newExchange(ctx, anysock.OpConnect, t)
	var err error
	if x.to, err = x.destination(ctx, next); err != nil {
		return nil, err
	}
	x.c = below
	if err := x.connect(); err != nil {
		return nil, err
	}
	return below, nil
}
