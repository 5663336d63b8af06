package socktest

import (
	"testing"

	"github.com/anysock/anysock/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m, testproc.Frame{}) }
