package anysock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/anysock/anysock/internal/sys"
)

// OriginalDestination is where a TCP connection that was accepted here was
// going before a netfilter rule on this machine (redirect, dnat) brought it
// (SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, Linux). One that nothing has
// redirected has its own local address, also where the kernel tracks no
// connections. The error matches errors.ErrUnsupported for other transports
// and platforms.
func (c *Conn) OriginalDestination() (netip.AddrPort, error) {
	const op = "original destination"
	fd := c.bottom()
	if fd == nil || !fd.Family().Inet() {
		return netip.AddrPort{}, unsupported(op, c.peerName(), c.network()+" has none")
	}
	to, err := fd.OriginalDestination()
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOPROTOOPT) {
		return unmapped(fd.LocalAddr().IP), nil
	}
	if err != nil {
		return netip.AddrPort{}, c.opError(op, err)
	}
	return unmapped(to), nil
}

// The transport original is a target for relays alone, which put the
// destination of each connection in its place.
func init() {
	Register(Transport{
		Scheme:  "original",
		Options: tcpOptions,
		Caps:    func(Caps, Target) Caps { return kernelCaps(sys.Inet6) },
		Dial: func(context.Context, *Dialer, Target) (net.Conn, error) {
			return nil, &Error{
				Op: OpConnect, Addr: "original:", Kind: KindUnsupported,
				Err:  errors.New("only a relay knows where a connection was going"),
				Hint: "use it as the target of a relay: anysock relay tcp://:15001 original:",
			}
		},
	})
}
