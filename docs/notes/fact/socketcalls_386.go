//go:build linux

// Package syscall has no numbers for these calls on 386, where it reaches sockets through socketcall(2).

package fact

// Since Linux 4.3.
const (
	sysGetsockopt = 365
	sysSetsockopt = 366
)
