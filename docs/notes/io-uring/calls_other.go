//go:build linux && !386

// The numbers of the raw socket calls as package syscall has them, everywhere but on 386.

package main

import "syscall"

const (
	sysSendto   = syscall.SYS_SENDTO
	sysRecvfrom = syscall.SYS_RECVFROM
)
