//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows) || (anysock_portable && !linux && !windows)

package sys

// This file asks a socket that is package net's what package net does not tell:
// what waits to be received, and the error that nobody has taken.

import "errors"

func unread(uintptr) (int, error) { return 0, errors.ErrUnsupported }

func pendingError(uintptr) (int, error) { return 0, errors.ErrUnsupported }
