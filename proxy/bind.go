// This file holds listening through a proxy: BIND of SOCKS5 (RFC 1928 section
// 4) and of SOCKS4.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// errBindOnce is what Accept says after its one connection.
var errBindOnce = fmt.Errorf("a BIND accepts one connection, and that was accepted: %w", net.ErrClosed)

// A bindListener waits for the one connection that a proxy accepts for us. The
// connection to the proxy, on which the proxy tells who calls, then carries
// the stream.
type bindListener struct {
	x    *exchange // to is who may call; the zero endpoint is anybody
	addr net.Addr  // where the proxy listens

	mu     sync.Mutex
	closed bool
	err    error         // what ended it
	heard  []byte        // of the second answer, which a deadline cut
	taken  bool          // the connection was accepted
	turn   chan struct{} // one Accept at a time
}

// listenThrough asks a proxy to listen.
func listenThrough(ctx context.Context, dial func(context.Context) (*anysock.Conn, error), t, next anysock.Target) (anysock.DeadlineListener, error) {
	x := newExchange(ctx, anysock.OpListen, t)
	var err error
	if x.to, err = x.caller(ctx, next); err != nil {
		return nil, err
	}
	if x.c, err = dial(ctx); err != nil {
		return nil, err
	}
	bound, err := x.bind()
	if err != nil {
		_ = x.c.Abort()
		return nil, err
	}
	x.op = anysock.OpAccept
	x.pass, x.fields = "", nil // not needed for as long as somebody waits
	return &bindListener{x: x, addr: x.boundAddr(t.Hop, bound), turn: make(chan struct{}, 1)}, nil
}

// caller is who may call, as the option peer says.
func (x *exchange) caller(ctx context.Context, next anysock.Target) (endpoint, error) {
	base := next.Hop.Layers[len(next.Hop.Layers)-1].Scheme
	family, err := x.family(base)
	if err != nil {
		return endpoint{}, err
	}
	if next.Hop.Host != "" || next.Hop.Port != "0" {
		return endpoint{}, x.badAddress("the proxy chooses where it listens, and not "+net.JoinHostPort(next.Hop.Host, next.Hop.Port), "write "+base+"://:0 behind it, and who may call as peer=HOST")
	}
	peer := next.String(optionPeer, "")
	if peer == "" {
		return endpoint{}, nil
	}
	e, err := parsePeer(peer)
	if err != nil {
		return endpoint{}, x.badAddress("the peer "+err.Error(), "") // the option's Check has seen to it
	}
	return x.host(ctx, e.host(), e.port, family)
}

// bind performs the request and returns where the proxy listens.
func (x *exchange) bind() (endpoint, error) {
	var cancel context.CancelFunc
	x.ctx, cancel = context.WithTimeout(x.ctx, anysock.DefaultHandshake)
	defer cancel()
	if x.scheme != schemeSocks5 {
		return x.request4(commandBind)
	}
	if err := x.authenticate5(); err != nil {
		return endpoint{}, err
	}
	return x.request5(commandBind)
}

// boundAddr is where the proxy listens: at its own address if it does not say
// (SOCKS4's specification, on BIND).
func (x *exchange) boundAddr(proxy anysock.Hop, bound endpoint) net.Addr {
	if !bound.isUnspecified() {
		return netAddr(bound)
	}
	if e, err := hostEndpoint(proxy.Host, bound.port); err == nil && !e.isUnspecified() {
		return netAddr(e)
	}
	if a, ok := x.c.RemoteAddr().(*net.TCPAddr); ok && proxy.Port != "" {
		e := ipEndpoint(a.AddrPort())
		e.port = bound.port
		return netAddr(e)
	}
	return netAddr(bound)
}

// Accept waits for the one connection, whose RemoteAddr is the caller's
// address as the proxy tells it. After that it says errBindOnce, after Close
// net.ErrClosed, after the deadline os.ErrDeadlineExceeded, and then the proxy
// still listens. A proxy that gives up or sends somebody who was not asked for
// is an *anysock.Error, for good.
func (l *bindListener) Accept() (net.Conn, error) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if err := l.over(); err != nil {
		return nil, err
	}
	src := &replaySource{source: connSource{context.Background(), l.x.c}, heard: l.heard}
	var caller endpoint
	var err error
	if l.x.scheme == schemeSocks5 {
		caller, err = l.x.answer5(src)
	} else {
		caller, err = l.x.answer4(src)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, net.ErrClosed
	case err != nil && errors.Is(src.err, os.ErrDeadlineExceeded):
		l.heard = src.heard
		return nil, os.ErrDeadlineExceeded
	case err == nil:
		err = l.checkCaller(caller)
	}
	if err != nil {
		l.err = err
		_ = l.x.c.Abort()
		return nil, err
	}
	l.taken = true
	if err := l.x.c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &calledConn{Conn: l.x.c, local: l.addr, remote: netAddr(caller)}, nil
}

// over is why nothing can be accepted any more.
func (l *bindListener) over() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return net.ErrClosed
	case l.err != nil:
		return l.err
	case l.taken:
		return errBindOnce
	}
	return nil
}

// checkCaller turns away a caller who was not asked for: the proxy may not look
// at that itself. A name is for the proxy alone to judge.
func (l *bindListener) checkCaller(caller endpoint) error {
	if !l.x.to.ip.IsValid() || l.x.to.ip.IsUnspecified() || caller.isUnspecified() || caller.ip.Unmap() == l.x.to.ip {
		return nil
	}
	return &anysock.Error{
		Op: anysock.OpAccept, Addr: l.addr.String() + " through " + l.x.addr, Kind: anysock.KindHop,
		Err: fmt.Errorf("the proxy accepted %s, who is not peer=%s", caller, l.x.to.host()),
	}
}

// Addr is where the proxy listens: where the peer is to connect to.
func (l *bindListener) Addr() net.Addr { return l.addr }

// SetDeadline bounds Accept.
func (l *bindListener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.taken || l.err != nil {
		return nil // there is nothing to wait for, and a connection has its own
	}
	return l.x.c.SetReadDeadline(t)
}

// Close has the proxy stop listening, by closing the connection to it; one that
// was accepted is left alone. Nothing of ours is on its way that could be lost.
func (l *bindListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.taken || l.err != nil {
		return nil
	}
	return l.x.c.Abort()
}

// A replaySource gives again what was heard before it goes on, and remembers
// what it gave.
type replaySource struct {
	source
	heard []byte
	pos   int
	err   error
}

func (s *replaySource) Read(p []byte) (int, error) {
	if s.pos < len(s.heard) {
		n := copy(p, s.heard[s.pos:])
		s.pos += n
		return n, nil
	}
	n, err := s.source.Read(p)
	s.heard = append(s.heard, p[:n]...)
	s.pos += n
	if err != nil {
		s.err = err
	}
	return n, err
}
