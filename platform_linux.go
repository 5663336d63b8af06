//go:build linux && !anysock_portable

package anysock

const (
	acksKnown = true // SIOCOUTQ and TCP_INFO have Linux's meaning
	peekWorks = true // MSG_PEEK
)
