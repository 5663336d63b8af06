//go:build linux && !386

// The numbers of the raw socket calls as package syscall has them, everywhere but on 386.

package fact

import "syscall"

const (
	sysGetsockopt = syscall.SYS_GETSOCKOPT
	sysSetsockopt = syscall.SYS_SETSOCKOPT
)
