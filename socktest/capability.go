// This file holds the cases about capabilities: what is declared works, what
// is not is refused (contract 12).

package socktest

import (
	"errors"
	"net"

	"github.com/anysock/anysock"
)

// capsAsDeclared: both ends, and the listener, declare the same.
func capsAsDeclared(k *kit) {
	a, b := k.pair()
	for what, got := range map[string]anysock.Caps{"the dialed end": a.Caps(), "the accepted end": b.Caps()} {
		if got != k.Caps {
			k.Errorf("%s declares %s, want %s", what, got, k.Caps)
		}
	}
	for _, ln := range k.listeners {
		if got := k.wrapListener(ln).Caps(); got != k.Caps {
			k.Errorf("the listener declares %s, want %s", got, k.Caps)
		}
	}
}

// halfCloseAsDeclared: CloseWrite without the capability is refused, and
// changes nothing.
func halfCloseAsDeclared(k *kit) {
	k.both(func(x, y conn) {
		err := x.CloseWrite()
		if k.Caps.Has(anysock.CapHalfClose) {
			k.check("CloseWrite", err)
			k.wantEnd("reading", readToEnd(y, 0), 0)
			return
		}
		k.wantIs("CloseWrite", err, errors.ErrUnsupported)
		k.exchange(x, y)
	})
}

// exchange sends something each way.
func (k *kit) exchange(x, y conn) {
	k.Helper()
	for _, to := range []conn{y, x} {
		from := x
		if to == x {
			from = y
		}
		sent := start(k, "Write", func() moved { return write(from, 0, 100) })
		k.check("reading", readExactly(to, 0, 100))
		k.check("writing", sent.wait().err)
	}
}

// abortAsDeclared: Abort without the capability says so, and closes: the peer
// is not left waiting.
func abortAsDeclared(k *kit) {
	k.both(func(x, y conn) {
		err := x.Abort()
		m := readToEnd(y, 0)
		if k.Caps.Has(anysock.CapAbort) {
			k.check("Abort", err)
			k.wantReset("reading", m.err)
		} else {
			k.wantIs("Abort", err, errors.ErrUnsupported)
		}
		k.wantHow("the aborting end", k.end(x), anysock.AbortedByUs)
		_, err = x.Write(data(0, 1))
		k.wantIs("Write after Abort", err, net.ErrClosed)
	})
}

// acknowledgementAsDeclared: the record names who acknowledged our bytes, or
// nobody.
func acknowledgementAsDeclared(k *kit) {
	k.both(func(x, y conn) {
		sent := start(k, "Write", func() moved { return write(x, 0, 1000) })
		k.check("reading", readExactly(y, 0, 1000))
		k.check("writing", sent.wait().err)
		d := k.disconnect(x)
		k.wantEnd("reading", readToEnd(y, 1000), 0)
		k.check("Close", y.Close())
		got := d.wait()
		k.check("Disconnect", got.err)
		if got.end.AckedBy != k.AckedBy {
			k.Errorf("the ending is %q, acknowledged by %s, want by %s", got.end, got.end.AckedBy, k.AckedBy)
		}
		if got.end.Unacked != 0 {
			k.Errorf("everything was read, but the ending is %q", got.end)
		}
	})
}

// deadlineAsDeclared: a deadline ends a call and leaves the connection
// usable, or is refused.
func deadlineAsDeclared(k *kit) {
	k.both(func(x, y conn) {
		err := x.SetReadDeadline(longPast)
		if !k.Caps.Has(anysock.CapDeadline) {
			k.wantIs("SetReadDeadline", err, errors.ErrUnsupported)
			k.exchange(x, y)
			return
		}
		k.check("SetReadDeadline", err)
		_, err = x.Read(make([]byte, 1))
		k.wantExpired("Read past its deadline", err)
		k.check("SetReadDeadline", x.SetReadDeadline(noDeadline))
		k.exchange(x, y)
	})
}
