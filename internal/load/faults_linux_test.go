//go:build linux && !anysock_portable

package load

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/anysock/anysock/internal/sys"
)

// This file makes system calls fail under a run on event loops. No other test
// of the package may be at work, because the switch is for all; so none of these
// is parallel.

// failing makes the nth call of a kind fail, once.
func failing(t *testing.T, call sys.Call, nth int64, errno syscall.Errno) {
	t.Helper()
	var made atomic.Int64
	t.Cleanup(sys.Inject(func(c sys.Call, _ int) error {
		if c == call && made.Add(1) == nth {
			return errno
		}
		return nil
	}))
}

// outside is an echo server by package net, whose system calls are not those
// that fail here.
func outside(t *testing.T) (addr string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // the other end says how it went
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return "tcp://" + ln.Addr().String()
}

// A send or receive that fails in the middle is a failure of that connection,
// which is made again; every request is accounted for.
func TestLoopSurvivesFailingCalls(t *testing.T) {
	for name, test := range map[string]struct {
		call  sys.Call
		nth   int64
		errno syscall.Errno
		mode  Mode
		kind  string
		lost  int64 // at most: an answer may have come
	}{
		"send":          {sys.CallSend, 50, syscall.ENOBUFS, Echo, "truncated", 1},
		"receive":       {sys.CallRecv, 50, syscall.ENOMEM, Echo, "truncated", 1},
		"a reset":       {sys.CallRecv, 50, syscall.ECONNRESET, Echo, "reset", 1},
		"silence":       {sys.CallRecv, 50, syscall.ETIMEDOUT, Echo, "lost", 1},
		"connect":       {sys.CallConnect, 10, syscall.EADDRNOTAVAIL, Connect, "unreachable", 1},
		"socket":        {sys.CallSocket, 10, syscall.EMFILE, Connect, "limit", 1},
		"a refusal":     {sys.CallConnectError, 10, syscall.ECONNREFUSED, Connect, "refused", 1},
		"an answer":     {sys.CallRecv, 50, syscall.ECONNRESET, Connect, "reset", 1},
		"a disconnect":  {sys.CallShutdown, 20, syscall.ECONNRESET, Connect, "reset", 0},
		"send of a one": {sys.CallSend, 30, syscall.EPIPE, Connect, "reset", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := Work{Mode: test.mode, Connections: 2, Depth: 1, Size: 100, Requests: 500, Timeout: testTimeout}
			addr := outside(t)
			failing(t, test.call, test.nth, test.errno)
			r := mustRun(t, dialing(w, addr))
			if r.Engine != EngineLoops {
				t.Fatalf("made by %s", r.Engine)
			}
			if len(r.Failures) != 1 || r.Failures[0].Count != 1 || r.Failures[0].Kind != test.kind {
				t.Fatalf("failures %+v, want one of kind %s", r.Failures, test.kind)
			}
			if lost := r.Failures[0].Requests; r.Requests+lost != 500 || lost > test.lost {
				t.Errorf("%d answered, %d lost", r.Requests, lost)
			}
		})
	}
}

// Loops that cannot be made end the run before it begins, with a reason.
func TestLoopsThatCannotBeMade(t *testing.T) {
	for _, w := range []Work{
		{Mode: Echo, Connections: 3, Depth: 1, Size: 100, Requests: 10, Timeout: testTimeout},
		{Mode: Connect, Connections: 3, Size: 100, Requests: 10, Timeout: testTimeout},
	} {
		addr := outside(t)
		restore := sys.Inject(func(c sys.Call, fd int) error {
			if c == sys.CallPoll && fd == -1 {
				return syscall.EMFILE
			}
			return nil
		})
		_, err := Run(t.Context(), context.Background(), dialing(w, addr))
		restore()
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: %v", w.Mode, err)
		}
	}
}
