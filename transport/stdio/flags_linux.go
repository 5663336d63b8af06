// This file reads and sets the flags of descriptors.

package stdio

import (
	"os"
	"strconv"
	"syscall"
)

// openFlags is what n was opened for, and whether programs that are started
// do not get it (fcntl(2)).
func openFlags(n int) (read, write, closeOnExec bool, err error) {
	fl, err := fcntl(n, syscall.F_GETFL)
	if err != nil {
		return false, false, false, err
	}
	fd, err := fcntl(n, syscall.F_GETFD)
	mode := fl & syscall.O_ACCMODE
	return mode != syscall.O_WRONLY, mode != syscall.O_RDONLY, fd&syscall.FD_CLOEXEC != 0, err
}

func fcntl(n, cmd int) (int, error) {
	v, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(n), uintptr(cmd), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("fcntl", errno)
	}
	return int(v), nil
}

// maxUnlisted is how far closeOnExec looks where /proc is missing.
const maxUnlisted = 1024

// closeOnExec keeps descriptors that we have inherited from programs that we
// start. Go sets the flag on all that it opens; what stands without it came
// from outside, and is remembered so.
func (d *descriptors) closeOnExec() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range openNumbers() {
		if n <= syscall.Stderr {
			continue
		}
		if fd, err := fcntl(n, syscall.F_GETFD); err != nil || fd&syscall.FD_CLOEXEC != 0 {
			continue
		}
		syscall.CloseOnExec(n)
		if d.marked == nil {
			d.marked = make(map[int]bool)
		}
		d.marked[n] = true
	}
}

// openNumbers lists the descriptors of the process (proc(5)), or all numbers
// that are likely.
func openNumbers() []int {
	var numbers []int
	dir, err := os.Open("/proc/self/fd")
	if err == nil {
		defer dir.Close()
		var names []string
		names, err = dir.Readdirnames(-1)
		for _, name := range names {
			if n, err := strconv.Atoi(name); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	if err != nil {
		for n := range maxUnlisted {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
