package anysock_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/sys"
	"go.uber.org/goleak"
)

// TestMain checks that the tests leave no goroutine and no descriptor behind.
// With ANYSOCK_ROLE set the test binary is a program that a test runs.
func TestMain(m *testing.M) {
	if role := os.Getenv("ANYSOCK_ROLE"); role != "" {
		os.Exit(play(role))
	}
	before := descriptors()
	code := m.Run()
	if code == 0 {
		code = leftBehind(before)
	}
	os.Exit(code)
}

// roles are the programs that tests run in processes of their own.
var roles = map[string]func() int{}

func play(role string) int {
	f := roles[role]
	if f == nil {
		fmt.Fprintln(os.Stderr, "no such role:", role)
		return 2
	}
	return f()
}

func leftBehind(before int) int {
	sys.CloseIdlePipes()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
		return 1
	}
	// The runtime closes descriptors of finished programs in its own time.
	deadline := time.Now().Add(5 * time.Second)
	after := descriptors()
	for ; after > before && time.Now().Before(deadline); after = descriptors() {
		<-time.After(10 * time.Millisecond)
	}
	if after > before {
		fmt.Fprintf(os.Stderr, "descriptors left behind: %d before, %d after the tests\n", before, after)
		ents, _ := os.ReadDir("/proc/self/fd")
		for _, e := range ents {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fmt.Fprintln(os.Stderr, " ", e.Name(), to)
		}
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
		// The poller's own come with its first use and stay.
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]" {
			n++
		}
	}
	return n
}
