package quic

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Every goroutine, of the library's too, ends with what it serves. With a role
// in its environment the program is another process of a test.
func TestMain(m *testing.M) {
	if role := os.Getenv(childVariable); role != "" {
		os.Exit(childMain(role))
	}
	code := m.Run()
	if code == 0 {
		code = leftOver()
	}
	os.Exit(code)
}

// leftOver waits for the goroutines to end, and shows those that do not. A
// socket is kept for the repeats of a close, which on a busy machine takes
// longer than goleak waits by itself.
func leftOver() int {
	const patience = (1<<closeRepeats-1)*maxRepeatPause + 10*time.Second
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
