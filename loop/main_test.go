package loop_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain checks that the tests leave no goroutine and no descriptor behind.
// With ANYSOCK_ROLE set the test binary is a program that a test runs.
func TestMain(m *testing.M) {
	if role := os.Getenv("ANYSOCK_ROLE"); role != "" {
		play, ok := roles[role]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such role:", role)
			os.Exit(2)
		}
		os.Exit(play())
	}
	// The runtime's poller comes with its first use, and stays.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	before := len(descriptors())
	code := m.Run()
	if code == 0 {
		code = leftBehind(before)
	}
	os.Exit(code)
}

// roles are the programs that tests run in processes of their own.
var roles = map[string]func() int{}

func leftBehind(before int) int {
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
		return 1
	}
	// The runtime closes descriptors of finished programs in its own time.
	deadline := time.Now().Add(5 * time.Second)
	after := descriptors()
	for ; len(after) > before && time.Now().Before(deadline); after = descriptors() {
		<-time.After(10 * time.Millisecond)
	}
	if len(after) > before {
		fmt.Fprintf(os.Stderr, "descriptors left behind: %d before, %d after the tests: %v\n", before, len(after), after)
		return 1
	}
	return 0
}

// descriptors names the open ones; none where that cannot be known.
func descriptors() []string {
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range ents {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil {
			names = append(names, e.Name()+" "+to)
		}
	}
	return names
}

// settle waits until f says yes; what it waits for is said when the time is up.
func settle(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-time.After(time.Millisecond)
	}
}
