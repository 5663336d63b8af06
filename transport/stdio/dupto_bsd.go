//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package stdio

import "syscall"

// dupTo makes number to mean what from does (dup2(2)).
func dupTo(from, to int) error { return syscall.Dup2(from, to) }
