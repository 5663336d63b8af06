// This file opens an inherited pipe or terminal anew.

package stdio

import (
	"os"
	"strconv"
	"syscall"
	"time"
)

// The majors of devices that give the same terminal when they are opened by
// /proc/self/fd (Documentation/admin-guide/devices.txt). /dev/ptmx is not one:
// opening it makes a new terminal.
const (
	majorTTY      = 4   // consoles and serial lines
	majorPTYFirst = 136 // Unix98 pseudo-terminal slaves
	majorPTYLast  = 143
)

// reopen gives a file of its own, non-blocking and closed on exec, for the
// pipe or terminal behind f. It can fail: /proc may be missing, and the pipe
// may belong to another user (proc(5)).
func reopen(f *os.File, flag int) (*os.File, bool) {
	st, err := f.Stat()
	if err != nil {
		return nil, false
	}
	switch mode := st.Mode(); {
	case mode&os.ModeNamedPipe != 0: // also a pipe without a name
	case mode&os.ModeCharDevice != 0 && isTerminal(st):
	default:
		return nil, false
	}
	n, ok := number(f)
	if !ok {
		return nil, false
	}
	name := "/proc/self/fd/" + strconv.Itoa(n)
	g, err := os.OpenFile(name, flag|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, false
	}
	if g.SetDeadline(time.Time{}) != nil {
		g.Close()
		return nil, false
	}
	return g, true
}

func isTerminal(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	major := (st.Rdev >> 8) & 0xfff // makedev(3); the high bits are 0 for these
	return major == majorTTY || majorPTYFirst <= major && major <= majorPTYLast
}
