//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows) || (anysock_portable && !linux && !windows)

package sys

import "errors"

func unread(uintptr) (int, error) { return 0, errors.ErrUnsupported }

func pendingError(uintptr) (int, error) { return 0, errors.ErrUnsupported }
