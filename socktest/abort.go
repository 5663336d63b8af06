// This file holds the cases about aborting: contract 6, and that a reset is
// never an end of file, whoever notices it (contract 1).

package socktest

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/anysock/anysock"
)

// abortNow aborts c where that is declared.
func (k *kit) abortNow(c conn) {
	k.Helper()
	k.check("Abort", c.Abort())
}

// stillReset checks what every look at y must say after its peer's abort.
func (k *kit) stillReset(y conn) {
	k.Helper()
	for range 2 {
		k.wantReset("Read", readToEnd(y, 0).err)
	}
	e := k.end(y)
	k.wantHow("the aborted end", e, anysock.AbortedByPeer)
	if e.By != anysock.Peer || e.Err == nil {
		k.Errorf("the ending is by %s with the error %v, want by peer with an error", e.By, e.Err)
	}
}

// resetSeenByRead: an abort in the middle of a message is no end of that
// message. A well-known TCP relay makes a client's reset an end of file at
// the backend, and a truncated upload looks complete.
func resetSeenByRead(k *kit) {
	k.both(func(x, y conn) {
		sent := k.send(x, 0, 1000)
		k.check("reading", readExactly(y, 0, 500))
		rest := start(k, "Read", func() moved { return readToEnd(y, 500) })
		k.abortNow(x)
		m := rest.wait()
		k.wantReset("Read in the middle of a message", m.err)
		if m.n > 500 {
			k.Errorf("%d bytes came of 500", m.n)
		}
		sent.wait()
		k.stillReset(y)
	})
}

// resetSeenByWrite: a write that notices the abort says so, and the next read
// does too, though the kernel would then say end of file.
func resetSeenByWrite(k *kit) {
	k.both(func(x, y conn) {
		k.abortNow(x)
		k.wantReset("Write", flood(y, k.most(), floodChunk).err)
		k.stillReset(y)
	})
}

// resetSeenByWait: waiting for readability sees the abort, and leaves it for
// the read.
func resetSeenByWait(k *kit) {
	k.both(func(x, y conn) {
		before := start(k, "Wait", func() error { return waitReadable(k, y) })
		k.abortNow(x)
		k.check("Wait that began before the abort", before.wait())
		k.check("Wait that began after it", waitReadable(k, y))
		k.stillReset(y)
	})
}

// waitReadable waits until y can be read; the peer's reset is fine.
func waitReadable(k *kit, y conn) error {
	r, err := y.Wait(k.ctx, anysock.Readable, 1)
	switch {
	case isKind(err, anysock.KindReset):
	case err != nil:
		return err
	case r == 0:
		return errors.New("no condition and no error")
	}
	return nil
}

// resetSeenBySelector: the same among many, where the platform has a Selector
// and the connection a descriptor that it can watch.
func resetSeenBySelector(k *kit) {
	k.both(func(x, y conn) {
		s, err := k.newSelector()
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		k.check("NewSelector", err)
		defer s.Close()
		err = s.Add(y, anysock.Readable)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		k.check("Add", err)
		k.abortNow(x)
		ready, err := s.Wait(k.ctx)
		k.check("Selector.Wait", err)
		if len(ready) != 1 || ready[0].Source != anysock.Source(y) || ready[0].Ready == 0 {
			k.Fatalf("the selector reports %v, want the aborted connection", ready)
		}
		k.stillReset(y)
	})
}

// resetSeenByDisconnect: a Disconnect that waits for the peer's end reports
// the abort.
func resetSeenByDisconnect(k *kit) {
	k.both(func(x, y conn) {
		d := start(k, "Disconnect", func() error { _, err := y.Disconnect(k.ctx); return err })
		k.wantEnd("reading", readToEnd(x, 0), 0)
		k.abortNow(x)
		k.wantReset("Disconnect", d.wait())
		k.wantHow("the aborted end", k.end(y), anysock.AbortedByPeer)
	})
}

// resetSeenByBackgroundClose: so does the disconnect that Close leaves in the
// background.
func resetSeenByBackgroundClose(k *kit) {
	k.both(func(x, y conn) {
		k.check("Close", y.Close())
		k.wantEnd("reading", readToEnd(x, 0), 0)
		k.abortNow(x)
		e := k.end(y)
		k.wantHow("the aborted end", e, anysock.AbortedByPeer)
		if !isKind(e.Err, anysock.KindReset) {
			k.Errorf("the ending's error is %v, want a reset", e.Err)
		}
	})
}

// abortIsOurEnding: Abort wakes our callers, is recorded as ours, and a second
// one does nothing.
func abortIsOurEnding(k *kit) {
	k.both(func(x, y conn) {
		reading := start(k, "Read", func() error { return readToEnd(x, 0).err })
		writing := k.flood(x)
		k.quiet(x.Sent)
		k.check("Abort", supported(x.Abort()))
		k.wantIs("Read at work", reading.wait(), net.ErrClosed)
		k.wantIs("Write at work", writing.wait().err, net.ErrClosed)
		e := k.end(x)
		k.wantHow("the aborting end", e, anysock.AbortedByUs)
		if e.By != anysock.Us {
			k.Errorf("the ending is by %s, want by us", e.By)
		}
		k.check("a second Abort", x.Abort())
		k.check("Close after Abort", x.Close())
		// The peer hears of it in any case: as a reset where that is declared.
		readToEnd(y, 0)
	}, smallBuffers)
}

// abortFreesBothCopies: two goroutines copy between two connections, one is
// blocked in its write and the other in its read; aborting both connections
// ends both. Relays of this form leak one goroutine (golang/go#67337).
func abortFreesBothCopies(k *kit) {
	client, inbound := k.pair(smallBuffers)
	outbound, _ := k.pair(smallBuffers) // its peer never reads
	there := start(k, "io.Copy to a peer that does not read", func() error {
		_, err := io.Copy(outbound, inbound)
		return err
	})
	back := start(k, "io.Copy from a peer that does not write", func() error {
		_, err := io.Copy(inbound, outbound)
		return err
	})
	fed := k.flood(client)
	k.quiet(client.Sent)
	k.check("Abort", errors.Join(supported(inbound.Abort()), supported(outbound.Abort())))
	for _, t := range []*task[error]{there, back} {
		if err := t.wait(); err == nil {
			k.Errorf("%s: no error after Abort", t.what)
		}
	}
	if err := fed.wait().err; err == nil || errors.Is(err, errNotStopped) {
		k.Errorf("the client's write ended with %v", err)
	}
}

// abortRaces: whatever is called at the same time as Abort returns, and both
// ends have an ending.
func abortRaces(k *kit) {
	for i := range k.rounds {
		x, y := k.pair()
		k.raceOn(x, i, "Abort", func() error { return supported(x.Abort()) })
		k.end(x)
		readToEnd(y, 0)
		_ = y.Close()
		k.end(y)
	}
}

// raceOn calls everything on x at once, in another order in each round, and
// what ends it at the same time or a moment later.
func (k *kit) raceOn(x conn, round int, name string, end func() error) {
	k.Helper()
	type call struct {
		name string
		f    func() error
	}
	calls := []call{
		{"Read", func() error { return readToEnd(x, 0).err }},
		{"Write", func() error { return flood(x, int64(k.bulk), floodChunk).err }},
		{"Wait", func() error { _, err := x.Wait(k.ctx, anysock.Readable, 1); return err }},
		{"SetReadDeadline", func() error { return x.SetReadDeadline(deadlineFarOff()) }},
		{"CloseWrite", x.CloseWrite},
		{"CloseRead", x.CloseRead},
		{"Disconnect", func() error {
			ctx, cancel := context.WithTimeout(k.ctx, k.bound/2)
			defer cancel()
			_, err := x.Disconnect(ctx)
			return err
		}},
		{"Close", x.Close},
		{name, func() error {
			k.idle(jitter(round))
			return end()
		}},
	}
	gate := make(chan struct{})
	var tasks []*task[error]
	for i := range calls {
		c := calls[(i+round)%len(calls)]
		tasks = append(tasks, start(k, c.name, func() error {
			<-gate
			return c.f()
		}))
	}
	close(gate)
	for _, t := range tasks {
		_ = t.wait() // the errors depend on who came first; returning does not
	}
}
