//go:build linux && !anysock_portable

package reactor

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
)

// Who passes the turnstile comes back with those for whose files something is
// ready: on one processor they run next.
func TestTurnstileServesOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var gate turnstile
	gate.open()
	defer gate.close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var read atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 1); ; read.Add(1) {
			if _, err := r.Read(b); err != nil {
				return
			}
		}
	}()
	defer func() {
		w.Close()
		<-ended
	}()
	// Each time the reader waits for its pipe when the next byte is written. The
	// runtime's monitor may have looked, too; not after every one of these.
	late := 0
	for i := range int64(200) {
		runtime.Gosched()
		if _, err := w.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		gate.pass()
		runtime.Gosched()
		if read.Load() != i+1 {
			late++
			for read.Load() != i+1 {
				gate.pass()
				runtime.Gosched()
			}
		}
	}
	// The reader may be looked for while it is between two reads.
	if late > 20 {
		t.Errorf("of 200 bytes %d were not read when the turnstile was passed", late)
	}
}

// Without a descriptor the turnstile holds nobody up.
func TestTurnstileWithoutDescriptor(*testing.T) {
	var gate turnstile
	gate.pass()
	gate.close()
}
