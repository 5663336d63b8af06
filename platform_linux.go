//go:build linux && !anysock_portable

package anysock

const (
	acksKnown        = true // SIOCOUTQ and TCP_INFO have Linux's meaning
	peekWorks        = true // MSG_PEEK
	optionsInherited = true // accepted sockets have the options of the listening one (tcp(7))
)
