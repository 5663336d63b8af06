package load

import (
	"encoding/binary"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const (
	// coarseWait is left to the runtime's timers, which can be given up; they
	// are at most lateTimer late.
	coarseWait = 5 * time.Millisecond
	lateTimer  = 2 * time.Millisecond

	// clockMonotonic is CLOCK_MONOTONIC, the clock of package time.
	clockMonotonic = 1
)

// A descriptorAlarm is a timerfd_create(2) descriptor that the runtime's
// poller watches. It fires within some microseconds, where a timer of the
// runtime waits for whole milliseconds (golang/go#44343).
type descriptorAlarm struct {
	fd   int
	file *os.File
}

// newAlarm makes an alarm that is as exact as can be had.
func newAlarm() (alarm, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return timerAlarm{}, nil
	}
	return &descriptorAlarm{fd: int(fd), file: os.NewFile(fd, "timerfd")}, nil
}

func (a *descriptorAlarm) wait(d time.Duration, stop <-chan struct{}) {
	if d > coarseWait {
		began := time.Now()
		timerAlarm{}.wait(d-lateTimer, stop)
		select {
		case <-stop:
			return
		default:
		}
		if d -= time.Since(began); d <= 0 {
			return
		}
	}
	// struct itimerspec: no interval, the time until the first.
	spec := [2]syscall.Timespec{{}, syscall.NsecToTimespec(int64(d))}
	_, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(a.fd), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	var fired [8]byte
	if errno == 0 {
		if n, err := a.file.Read(fired[:]); err == nil && n == len(fired) && binary.NativeEndian.Uint64(fired[:]) > 0 {
			return
		}
	}
	timerAlarm{}.wait(d, stop)
}

func (a *descriptorAlarm) close() { _ = a.file.Close() }
