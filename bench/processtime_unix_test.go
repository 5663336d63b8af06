//go:build unix

package bench

import (
	"syscall"
	"time"
)

// processTime is the processor time of this process so far, user and system
// (getrusage(2)). Linux counts their sum in nanoseconds.
func processTime() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}
