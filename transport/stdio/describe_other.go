//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package stdio

import "errors"

// Descriptors are not inherited by number here.
func describe(int) (descriptor, error) { return descriptor{}, errors.ErrUnsupported }

func kindOfOpen(int) (kind, error) { return somethingElse, errors.ErrUnsupported }

func markCloseOnExec(int) {}

// closeOnExec has nothing to do: handles are inherited by list.
func (d *descriptors) closeOnExec() {}
