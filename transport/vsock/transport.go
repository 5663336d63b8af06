// This file registers the transport and reads its addresses.

package vsock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/mdlayher/vsock"
)

// caps is what every stream can do: see the package's comment.
const caps = anysock.CapHalfClose | anysock.CapDeadline

func init() {
	anysock.Register(anysock.Transport{
		Scheme: "vsock",
		Options: []anysock.OptionSpec{
			{Name: "backlog", Type: anysock.OptionInt, Listen: true, Help: "connections that wait to be accepted (default 4096)"},
			{Name: "maxconns", Type: anysock.OptionInt, Listen: true, Help: "open connections at once (default no limit)"},
			{Name: "timeout", Type: anysock.OptionDuration, Dial: true, Help: "one attempt to connect (default 10s)"},
		},
		Caps: func(anysock.Caps, anysock.Target) anysock.Caps { return caps },
		Dial: func(ctx context.Context, d *anysock.Dialer, t anysock.Target) (net.Conn, error) {
			addr, err := dialAddr(t.Hop.Host, t.Hop.Port)
			if err != nil {
				return nil, err
			}
			c, err := dial(ctx, d, addr, t.Duration("timeout", d.AttemptTimeout))
			if err != nil {
				return nil, err // not a nil pointer in a net.Conn
			}
			return c, nil
		},
		Listen: func(_ context.Context, lc *anysock.ListenConfig, t anysock.Target) (anysock.DeadlineListener, error) {
			addr, err := listenAddr(t.Hop.Host, t.Hop.Port)
			if err != nil {
				return nil, err
			}
			l, err := listen(addr, t.Int("backlog", lc.Backlog))
			if err != nil {
				return nil, err
			}
			return l, nil
		},
	})
}

// dialAddr is the address to connect to. No host, and the identifier that
// means any, are this machine, as with tcp.
func dialAddr(host, port string) (sys.Addr, error) {
	cid, p, err := numbers(host, port, vsock.Local)
	if err != nil {
		return sys.Addr{}, addressError(anysock.OpConnect, host, port, err)
	}
	if cid == sys.VsockAny {
		cid = vsock.Local
	}
	if p == 0 || p == sys.VsockAny {
		return sys.Addr{}, addressError(anysock.OpConnect, host, port, errors.New("the port to connect to cannot be any"))
	}
	return sys.VsockAddr(cid, p), nil
}

// listenAddr is the address to listen on. No host is every identifier of this
// machine, and port 0 any free port.
func listenAddr(host, port string) (sys.Addr, error) {
	cid, p, err := numbers(host, port, sys.VsockAny)
	if err != nil {
		return sys.Addr{}, addressError(anysock.OpListen, host, port, err)
	}
	if p == 0 {
		p = sys.VsockAny
	}
	return sys.VsockAddr(cid, p), nil
}

// numbers reads what an address holds; the grammar has let digits alone pass.
func numbers(host, port string, noHost uint32) (cid, p uint32, err error) {
	if cid = noHost; host != "" {
		if cid, err = number("context identifier", host); err != nil {
			return 0, 0, err
		}
	}
	p, err = number("port", port)
	return cid, p, err
}

func number(what, digits string) (uint32, error) {
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the %s must be a number up to %d", what, uint32(math.MaxUint32))
	}
	return uint32(n), nil
}

func addressError(op, host, port string, err error) error {
	return &anysock.Error{Op: op, Addr: "vsock:" + host + ":" + port, Kind: anysock.KindAddress, Err: err}
}
