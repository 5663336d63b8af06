package bench

// This file tells how a worker moved bytes: whether they were spliced.

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/anysock/anysock/internal/sys"
)

// countVariable makes a worker count. It costs, so slots are measured without.
const countVariable = "ANYSOCK_BENCH_COUNT"

// calls is what is known of a worker's system calls.
type calls struct {
	// Splices, Receives and Sends count anysock's calls of splice, recv and
	// send, successful or not.
	Splices, Receives, Sends int64
	// Read is how many bytes read(2) has moved (rchar, proc_pid_io(5)); what
	// splice and recv move is not in it. Package net reads sockets by read.
	Read int64
}

var counting = os.Getenv(countVariable) != ""

var callCounts struct{ splices, receives, sends atomic.Int64 }

// countCalls begins counting, if the environment asks for it.
func countCalls() {
	if !counting {
		return
	}
	sys.Inject(func(call sys.Call, _ int) error {
		switch call {
		case sys.CallSplice:
			callCounts.splices.Add(1)
		case sys.CallRecv:
			callCounts.receives.Add(1)
		case sys.CallSend:
			callCounts.sends.Add(1)
		}
		return nil
	})
}

// counted is what there is so far.
func counted() calls {
	if !counting {
		return calls{}
	}
	c := calls{
		Splices:  callCounts.splices.Load(),
		Receives: callCounts.receives.Load(),
		Sends:    callCounts.sends.Load(),
	}
	if text, err := os.ReadFile("/proc/self/io"); err == nil {
		for line := range strings.Lines(string(text)) {
			_, _ = fmt.Sscanf(line, "rchar: %d", &c.Read) // other lines do not match
		}
	}
	return c
}
