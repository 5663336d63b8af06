//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

// This file finds out what a descriptor is.

package stdio

import (
	"errors"
	"os"
	"syscall"
)

// describe looks at descriptor n and changes nothing. The error is that of a
// system call; a descriptor that is not open is none.
func describe(n int) (descriptor, error) {
	k, err := kindOfOpen(n)
	if err != nil || k == notOpen {
		return descriptor{kind: k}, err
	}
	d := descriptor{kind: k}
	var closeOnExec bool
	d.read, d.write, closeOnExec, err = openFlags(n)
	if closeOnExec {
		// Whoever starts a program to inherit a descriptor clears this flag,
		// and Go sets it on everything it opens.
		d.kind = notInherited
	}
	return d, err
}

// kindOfOpen is what n is, whoever opened it.
func kindOfOpen(n int) (kind, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(n, &st); err != nil {
		if errors.Is(err, syscall.EBADF) {
			return notOpen, nil
		}
		return somethingElse, os.NewSyscallError("fstat", err)
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFSOCK:
		return kindOfSocket(n)
	case syscall.S_IFIFO:
		return pipe, nil
	case syscall.S_IFCHR:
		return terminal, nil
	case syscall.S_IFREG:
		return regularFile, nil
	case syscall.S_IFDIR:
		return directory, nil
	}
	return somethingElse, nil
}

func kindOfSocket(n int) (kind, error) {
	typ, err := syscall.GetsockoptInt(n, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return somethingElse, os.NewSyscallError("getsockopt", err)
	}
	if typ != syscall.SOCK_STREAM {
		return otherSocket, nil
	}
	if on, err := syscall.GetsockoptInt(n, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err == nil && on != 0 {
		return listeningSocket, nil
	}
	if _, err := syscall.Getpeername(n); err != nil {
		// Also a connection that was reset before we came: it has no peer.
		return unconnectedSocket, nil //nolint:nilerr // this is the answer
	}
	return connectedSocket, nil
}

// markCloseOnExec keeps n from programs that are started later.
func markCloseOnExec(n int) { syscall.CloseOnExec(n) }
