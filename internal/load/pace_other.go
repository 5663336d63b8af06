//go:build !linux

package load

// newAlarm is the runtime's timers, which are exact where kqueue(2) waits for
// them.
func newAlarm() (alarm, error) { return timerAlarm{}, nil }
