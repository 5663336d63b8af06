package anysock_test

import (
	"testing"

	"github.com/anysock/anysock/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m, testproc.Frame{}) }

// descriptors counts the open ones; 0 where that cannot be known.
func descriptors() int { return len(testproc.Descriptors()) }
