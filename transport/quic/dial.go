// This file dials.

package quic

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/tlsconfig"
)

// openingByte is the first byte of every stream of ours, from the client: a
// stream is invisible to the server until something comes on it, and it may be
// the server that speaks first.
const openingByte = 0x61

func dial(ctx context.Context, d *anysock.Dialer, t anysock.Target) (net.Conn, error) {
	if err := checkProtocols(t); err != nil {
		return nil, err
	}
	host := t.Hop.Host
	if host == "" || host == "*" {
		host = "localhost" // this machine, as for every transport
	}
	tc, err := tlsconfig.Client(t, host, scheme+"://"+net.JoinHostPort(t.Hop.Host, t.Hop.Port))
	if err != nil {
		return nil, &anysock.Error{Op: anysock.OpHandshake, Addr: scheme + ":" + net.JoinHostPort(host, t.Hop.Port), Kind: anysock.KindAddress, Err: err}
	}
	tc = secured(tc, t)
	conf := configFor(t, d.Options, anysock.DefaultHandshake)
	lc := t.Above() == lcScheme
	nc, err := d.DialIP(ctx, scheme, t.Hop.Host, t.Hop.Port, func(ctx context.Context, local, to netip.AddrPort) (net.Conn, error) {
		pc, err := dialSocket(ctx, d.Interface, local, to)
		if err != nil {
			return nil, err
		}
		ep, err := newEndpoint(pc)
		if err != nil {
			pc.Close()
			return nil, err
		}
		hctx, cancel := context.WithCancel(ctx)
		defer cancel()
		pc.mu.Lock()
		pc.refused = cancel
		pc.mu.Unlock()
		qc, err := ep.tr.Dial(hctx, net.UDPAddrFromAddrPort(to), tc.Clone(), conf.Clone())
		if err != nil {
			err = dialError(ctx, scheme+":"+to.String(), pc.why(), err, lc)
			ep.close()
			return nil, err
		}
		pc.established.Store(true)
		se := newSession(qc, ep, conf, nil)
		s, err := se.open(ctx)
		if err != nil {
			err = dialError(ctx, scheme+":"+to.String(), nil, err, lc)
			se.close(codeAbort, "")
			return nil, err
		}
		return s, nil
	})
	return nc, telling(err)
}

// telling makes the error of the last attempt, which knows what to try, that of
// the dial.
func telling(err error) error {
	var all, last *anysock.Error
	if !errors.As(err, &all) || !errors.As(all.Err, &last) || all.Kind != last.Kind {
		return err
	}
	told := *all
	told.Op, told.Err = last.Op, last.Err
	if last.Hint != "" {
		told.Hint = last.Hint
	}
	return &told
}

// open opens the one stream of a dialed connection. With our mapping it waits
// until the server has taken it in: TLS 1.3 lets a client finish before the
// server has judged it, and the library refuses a connection that finds the
// queue full as late as that.
func (se *session) open(ctx context.Context) (*stream, error) {
	qs, err := se.qc.OpenStream()
	if err != nil {
		return nil, err
	}
	s := se.add(qs) // before the server knows of it, and says something about it
	if !se.mapped {
		return s, nil
	}
	if _, err := qs.Write([]byte{openingByte}); err != nil {
		return nil, s.cause(err)
	}
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.signal()
	})
	defer stop()
	var opened bool
	_ = s.await(func() bool {
		opened = s.opened
		return opened || s.broken != nil || ctx.Err() != nil
	}, forever, 0)
	if !opened {
		return nil, s.cause(ctx.Err())
	}
	return s, nil
}

// cause is why the carrier is over, or err if it is not.
func (s *stream) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	return err
}
