//go:build linux && !anysock_portable

package relay

import (
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/sys"
)

// This file spares short connections the socket options that mean nothing to
// them. Each is a system call, about a hundredth of what relaying a connection
// with one message costs.

// outboundOptions are those of outbound sockets, by when a connection whose
// connect is done at once gets them. One that takes its time gets all meanwhile.
type outboundOptions struct {
	first  []bridge.Setting // before the connect
	second []bridge.Setting // before the second send
	later  []bridge.Setting // settleAfter
}

// settleAfter is when a connection gets keep-alive, whose times are a second
// and more (tcp(7)), and the bound of the intervals of retransmissions, which
// have not grown so long by then (RFC 6298 section 5).
const settleAfter = time.Second

// newOutboundOptions divides settings. What the kernel refuses is not postponed:
// the first connection is to say so.
func newOutboundOptions(settings []bridge.Setting) outboundOptions {
	var o outboundOptions
	for _, s := range settings {
		switch s.Option {
		case sys.NoDelay:
			// What Linux makes of Nagle's algorithm (tcp_nagle_check in tcp_output.c)
			// holds a small segment back only while another small one is not
			// acknowledged.
			o.second = append(o.second, s)
		case sys.KeepAlive, sys.KeepIdle, sys.KeepInterval, sys.KeepCount, sys.MaxRetransmit:
			o.later = append(o.later, s)
		default:
			o.first = append(o.first, s)
		}
	}
	if o.some() && !areTaken(o.postponed()) {
		return outboundOptions{first: settings}
	}
	return o
}

// some reports whether any are postponed.
func (o *outboundOptions) some() bool { return len(o.second)+len(o.later) > 0 }

func (o *outboundOptions) postponed() []bridge.Setting {
	return append(o.second[:len(o.second):len(o.second)], o.later...)
}

// areTaken asks the kernel.
func areTaken(settings []bridge.Setting) bool {
	fd, err := sys.RawSocket(sys.Inet4)
	if err != nil {
		if fd, err = sys.RawSocket(sys.Inet6); err != nil {
			return false
		}
	}
	defer sys.RawClose(fd)
	return set(fd, settings) == nil
}

// prepareToSend is called before anything is sent to the leg's peer.
func (l *half) prepareToSend() error {
	if p := l.p; p.is(nagling) && l.sent > 0 && l.isOutbound() {
		p.flags &^= nagling
		return set(l.node.FD(), p.gate.core.e.options.second)
	}
	return nil
}

// settle is called when the connection is not young any more.
func (p *pair) settle() {
	if out := &p.legs[1]; p.is(young) {
		p.flags &^= young
		if err := set(out.node.FD(), p.gate.core.e.options.later); err != nil {
			p.fail(out, anysock.OpOption, err)
		}
	}
}
