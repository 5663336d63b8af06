// This file holds the tests' frame: what they leave behind is an error.

package lifecycle

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

func TestMain(m *testing.M) {
	// The tests wait more than they work.
	testproc.Main(m, testproc.Frame{AtOnce: 6, Finally: noConnections})
}

// noConnections waits for what was closed to be done. That some did not end as
// they should is the matter of their tests.
func noConnections() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := anysock.Wait(ctx); ctx.Err() != nil {
		return fmt.Errorf("connections left behind: %w", err)
	}
	return nil
}
