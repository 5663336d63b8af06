package all_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// full asks for the whole of TestManyConnections.
var full = flag.Bool("all.full", false, "relay 10,000 connections for each pair of transports, 1,000 at a time, instead of 300")

// atOnce is how many subtests run at a time, unless -parallel says so: they
// wait more than they work.
const atOnce = "8"

// TestMain fails the run if a goroutine is left.
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
	if code == 0 {
		code = leftOver()
	}
	os.Exit(code)
}

// leftOver waits for the goroutines to end, and shows those that do not. A UDP
// socket of quic outlives its connection for three probe timeouts, which on a
// busy machine is longer than goleak waits by itself.
func leftOver() int {
	for end := time.Now().Add(patience); ; {
		err := goleak.Find()
		if err == nil {
			return 0
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			return 1
		}
	}
}

// patience bounds what must happen, on a busy machine.
const patience = 30 * time.Second

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
