//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly) || anysock_portable

package sys

import "sync"

// dirs is held by who has a directory locked.
var dirs sync.Mutex

// LockDir keeps out this process only: package os has no lock of a directory.
// It locks them all at once.
func LockDir(string) (unlock func(), err error) {
	dirs.Lock()
	return sync.OnceFunc(dirs.Unlock), nil
}
