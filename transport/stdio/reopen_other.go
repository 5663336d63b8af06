//go:build !linux

// Other platforms do not open a descriptor anew: /dev/fd gives the same one.

package stdio

import "os"

func reopen(*os.File, int) (*os.File, bool) { return nil, false }
