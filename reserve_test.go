package anysock

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// TestCloseWhileShedding: a listener that is closed while a client is being
// shed leaves no reserve descriptor behind.
func TestCloseWhileShedding(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted in /proc")
	}
	reserves := func() (n int) {
		ents, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ents {
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == os.DevNull {
				n++
			}
		}
		return n
	}
	before := reserves()
	l, err := Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if n := reserves(); n != before+1 {
		t.Errorf("%d descriptors are in reserve, want one", n-before)
	}
	k := l.a.(*kernelAcceptor)
	closed := make(chan error, 1)
	var once sync.Once
	restore := sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallPoll {
			once.Do(func() {
				go func() { closed <- l.Close() }()
				// Until the descriptor is being closed, or Close waits for us.
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for deadline := time.Now().Add(50 * time.Millisecond); time.Now().Before(deadline); <-tick.C {
					if errors.Is(k.fd.SetReadDeadline(time.Time{}), net.ErrClosed) {
						return
					}
				}
			})
		}
		return nil
	})
	k.shed()
	restore()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := reserves(); n != before {
		t.Errorf("%d descriptors are left in reserve", n-before)
	}
}

// TestEveryListenerHasReserve: also one that was made by the classical calls.
func TestEveryListenerHasReserve(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		s, err := NewSocket(network)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = t.TempDir() + "/s"
		}
		if err := s.Bind(addr); err != nil {
			t.Fatal(err)
		}
		l, err := s.Listen(1)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l.a.(*kernelAcceptor).reserve == nil {
			t.Errorf("%s: no descriptor is kept in reserve", network)
		}
	}
}
