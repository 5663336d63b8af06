package relay_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/sys"
	"go.uber.org/goleak"
)

// full asks for the whole of TestManyConnections.
var full = flag.Bool("relay.full", false, "relay 10,000 connections, 1,000 at a time, instead of 1,000")

// TestMain checks that the tests leave no goroutine and no descriptor behind.
func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	if code == 0 {
		code = leftBehind(before)
	}
	os.Exit(code)
}

func leftBehind(before int) int {
	sys.CloseIdlePipes()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
		return 1
	}
	deadline := time.Now().Add(5 * time.Second)
	after := descriptors()
	for ; after > before && time.Now().Before(deadline); after = descriptors() {
		<-time.After(10 * time.Millisecond)
	}
	if after > before {
		fmt.Fprintf(os.Stderr, "descriptors left behind: %d before, %d after the tests\n", before, after)
		return 1
	}
	return 0
}

// descriptors counts the open ones; 0 where that cannot be known.
func descriptors() int {
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range ents {
		// The runtime's own poller comes with its first use and stays.
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]" {
			n++
		}
	}
	return n
}
