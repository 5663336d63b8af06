// This file registers the layer and performs its handshakes.

package tls

import (
	"context"
	cryptotls "crypto/tls"
	"net"
	"time"

	"github.com/anysock/anysock"
)

func init() {
	anysock.Register(anysock.Transport{
		Scheme:  "tls",
		Options: options,
		Caps:    func(below anysock.Caps, _ anysock.Target) anysock.Caps { return below | added },
		Prepare: prepare,
		Client: func(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
			return handshake(ctx, below, t, cryptotls.Client)
		},
		Server: func(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
			return handshake(ctx, below, t, cryptotls.Server)
		},
	})
}

// added is what the layer can do itself.
const added = anysock.CapHalfClose | anysock.CapCutDetect | anysock.CapDeadline

// longAgo as a deadline wakes what waits.
var longAgo = time.Unix(1, 0)

// handshake performs either side's handshake. Its deadline is ctx alone: that
// of crypto/tls would close the connection below, which the caller aborts.
func handshake(ctx context.Context, below *anysock.Conn, t anysock.Target, side func(net.Conn, *cryptotls.Config) *cryptotls.Conn) (net.Conn, error) {
	s := &stream{below: below}
	carrier := &s.carrier
	carrier.Over(below)
	carrier.SetThrough(true)
	s.tls = side((*wire)(s), t.Prepared.(*cryptotls.Config))
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = below.SetReadDeadline(longAgo)
		_ = carrier.SetFlushDeadline(longAgo)
	})
	err := s.tls.HandshakeContext(context.Background())
	if !stop() {
		<-woken
		return nil, handshakeError(below, t, ctx.Err())
	}
	if err == nil && t.Above() == lcScheme {
		err = agreedLC(s.tls.ConnectionState().NegotiatedProtocol)
	}
	if err != nil {
		return nil, handshakeError(below, t, err)
	}
	carrier.SetThrough(false)
	return s, nil
}
