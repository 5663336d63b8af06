//go:build !linux

package quic

import "errors"

// bindToDevice: other systems choose the interface in other ways.
func bindToDevice(uintptr, string) error { return errors.ErrUnsupported }
