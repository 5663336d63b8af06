package quic

import (
	"errors"
	"syscall"
)

// isICMP knows the error that an ICMP message raises on a connected UDP
// socket: nobody listens.
func isICMP(err error) bool { return errors.Is(err, syscall.WSAECONNRESET) }
