//go:build !linux || anysock_portable

package sys

import (
	"errors"
	"time"
)

// A Poller needs epoll: every call says ErrUnsupported here.
type Poller struct{}

// NewPoller says ErrUnsupported.
func NewPoller() (*Poller, error) { return nil, errors.ErrUnsupported }

// Add says ErrUnsupported.
func (*Poller) Add(*FD, uint64, Ready, bool) error { return errors.ErrUnsupported }

// Modify says ErrUnsupported.
func (*Poller) Modify(*FD, uint64, Ready, bool) error { return errors.ErrUnsupported }

// Remove says ErrUnsupported.
func (*Poller) Remove(*FD) error { return errors.ErrUnsupported }

// SetDeadline says ErrUnsupported.
func (*Poller) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// Wait says ErrUnsupported.
func (*Poller) Wait(events []PollEvent) ([]PollEvent, error) { return events, errors.ErrUnsupported }

// Close does nothing.
func (*Poller) Close() error { return nil }
