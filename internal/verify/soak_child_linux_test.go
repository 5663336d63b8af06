//go:build linux && !anysock_portable

package verify_test

// This file is the process that the soak is about: relays and servers, on
// goroutines and on loops, in which system calls fail at random.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/loop"
	"github.com/anysock/anysock/relay"
)

// init makes this process those servers if it was started as them.
func init() {
	targets := os.Getenv(soakRole)
	if targets == "" {
		return
	}
	if err := soakServers(strings.Fields(targets)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// soakRole is the environment variable that makes this binary the servers
// of the soak.
const soakRole = "ANYSOCK_SOAK_SERVERS"

// A flaw is an error that a system call may give, once in so many calls.
type flaw struct {
	errno syscall.Errno
	oneIn uint64
}

// flaws are what the soak injects. EINTR is to be ridden out, and so is what
// accept says; others may cost the connection.
var flaws = map[sys.Call][]flaw{
	sys.CallAccept: {
		{syscall.EINTR, 20}, {syscall.ECONNABORTED, 40}, {syscall.EMFILE, 60}, {syscall.ENFILE, 200}, {syscall.ENOBUFS, 200}, {syscall.ENOMEM, 200},
	},
	sys.CallSocket:       {{syscall.EMFILE, 200}, {syscall.ENOBUFS, 400}},
	sys.CallSetsockopt:   {{syscall.ENOBUFS, 2000}, {syscall.EINVAL, 2000}},
	sys.CallConnect:      {{syscall.EINTR, 50}, {syscall.ECONNREFUSED, 100}, {syscall.EADDRNOTAVAIL, 200}, {syscall.ETIMEDOUT, 300}},
	sys.CallConnectError: {{syscall.EINTR, 50}, {syscall.ECONNREFUSED, 300}},
	sys.CallRecv:         {{syscall.EINTR, 20}, {syscall.ENOMEM, 20_000}, {syscall.ECONNRESET, 20_000}, {syscall.ETIMEDOUT, 20_000}},
	sys.CallPeek:         {{syscall.EINTR, 20}, {syscall.ENOMEM, 5000}, {syscall.ECONNRESET, 5000}},
	sys.CallSend:         {{syscall.EINTR, 20}, {syscall.ENOBUFS, 5000}, {syscall.ENOMEM, 20_000}, {syscall.EPIPE, 20_000}, {syscall.ECONNRESET, 20_000}},
	sys.CallSendv:        {{syscall.EINTR, 20}, {syscall.ENOBUFS, 5000}},
	sys.CallSplice:       {{syscall.EINTR, 20}, {syscall.ENOMEM, 5000}, {syscall.EINVAL, 5000}, {syscall.ECONNRESET, 20_000}},
	sys.CallPipe:         {{syscall.EMFILE, 20}, {syscall.ENFILE, 50}},
	sys.CallShutdown:     {{syscall.ENOBUFS, 2000}},
	sys.CallUnacked:      {{syscall.EINTR, 20}, {syscall.EINVAL, 1000}},
	sys.CallUnread:       {{syscall.EINTR, 20}, {syscall.EINVAL, 1000}},
	sys.CallInfo:         {{syscall.EINTR, 20}, {syscall.EINVAL, 500}},
	sys.CallPoll:         {{syscall.EINTR, 50}, {syscall.ENOMEM, 5000}},
}

// A wrecker injects them.
type wrecker struct {
	seed  uint64
	calls atomic.Uint64
	calm  atomic.Bool

	mu       sync.Mutex
	injected map[string]int64
}

func (w *wrecker) fault(call sys.Call, _ int) error {
	if w.calm.Load() {
		return nil
	}
	// A mixed number for each call and each flaw: SplitMix64.
	x := w.seed + w.calls.Add(1)*0x9e3779b97f4a7c15
	for _, f := range flaws[call] {
		x += 0x9e3779b97f4a7c15
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		if (z^z>>31)%f.oneIn == 0 {
			w.mu.Lock()
			w.injected[string(call)]++
			w.mu.Unlock()
			return f.errno
		}
	}
	return nil
}

// A soakStats is how the relays' process is, for the test.
type soakStats struct {
	Descriptors, Goroutines int
	Heap, Stacks            int64 // bytes in use, after a collection
	Active                  int64
	Accepted                map[string]int64 // by station
	Injected                map[string]int64
}

// A station is one server of that process.
type station struct {
	Name, Address string
	Echo          bool // else it is a relay to the target given

	count    func() (accepted, active int64)
	shutdown func() error
}

// soakServers is the servers' process: it says where they are, one JSON line, and
// then answers each line on its standard input with its stats, until that ends.
// "calm" stops the faults.
func soakServers(targets []string) error {
	w := &wrecker{injected: map[string]int64{}}
	if only := os.Getenv(soakRole + "_ONLY"); only != "" {
		maps.DeleteFunc(flaws, func(call sys.Call, _ []flaw) bool {
			return !slices.Contains(strings.Split(only, ","), string(call))
		})
	}
	if _, err := fmt.Sscan(os.Getenv(soakRole+"_SEED"), &w.seed); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// With small buffers every call is a short one.
	small := anysock.Options{ReceiveBuffer: 4 << 10, SendBuffer: 4 << 10}
	var stations []*station
	for _, start := range []func() (*station, error){
		func() (*station, error) { return soakRelay("relay", anyPort, targets[0], anysock.Options{}) },
		func() (*station, error) { return soakRelay("relay, small buffers", anyPort, targets[1], small) },
		func() (*station, error) {
			return soakRelay("relay of unix", "unix:"+filepath.Join(dir, "s"), targets[2], anysock.Options{})
		},
		soakEcho,
		func() (*station, error) { return soakLoop("echo on loops", loop.Echo()) },
		func() (*station, error) { return soakLoop("echo of coroutines", loop.Handler{Serve: sendBack}) },
	} {
		st, err := start()
		if err == nil {
			err = st.serves()
		}
		if err != nil {
			return err
		}
		stations = append(stations, st)
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(stations); err != nil {
		return err
	}
	restore := sys.Inject(w.fault)
	defer restore()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "calm" {
			w.calm.Store(true)
		}
		if err := out.Encode(statsOf(w, stations)); err != nil {
			return err
		}
	}
	for _, st := range stations {
		if err := st.shutdown(); err != nil {
			return fmt.Errorf("%s: %w", st.Name, err)
		}
	}
	return nil
}

// serves waits until it accepts: what fails before is the program's start, which
// the soak is not about.
func (st *station) serves() error {
	ctx, cancel := context.WithTimeout(context.Background(), soakPatience)
	defer cancel()
	c, err := anysock.Dial(ctx, st.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Abort() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if accepted, _ := st.count(); accepted > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s does not accept", st.Name)
		}
	}
}

const anyPort = "tcp://127.0.0.1:0"

// addressOf is the address of ln for Dial.
func addressOf(ln *anysock.Listener) string { return ln.Network() + schemeEnd(ln) + ln.Addr().String() }

func schemeEnd(ln *anysock.Listener) string {
	if ln.Network() == "unix" {
		return ":"
	}
	return "://"
}

func soakRelay(name, from, to string, options anysock.Options) (*station, error) {
	lc := anysock.ListenConfig{Options: options}
	ln, err := lc.Listen(context.Background(), from)
	if err != nil {
		return nil, err
	}
	at := addressOf(ln)
	r := &relay.Relay{
		Target: anysock.MustParseAddress(to), Drain: time.Minute,
		Dialer: anysock.Dialer{Options: options, Retry: anysock.Retry{Attempts: 3, Interval: 20 * time.Millisecond}},
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()
	return &station{
		Name: name, Address: at,
		count: func() (int64, int64) { st := r.Stats(); return st.Accepted, int64(st.Active) },
		shutdown: func() error {
			d, err := r.Shutdown(context.Background())
			if err == nil && d.Cut > 0 {
				err = fmt.Errorf("drained: %+v", d)
			}
			return errors.Join(err, <-served)
		},
	}, nil
}

// soakEcho is the service on goroutines.
func soakEcho() (*station, error) {
	ln, err := anysock.Listen(context.Background(), anyPort)
	if err != nil {
		return nil, err
	}
	var accepted, active atomic.Int64
	var wg sync.WaitGroup
	served := make(chan error, 1)
	go func() {
		for c, err := range ln.Conns(context.Background()) {
			if err != nil {
				served <- err
				return
			}
			accepted.Add(1)
			active.Add(1)
			wg.Go(func() {
				defer active.Add(-1)
				_ = anysock.ServeEcho(context.Background(), c) // its client is asked how it went
			})
		}
		served <- nil
	}()
	return &station{
		Name: "echo", Address: addressOf(ln), Echo: true,
		count: func() (int64, int64) { return accepted.Load(), active.Load() },
		shutdown: func() error {
			err := ln.Close()
			err = errors.Join(err, <-served)
			wg.Wait()
			return err
		},
	}, nil
}

func soakLoop(name string, h loop.Handler) (*station, error) {
	srv := &loop.Server{Handler: h}
	lns, err := srv.Listen(context.Background(), anyPort)
	if err != nil {
		return nil, err
	}
	at := addressOf(lns[0])
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), lns...) }()
	return &station{
		Name: name, Address: at, Echo: true,
		count: func() (int64, int64) { st := srv.Stats(); return st.Accepted, int64(st.Active) },
		shutdown: func() error {
			_, err := srv.Shutdown(context.Background())
			return errors.Join(err, <-served)
		},
	}, nil
}

// sendBack is an echo as a coroutine.
func sendBack(s *loop.Stream) error {
	for {
		p, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := s.Write(p); err != nil {
			return err
		}
	}
}

func statsOf(w *wrecker, stations []*station) soakStats {
	// What pools hold goes with the second collection, what has finalizers and was
	// held by such with the ones after that.
	for range 4 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	st := soakStats{Descriptors: len(fds), Goroutines: runtime.NumGoroutine(), Heap: int64(m.HeapAlloc), Stacks: int64(m.StackInuse), Accepted: map[string]int64{}}
	for _, x := range stations {
		accepted, active := x.count()
		st.Accepted[x.Name] = accepted
		st.Active += active
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	st.Injected = maps.Clone(w.injected)
	return st
}
