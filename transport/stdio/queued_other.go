//go:build !linux

package stdio

import (
	"errors"
	"os"
)

// queued is unknown here.
func queued(*os.File) (int, error) { return 0, errors.ErrUnsupported }
