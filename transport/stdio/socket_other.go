//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

// Elsewhere a descriptor that is a socket cannot be taken over.

package stdio

import (
	"errors"
	"os"

	"github.com/anysock/anysock/internal/sys"
)

func adoptSocket(*os.File) (*sys.FD, bool) { return nil, false }

func copyOf(*os.File) (*os.File, bool) { return nil, false }

func duplicate(int) (int, error) { return -1, errors.ErrUnsupported }

func sameSocket(_, _ *os.File) bool { return false }

func muteTo(_, _ *os.File) error { return errors.ErrUnsupported }
