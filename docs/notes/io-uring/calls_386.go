//go:build linux

// Package syscall has no numbers for these calls on 386, where it reaches sockets through socketcall(2).

package main

// Since Linux 4.3.
const (
	sysSendto   = 369
	sysRecvfrom = 371
)
