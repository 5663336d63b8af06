package attendance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPlacesAreExact: never more than the limit, and nobody who waits is
// forgotten, whether in Wait or told by OnFreed.
func TestPlacesAreExact(t *testing.T) {
	const limit, each = 3, 3000
	p := &Places{Limit: limit}
	freed := make(chan struct{}, 1)
	p.OnFreed(func() {
		select {
		case freed <- struct{}{}:
		default:
		}
	})
	var now, served atomic.Int64
	serve := func() {
		if n := now.Add(1); n > limit {
			t.Errorf("%d places of %d are taken", n, limit)
		}
		served.Add(1)
		now.Add(-1)
		p.Give()
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range each {
				if ok, err := p.Wait(context.Background(), nil); !ok || err != nil {
					t.Errorf("Wait: %t, %v", ok, err)
				}
				serve()
			}
		})
	}
	all.Go(func() { // as a loop does
		for range each {
			for !p.Reserve() {
				select {
				case <-freed:
				case <-time.After(10 * time.Second):
					t.Error("a place was free, and nobody said so")
					return
				}
			}
			serve()
		}
	})
	all.Wait()
	if served.Load() != 5*each {
		t.Errorf("%d of %d were served", served.Load(), 5*each)
	}
}

// TestPlacesWaitEnds: by the context and by the end.
func TestPlacesWaitEnds(t *testing.T) {
	p := &Places{Limit: 1}
	if !p.Try() || p.Try() {
		t.Fatal("not one place")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if ok, err := p.Wait(ctx, nil); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("%t, %v", ok, err)
	}
	closed := make(chan struct{})
	close(closed)
	if ok, err := p.Wait(context.Background(), closed); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	var none Places
	for range 10 {
		if !none.Try() || !none.Reserve() {
			t.Error("no bound, and no place")
		}
	}
}

// TestCount: idle is when the queues are empty, no Serve is at work and no
// connection is there, in whatever order.
func TestCount(t *testing.T) {
	c := New()
	if !c.Enter() {
		t.Fatal("nobody may enter")
	}
	c.Begin(false)
	c.Begin(true) // not by Shutdown yet
	c.End(false)
	waited := make(chan error, 1)
	go func() { waited <- c.Wait(context.Background()) }()
	if !c.Stop() || c.Stop() || c.Enter() || !c.Stopping() {
		t.Error("Stop is not the end")
	}
	<-c.Closed()
	c.Begin(true)
	c.Emptied()
	c.Leave()
	c.End(false)
	select {
	case <-c.Idle():
		t.Error("idle with a connection")
	default:
	}
	if now, all := c.Active(); now != 1 || all != 3 {
		t.Errorf("%d now, %d in all", now, all)
	}
	c.End(true)
	<-c.Idle()
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if d := c.Drained(); d != (Drained{Queued: 1, Finished: 1, Cut: 1}) {
		t.Errorf("%+v", d)
	}
}
