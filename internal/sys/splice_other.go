//go:build !linux || anysock_portable

package sys

import "errors"

// CloseIdlePipes does nothing: there are no pipes.
func CloseIdlePipes() {}

// A Transfer needs splice(2).
type Transfer struct{}

// NewTransfer says ErrUnsupported here, and callers copy instead.
func NewTransfer(_, _ *FD, _, _ func(n int)) (*Transfer, error) {
	return nil, errors.ErrUnsupported
}

// Fill says ErrUnsupported.
func (*Transfer) Fill() error { return errors.ErrUnsupported }

// Flush says ErrUnsupported.
func (*Transfer) Flush() error { return errors.ErrUnsupported }

// Left has nothing.
func (*Transfer) Left() []byte { return nil }

// Close does nothing.
func (*Transfer) Close() {}
