//go:build linux && !anysock_portable

package relay

import (
	"testing"
	"unsafe"
)

// An idle relayed connection is this, and what the loop notes of two
// descriptors. A byte more, and the allocator takes 320.
func TestPairIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(pair{}); unsafe.Sizeof(uintptr(0)) == 8 && n > 288 {
		t.Errorf("%d bytes", n)
	}
}
