// This file checks that the tests leave no goroutine behind.

package socktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakBound is what the last goroutines may take to end on a busy machine.
const leakBound = 10 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(leakBound)
	err := goleak.Find()
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find()
	}
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
		code = 1
	}
	os.Exit(code)
}
