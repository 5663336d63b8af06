// This file ends the tests of the package: no goroutine may be left.

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	_, err := anysock.Wait(ctx)
	cancel()
	if code == 0 && errors.Is(err, context.DeadlineExceeded) {
		fmt.Fprintln(os.Stderr, "connections left behind:", err)
		code = 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
		code = 1
	}
	os.Exit(code)
}
