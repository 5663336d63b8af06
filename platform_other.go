//go:build !linux || anysock_portable

package anysock

const (
	acksKnown = false // see internal/sys: no acknowledgement, so no CapCloseAck
	peekWorks = false // Peek keeps a buffer
)
