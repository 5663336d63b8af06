// This file holds the cases about calls that make no sense: contract 7.

package socktest

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/anysock/anysock"
)

// writeAfterHalfClose: after CloseWrite every write is an error of KindState,
// and reading goes on.
func writeAfterHalfClose(k *kit) {
	k.both(func(x, y conn) {
		k.check("CloseWrite", x.CloseWrite())
		for name, w := range k.writers(x) {
			n, err := w.Write(data(0, 100))
			if n != 0 || !isKind(err, anysock.KindState) {
				k.Errorf("%s after CloseWrite: %d, %v; want 0 and an error of kind state", name, n, err)
			}
		}
		k.check("writing", write(y, 0, 100).err)
		k.check("reading after CloseWrite", readExactly(x, 0, 100))
		k.wantEnd("the peer", readToEnd(y, 0), 0)
	})
}

// callsAfterClose: after Close, Abort or a finished Disconnect every call says
// that the connection is closed; a second Close does nothing, and the
// addresses stay known.
func callsAfterClose(k *kit) {
	ends := map[string]func(x, y conn) error{
		"Close":      func(x, _ conn) error { return x.Close() },
		"Abort":      func(x, _ conn) error { return supported(x.Abort()) },
		"Disconnect": func(x, y conn) error { return disconnectBoth(k, x, y) },
	}
	for name, end := range ends {
		x, y := k.pair()
		local, remote := x.LocalAddr().String(), x.RemoteAddr().String()
		k.check(name, end(x, y))
		// What Close leaves in the background must be at work by now.
		readToEnd(y, 0)
		k.idle(quietTime / 8)
		for call, err := range k.callsOn(x) {
			if !errors.Is(err, net.ErrClosed) {
				k.Errorf("%s after %s: want an error that matches %q, got %v", call, name, net.ErrClosed, err)
			}
		}
		k.check("Close after "+name, x.Close())
		k.check("a second Close after "+name, x.Close())
		_ = y.Close()
		e := k.end(x)
		if got, _ := x.Disconnect(k.ctx); got != e {
			k.Errorf("Disconnect after %s says %q, End says %q", name, got, e)
		}
		if x.LocalAddr().String() != local || x.RemoteAddr().String() != remote {
			k.Errorf("after %s the addresses are %s and %s; they were %s and %s", name, x.LocalAddr(), x.RemoteAddr(), local, remote)
		}
	}
}

// callsOn makes every call once and returns the errors.
func (k *kit) callsOn(x conn) map[string]error {
	errs := make(map[string]error)
	for name, call := range blockingCalls(k) {
		errs[name] = start(k, name, func() error { return call(x) }).wait()
	}
	if k.Caps.Has(anysock.CapHalfClose) {
		errs["CloseWrite"] = x.CloseWrite()
	}
	errs["CloseRead"] = x.CloseRead()
	for name, set := range map[string]func(time.Time) error{
		"SetDeadline": x.SetDeadline, "SetReadDeadline": x.SetReadDeadline, "SetWriteDeadline": x.SetWriteDeadline,
	} {
		errs[name] = set(deadlineFarOff())
	}
	return errs
}

// callsAfterListenerClose: Close wakes who accepts, further calls say that
// the listener is closed, and a second Close does nothing.
func callsAfterListenerClose(k *kit) {
	raw, err := k.listen(anysock.Options{})
	k.check("listening", err)
	ln := k.wrapListener(raw)
	addr := ln.Addr().String()
	accepting := start(k, "AcceptContext", func() error { _, err := ln.AcceptContext(k.ctx); return err })
	accepting.settle()
	k.check("Close", ln.Close())
	k.wantIs("AcceptContext at work", accepting.wait(), net.ErrClosed)
	_, err = ln.AcceptContext(k.ctx)
	k.wantIs("AcceptContext after Close", err, net.ErrClosed)
	c, err := ln.Accept()
	k.wantIs("Accept after Close", err, net.ErrClosed)
	if c != nil {
		k.Errorf("Accept after Close returns a %T with its error", c)
	}
	k.wantIs("SetDeadline after Close", ln.SetDeadline(time.Time{}), net.ErrClosed)
	k.check("a second Close", ln.Close())
	if now := ln.Addr().String(); now != addr {
		k.Errorf("the address was %s and is %s after Close", addr, now)
	}
}

// nobodyListens: a dial to a closed listener is an *anysock.Error. Somebody
// else may get a free port at once, so it is given a few tries.
func nobodyListens(k *kit) {
	const tries = 5
	for range tries {
		ln, err := k.listen(anysock.Options{})
		k.check("listening", err)
		k.check("Close", ln.Close())
		c, err := k.dial(ln, anysock.Options{})
		if err == nil {
			_ = c.Abort()
			continue
		}
		var e *anysock.Error
		if !errors.As(err, &e) || e.Op == "" {
			k.Errorf("Dial where nobody listens: %v is no *anysock.Error that names the step", err)
		}
		if c != nil {
			k.Errorf("Dial returns a %T with its error", c)
		}
		return
	}
	k.Errorf("Dial where nobody listens succeeded %d times", tries)
}

// writers are the ways to write.
func (k *kit) writers(c conn) map[string]io.Writer {
	return map[string]io.Writer{
		"Write": c, "WriteContext": contextWriter{k.ctx, c}, "WriteBuffers": buffersWriter{c}, "ReadFrom": copyWriter{c},
	}
}
