//go:build !windows

package quic

import (
	"errors"
	"syscall"
)

// isICMP knows the errors that an ICMP message raises on a connected UDP
// socket: nobody listens, or there is no way to there.
func isICMP(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
