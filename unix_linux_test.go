//go:build !anysock_portable

package anysock_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// TestUnixModeIsNeverWider: at no moment is the file more open than asked for:
// it is made with its mode, and not changed to it.
func TestUnixModeIsNeverWider(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var inner error
	restore := sys.Inject(func(call sys.Call, fd int) error {
		if call == sys.CallBind {
			// What bind(2) is about to give the file.
			var st syscall.Stat_t
			if inner = syscall.Fstat(fd, &st); inner == nil && st.Mode&0o777 != 0o600 {
				inner = fmt.Errorf("the descriptor's mode is %o", st.Mode&0o777)
			}
		}
		return nil
	})
	defer restore()
	mustListen(t, &anysock.ListenConfig{}, "unix:"+path)
	must(t, "before bind", inner)
}
