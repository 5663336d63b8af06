//go:build linux && !anysock_portable

package relay

import (
	"testing"
	"unsafe"
)

// An idle relayed connection costs no more than half a kilobyte: this, and what
// the loop notes for each of the two descriptors.
func TestPairIsSmall(t *testing.T) {
	const perDescriptor = 2 * 8 // the loop's table doubles when it grows
	if n := unsafe.Sizeof(pair{}) + 2*perDescriptor; n > 448 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("%d bytes", n)
	}
}
