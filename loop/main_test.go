package loop_test

import (
	"testing"
	"time"

	"github.com/anysock/anysock/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m, testproc.Frame{}) }

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
