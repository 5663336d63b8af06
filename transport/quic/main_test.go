package quic

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine, of the library's too, ends with what it serves. With a role
// in its environment the program is another process of a test.
func TestMain(m *testing.M) {
	if role := os.Getenv(childVariable); role != "" {
		os.Exit(childMain(role))
	}
	goleak.VerifyTestMain(m)
}
