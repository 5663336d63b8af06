// This file holds the cases about how an ending shows and how it is recorded:
// contracts 1 and 10.

package socktest

import (
	"errors"
	"io"
	"sync"

	"github.com/anysock/anysock"
)

// endFollowsTheData: all that was sent comes first, then end of file, and
// that stays.
func endFollowsTheData(k *kit) {
	k.both(func(x, y conn) {
		sent := start(k, "Write", func() moved {
			m := write(x, 0, k.bulk)
			return moved{m.n, errors.Join(m.err, k.finish(x))}
		})
		k.wantEnd("reading", readToEnd(y, 0), int64(k.bulk))
		k.check("sending", sent.wait().err)
		buf := make([]byte, 1)
		for range 3 {
			n, err := y.Read(buf)
			if n != 0 || !errors.Is(err, io.EOF) {
				k.Fatalf("Read after the end of file: %d, %v; want 0, EOF", n, err)
			}
		}
		if n, err := y.ReadAtLeast(k.ctx, buf, 1); n != 0 || !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			k.Errorf("ReadAtLeast after the end of file: %d, %v; want 0, EOF", n, err)
		}
	})
}

// cutIsNoEnd: a carrier that breaks is an error on both sides.
func cutIsNoEnd(k *kit) {
	a, b, cut := k.cutPair()
	k.check("writing", write(a, 0, 1000).err)
	k.check("reading", readExactly(b, 0, 500))
	other := start(k, "Read", func() moved { return readToEnd(a, 0) })
	k.check("cutting", cut())
	for what, m := range map[string]moved{"the accepted end": readToEnd(b, 500), "the dialed end": other.wait()} {
		if m.err == nil {
			k.Fatalf("%s took the cut for the peer's end", what)
		}
		if m.n > 500 {
			k.Fatalf("%s read %d bytes of 500", what, m.n)
		}
	}
	for what, c := range map[string]conn{"accepted": b, "dialed": a} {
		k.wantUnfinished("the "+what+" end", k.end(c))
	}
}

// cutIsNoGracefulDisconnect: a Disconnect that waits for the peer's end does
// not take a cut for it.
func cutIsNoGracefulDisconnect(k *kit) {
	a, b, cut := k.cutPair()
	d := start(k, "Disconnect", func() error { _, err := a.Disconnect(k.ctx); return err })
	k.wantEnd("reading", readToEnd(b, 0), 0)
	k.check("cutting", cut())
	if err := d.wait(); err == nil {
		k.Errorf("Disconnect returned no error")
	}
	k.wantUnfinished("after Disconnect", k.end(a))
}

// cutPair makes a pair that can be cut.
func (k *kit) cutPair() (a, b conn, cut func() error) {
	k.Helper()
	x, y, cut, err := k.CutPair(k.ctx, anysock.Options{})
	k.check("making a connected pair", err)
	return k.owns(x), k.owns(y), cut
}

// wantUnfinished fails the case unless e says that data may be missing.
func (k *kit) wantUnfinished(what string, e anysock.End) {
	k.Helper()
	switch e.How {
	case anysock.Truncated, anysock.AbortedByPeer, anysock.Lost:
		if e.Err == nil {
			k.Errorf("%s: the ending is %q without an error", what, e)
		}
	default:
		k.Errorf("%s: the ending is %q, want truncated, aborted by peer or lost", what, e)
	}
}

// endingIsSetOnce: nothing before the end, one record at the end, and no call
// changes it.
func endingIsSetOnce(k *kit) {
	k.both(func(x, y conn) {
		for _, c := range []conn{x, y} {
			select {
			case <-c.Done():
				k.Fatalf("Done is closed before the end: %v", c.End())
			default:
			}
			k.wantHow("before the end", c.End(), anysock.NotEnded)
		}
		sent := start(k, "Write", func() moved {
			m := write(x, 0, 3000)
			return moved{m.n, errors.Join(m.err, x.Close())}
		})
		k.wantEnd("reading", readToEnd(y, 0), 3000)
		k.check("sending", sent.wait().err)
		k.check("Close", y.Close())
		xe, ye := k.end(x), k.end(y)
		if xe.Sent != 3000 || xe.Received != 0 || ye.Sent != 0 || ye.Received != 3000 {
			k.Errorf("3000 bytes went from x to y, but the endings are %q and %q", xe, ye)
		}
		for _, e := range []anysock.End{xe, ye} {
			if !e.How.Complete() || e.By == anysock.Nobody || e.Opened.IsZero() || e.Ended.Before(e.Opened) {
				k.Errorf("the ending of an orderly session is %q, opened %v, ended %v", e, e.Opened, e.Ended)
			}
		}
		_ = y.Abort()
		_ = x.Close()
		for range 3 {
			if now := x.End(); now != xe {
				k.Fatalf("the ending was %q and is now %q", xe, now)
			}
			if now := y.End(); now != ye {
				k.Fatalf("the ending was %q and is now %q", ye, now)
			}
			if now, _ := y.Disconnect(k.ctx); now != ye {
				k.Fatalf("the ending was %q and Disconnect says %q", ye, now)
			}
		}
	})
}

// A recorder keeps the events of all sockets of a case.
type recorder struct {
	mu     sync.Mutex
	events map[uint64][]anysock.Event
}

func (r *recorder) trace(ev anysock.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[ev.Socket] = append(r.events[ev.Socket], ev)
}

// noEventAfterTheEnd: a trace has one "end" for each connection, and it is
// the last event, also with calls at work that the ending wakes.
func noEventAfterTheEnd(k *kit) {
	for name, finish := range map[string]func(x, y conn) error{
		"Close on both sides":      func(x, y conn) error { return errors.Join(x.Close(), y.Close()) },
		"Abort on one side":        func(x, _ conn) error { return supported(x.Abort()) },
		"Disconnect on both sides": func(x, y conn) error { return disconnectBoth(k, x, y) },
	} {
		for range k.rounds {
			k.eventsOf(name, finish)
		}
	}
}

func supported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

func disconnectBoth(k *kit, x, y conn) error {
	d := start(k, "Disconnect", func() error { _, err := x.Disconnect(k.ctx); return err })
	_, err := y.Disconnect(k.ctx)
	return errors.Join(err, d.wait())
}

// eventsOf ends one session with calls at work and looks at its trace.
func (k *kit) eventsOf(name string, finish func(x, y conn) error) {
	r := &recorder{events: make(map[uint64][]anysock.Event)}
	k.trace = r.trace
	x, y := k.pair()
	var calls []*task[error]
	for _, c := range []conn{x, y} {
		calls = append(calls,
			start(k, "Read", func() error { return readToEnd(c, 0).err }),
			start(k, "Wait", func() error { _, err := c.Wait(k.ctx, anysock.Readable, 1); return err }),
			start(k, "Write", func() error { return write(c, 0, 100).err }))
	}
	k.check(name, finish(x, y))
	for _, c := range calls {
		_ = c.wait() // whatever it returned: the ending may have cut it short
	}
	_ = y.Close()
	k.end(x)
	k.end(y)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range []conn{x, y} {
		events, ends := r.events[c.ID()], 0
		for i, ev := range events {
			if ev.Op != anysock.OpEnd {
				continue
			}
			ends++
			if i < len(events)-1 {
				k.Fatalf("%s: after the end event came: %v", name, events[i+1])
			}
			if e := c.End(); ev.End == nil || ev.End.How != e.How || ev.End.Sent != e.Sent || ev.End.Received != e.Received {
				k.Fatalf("%s: the end event says %v, End says %v", name, ev.End, e)
			}
		}
		if ends != 1 {
			k.Fatalf("%s: %d end events of one connection", name, ends)
		}
	}
}
