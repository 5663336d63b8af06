//go:build openbsd && !anysock_portable

package sys

// platformOption: OpenBSD sets the keep-alive times for the whole system only.
func platformOption(Option) (level, name int, ok bool) { return 0, 0, false }
