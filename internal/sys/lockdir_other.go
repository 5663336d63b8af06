//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly) || anysock_portable

package sys

import "errors"

// LockDir says ErrUnsupported here.
func LockDir(string) (unlock func(), err error) { return nil, errors.ErrUnsupported }
