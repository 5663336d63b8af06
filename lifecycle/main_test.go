// This file ends the tests of the package: no goroutine may be left.

package lifecycle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"go.uber.org/goleak"
)

// atOnce is how many parallel tests run at once, unless the command line says
// so: they wait more than they work.
const atOnce = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic(err)
		}
	}
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
