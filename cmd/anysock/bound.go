package main

import (
	"context"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// This file tells where a listener is bound, and ends connections that are
// idle: what every verb that listens has in common.

// boundAddress is the address that clients of l use, with the port that the
// kernel chose. It can be parsed again. Of an address with hops it is what the
// last one has bound; a descriptor that was inherited is told as what it is.
func boundAddress(asked anysock.Address, l *anysock.Listener) string {
	hops := asked.Hops()
	last := hops[len(hops)-1]
	words, _, _ := strings.Cut(last.String(), ":")
	if upper, ok := strings.CutSuffix(words, "fd"); ok {
		words = upper + l.Addr().Network()
	}
	text, _, _ := strings.Cut(last.String(), "?")
	switch addr := l.Addr().(type) {
	case *net.TCPAddr, *net.UDPAddr:
		// A zone's % begins an escape in an address.
		text = words + "://" + strings.Replace(addr.String(), "%", "%25", 1) + last.Path
	case *net.UnixAddr:
		text = words + ":" + strings.ReplaceAll(url.PathEscape(addr.Name), "%2F", "/")
	default:
		if addr.Network() == "vsock" {
			text = words + "://" + addr.String()
		}
	}
	if bound, err := anysock.ParseAddress(text); err == nil {
		return bound.String() // as it is written elsewhere
	}
	return text
}

// usesStdout reports whether an address takes standard output for data, so
// that records must go elsewhere.
func usesStdout(addrs ...anysock.Address) bool {
	for _, addr := range addrs {
		for _, hop := range addr.Hops() {
			if hop.Layers[len(hop.Layers)-1].Scheme == "stdio" {
				return true
			}
		}
	}
	return false
}

// tellBound says where l is bound.
func (a *app) tellBound(asked anysock.Address, l *anysock.Listener) {
	bound := boundAddress(asked, l)
	a.record(levelNotice, "listening", "listening on "+bound, anysock.NotEnded, struct {
		Address string `json:"address"`
		Network string `json:"network"`
	}{bound, l.Network()})
}

// An idleError is why a connection ended as Idle.
type idleError struct{ after time.Duration }

func (e *idleError) Error() string { return "no data either way for " + e.after.String() }

// idleChecks is how often per idle timeout a connection is looked at, which
// bounds how late its end comes.
const idleChecks = 8

// watchIdle aborts c when no data has moved for limit, noticed at most an
// eighth late and never early, until stop is called. A limit of 0 is never.
func (a *app) watchIdle(c *anysock.Conn, limit time.Duration) (stop func()) {
	if limit <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.spawn(func() {
		defer close(done)
		watchIdle(ctx, c, limit)
	})
	return func() {
		cancel()
		<-done
	}
}

func watchIdle(ctx context.Context, c *anysock.Conn, limit time.Duration) {
	tick := time.NewTicker(max(limit/idleChecks, time.Millisecond))
	defer tick.Stop()
	moved, since := int64(-1), time.Now()
	for {
		now := time.Now()
		if n := c.Sent() + c.Received(); n != moved {
			moved, since = n, now
		} else if now.Sub(since) >= limit {
			_ = c.AbortAs(anysock.Idle, &idleError{limit}) // where there is no abort it closes, which is all that can be done
			return
		}
		select {
		case <-tick.C:
		case <-c.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}
