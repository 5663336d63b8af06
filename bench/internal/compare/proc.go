//go:build linux

package compare

// This file reads what the kernel knows of a process and those it started.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is the unit of times in /proc/PID/stat: 1/100 s on every platform
// that Go runs on.
const userHZ = 100

// CPUTime is the processor time that a process and all its descendants have
// used, those that have ended and were waited for included. The living count in
// nanoseconds, the ended in hundredths of a second.
func CPUTime(pid int) (time.Duration, error) {
	var total time.Duration
	for i, p := range tree(pid) {
		t, err := clockOf(p)
		if err == nil {
			var ended time.Duration
			ended, err = endedChildren(p)
			total += t + ended
		}
		if err != nil && i == 0 { // a descendant may end at any time
			return 0, err
		}
	}
	return total, nil
}

// clockOf reads the processor-time clock of another process, as
// clock_getcpuclockid(3) makes it: the inverted number in the upper bits, and
// the scheduler's own account, which is clock 2.
func clockOf(pid int) (time.Duration, error) {
	const cpuClockSched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuClockSched, &t); err != nil {
		return 0, fmt.Errorf("processor-time clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

func endedChildren(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseEnded(string(text))
}

// parseEnded adds cutime and cstime, fields 16 and 17 of proc_pid_stat(5). The
// second field is a name in parentheses that may hold anything.
func parseEnded(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const first = 3 // the number of the field after the name
	if len(fields) <= 17-first {
		return 0, fmt.Errorf("not a line of /proc/PID/stat: %q", stat)
	}
	var sum time.Duration
	for _, field := range fields[16-first : 18-first] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * time.Second / userHZ
	}
	return sum, nil
}

// tree is the process and its descendants. The bound is for a process that
// starts new ones faster than they are read.
func tree(pid int) []int {
	const most = 1 << 15
	all := []int{pid}
	for i := 0; i < len(all) && len(all) < most; i++ {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		if err != nil {
			continue
		}
		for _, list := range lists {
			text, err := os.ReadFile(list)
			if err != nil {
				continue
			}
			for field := range strings.FieldsSeq(string(text)) {
				if child, err := strconv.Atoi(field); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all
}

// Resident is the memory that a process has in RAM, in bytes; of several
// processes the shared part counts once.
func Resident(pid int) (int64, error) {
	all := tree(pid)
	if len(all) == 1 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		return parseKB(string(text), "VmRSS:")
	}
	var sum int64
	for _, p := range all {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		pss, err := parseKB(string(text), "Pss:")
		if err != nil {
			return 0, err
		}
		sum += pss
	}
	return sum, nil
}

// parseKB finds a line like "VmRSS:     1234 kB" and returns bytes.
func parseKB(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 2 && fields[1] == "kB" {
			kb, err := strconv.ParseInt(fields[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no line %s N kB", name)
}

// Descriptors is how many a process and its descendants have open.
func Descriptors(pid int) (int, error) {
	sum := 0
	for i, p := range tree(pid) {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
		if err != nil && i == 0 {
			return 0, err
		}
		sum += len(list)
	}
	return sum, nil
}

// listening tells whether somebody listens on that IPv4 TCP port of this
// machine. It looks and does not connect, which a relay would pass on.
func listening(port int) (bool, error) {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false, err
	}
	return parseListening(string(text), port), nil
}

// parseListening looks for the port in the second column where the fourth is
// 0A, which is LISTEN (proc_net_tcp).
func parseListening(table string, port int) bool {
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], suffix) {
			return true
		}
	}
	return false
}
