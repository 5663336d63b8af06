//go:build !linux || anysock_portable

package sys

import (
	"errors"
	"net/netip"
)

// OriginalDestination needs netfilter: ErrUnsupported here.
func (fd *FD) OriginalDestination() (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.ErrUnsupported
}
