//go:build !linux || anysock_portable

package sys

import "errors"

// CloseIdlePipes does nothing: there are no pipes.
func CloseIdlePipes() {}

// A Transfer needs splice(2): Run says ErrUnsupported as a read error here,
// and callers copy instead.
type Transfer struct {
	Dst, Src       *FD
	Received, Sent func(n int)
}

// Run says ErrUnsupported.
func (*Transfer) Run() (left []byte, readErr, writeErr error) {
	return nil, errors.ErrUnsupported, nil
}
