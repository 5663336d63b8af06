package relay_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// TestReadersThatStop: clients that read nothing cost a bounded buffer each,
// however much their servers offer; the servers are stopped, not lost; and what
// was taken arrives when the clients read on.
func TestReadersThatStop(t *testing.T) { onEngines(t, testReadersThatStop) }

func testReadersThatStop(t *testing.T) {
	needsBackend(t)
	const (
		clients = 1000
		offered = 100 << 20
		socket  = 64 << 10 // buffer asked for; the kernel doubles it
		// Two sockets of the kernel on each side of the relay, and a pipe.
		perClient = 4*2*socket + 1<<20
		// Goroutines' stacks and what a session is.
		perClientHeap = 96 << 10
	)
	small := anysock.Options{ReceiveBuffer: socket, SendBuffer: socket}
	target := listen(t, anysock.ListenConfig{Options: small}, "tcp://127.0.0.1:0")
	front := listen(t, anysock.ListenConfig{Options: small}, "tcp://127.0.0.1:0")
	r := &relay.Relay{Target: anysock.MustParseAddress(dialable(target)), Dialer: anysock.Dialer{Options: small}, Drain: -1, Loops: loops}
	var taken atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var servers sync.WaitGroup
	block := make([]byte, 16<<10)
	servers.Go(func() {
		for c, err := range target.Conns(ctx) {
			if err != nil {
				return
			}
			servers.Go(func() {
				defer func() { _ = c.Abort() }()
				for sent := 0; sent < offered; {
					n, err := c.WriteContext(ctx, block)
					taken.Add(int64(n))
					sent += n
					if err != nil {
						return
					}
				}
			})
		}
	})
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.Serve(ctx, front) })
	t.Cleanup(func() {
		stop()
		_, _ = r.Shutdown(context.Background())
		serving.Wait()
		servers.Wait()
	})

	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := heap()
	var conns []*anysock.Conn
	d := anysock.Dialer{Options: small}
	for range clients {
		c, err := d.Dial(ctx, dialable(front))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Abort() })
		conns = append(conns, c)
	}
	// Writers are stopped when nothing was taken for a while.
	for last, quiet := int64(-1), 0; quiet < 5; {
		<-time.After(100 * time.Millisecond)
		if n := taken.Load(); n != last {
			last, quiet = n, 0
		} else {
			quiet++
		}
	}
	if n := taken.Load(); n > clients*perClient {
		t.Errorf("%d bytes were taken for %d clients that read nothing, more than %d each", n, clients, perClient)
	}
	if grown := heap() - before; grown > clients*perClientHeap {
		t.Errorf("the heap and stacks have grown by %d bytes, more than %d for each client", grown, perClientHeap)
	}
	t.Logf("taken %d kB, heap and stacks %d kB for each client", taken.Load()/clients>>10, (heap()-before)/clients>>10)
	if st := r.Stats(); st.Active != clients {
		t.Errorf("%d of %d connections are there", st.Active, clients)
	}
	// One that reads on gets more than everybody's share: its server goes on.
	got, err := conns[0].ReadAtLeast(ctx, make([]byte, 4*perClient), 4*perClient)
	if err != nil {
		t.Errorf("reading on: %d bytes, %v", got, err)
	}
}
