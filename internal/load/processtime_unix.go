//go:build unix

package load

import (
	"syscall"
	"time"
)

// processTime is what this process has used so far (getrusage(2)), nil if that
// is not known.
func processTime() *CPU {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return nil
	}
	return &CPU{User: time.Duration(r.Utime.Nano()).Seconds(), System: time.Duration(r.Stime.Nano()).Seconds()}
}
