package verify

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait bounds what must happen, on a busy machine.
const waitAtMost = 30 * time.Second
