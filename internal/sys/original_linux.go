//go:build linux && !anysock_portable

package sys

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// From linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h.
const (
	soOriginalDst     = 80 // SO_ORIGINAL_DST, level SOL_IP
	ip6tSoOriginalDst = 80 // IP6T_SO_ORIGINAL_DST, level SOL_IPV6
)

// OriginalDestination is where the connection was going before a netfilter
// redirect or DNAT on this machine brought it here. A connection that nothing
// redirected has its own local address, or ENOENT where no connection tracking
// is at work.
func (fd *FD) OriginalDestination() (netip.AddrPort, error) {
	local := fd.LocalAddr()
	if !fd.family.Inet() {
		return netip.AddrPort{}, errors.ErrUnsupported
	}
	v4 := local.IP.Addr().Unmap().Is4()
	var to netip.AddrPort
	err := fd.control(func(d int) error {
		if err := check(CallOriginalDst, d); err != nil {
			return err
		}
		// Both forms of the option fill in a sockaddr; these getters are the
		// ones of golang.org/x/sys that take as many bytes.
		if v4 {
			m, err := unix.GetsockoptIPv6Mreq(d, unix.SOL_IP, soOriginalDst)
			if err != nil {
				return err
			}
			// struct sockaddr_in: family, port, address
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:4]))
			return nil
		}
		info, err := unix.GetsockoptIPv6MTUInfo(d, unix.SOL_IPV6, ip6tSoOriginalDst)
		if err != nil {
			return err
		}
		// The port is in network order whatever the machine's is.
		port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, info.Addr.Port))
		ip := netip.AddrFrom16(info.Addr.Addr)
		if ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(local.IP.Addr().Zone())
		}
		to = netip.AddrPortFrom(ip, port)
		return nil
	})
	return to, err
}
