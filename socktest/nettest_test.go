// This file tests that package nettest is really run, and on the suite's
// connections: with a defect that it must find. It reports to a *testing.T
// only, so the failing run is a process of its own.

package socktest

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

const nettestRole = "SOCKTEST_NETTEST_ROLE"

// plainTimeout has time-outs that are no net.Error.
type plainTimeout struct{ *anysock.Conn }

func (c plainTimeout) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("too late")
	}
	return n, err
}

func TestNettestFindsADefect(t *testing.T) {
	if os.Getenv(nettestRole) != "" {
		d := defect{wrap: func(c *anysock.Conn) conn { return plainTimeout{c} }}
		d.suite().nettest(t)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestNettestFindsADefect$", "-test.v")
	cmd.Env = append(os.Environ(), nettestRole+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: TestNettestFindsADefect/ReadTimeout") {
		t.Errorf("with time-outs that are no net.Error the run ended with %v and said:\n%s", err, out)
	}
}
