//go:build !linux || anysock_portable

package sys

import (
	"errors"
	"os"
)

// Sendfile says ErrUnsupported here, having sent nothing.
func (fd *FD) Sendfile(*os.File, int64, func(int)) error { return errors.ErrUnsupported }

// Writev sends bufs one after the other.
func (fd *FD) Writev(bufs [][]byte) (int64, error) {
	var total int64
	for _, b := range bufs {
		n, err := fd.Write(b)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
