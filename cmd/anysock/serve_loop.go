package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// This file serves the connections of echo, discard and chargen on event loops:
// those of tcp and unix without layers, unless every step is to be traced.

// onLoops reports whether a loop can serve addr.
func onLoops(addr anysock.Address) bool {
	hops := addr.Hops()
	if len(hops) != 1 || len(hops[0].Layers) != 1 {
		return false
	}
	switch hops[0].Layers[0].Scheme {
	case "tcp", "tcp4", "tcp6", "unix":
		return true
	}
	return false
}

// maxEndRecords bounds the endings that wait to be written. When nobody takes
// what is written the loops wait, and the clients with them.
const maxEndRecords = 1024

// spareProcessor returns how many loops there are to be, one for each processor,
// and has the scheduler use one processor more: the loops keep theirs while they
// are busy (package loop), and the rest of the program is not to wait for them.
func spareProcessor() (loops int) {
	loops = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(loops + 1)
	return loops
}

// serveOnLoops is serve for a handler on loops.
func (a *app) serveOnLoops(addr anysock.Address, lc anysock.ListenConfig, o serverOptions, h loop.Handler, in *interrupts) error {
	loops := spareProcessor()
	lns, err := lc.ListenEach(in.drain, addr, loops)
	if err != nil {
		return err
	}
	broken := a.drainOnBrokenRecords(in)
	a.tellBound(addr, lns[0])

	// What is written about connections is written aside, so that the loops
	// wait for nobody.
	if a.tellsConnections() {
		notes := make(chan func(), maxEndRecords)
		var writing sync.WaitGroup
		writing.Add(1)
		a.spawn(func() {
			defer writing.Done()
			for note := range notes {
				note()
			}
		})
		defer writing.Wait()
		defer close(notes) // after Shutdown: no handler runs then
		opened := h.Open
		h.Open = func(c *loop.Conn) {
			peer := peerName(anysock.End{Local: c.LocalAddr(), Peer: c.RemoteAddr()})
			notes <- func() { a.log.Info("accepted " + peer) }
			if opened != nil {
				opened(c)
			}
		}
		h.Ended = func(_ *loop.Conn, end anysock.End) {
			notes <- func() {
				a.record(a.endLevel(), "end", peerName(end)+": "+endText(end), end.How, newEndRecord(end))
			}
		}
	}
	srv := loop.Server{
		Handler: h, Loops: loops, Idle: o.idle,
		Draining: func(n int) { a.tellDrain(in, n, o.drain) },
	}
	stop := a.watchExhausted(lns...)
	err = srv.Serve(in.drain, lns...)
	stop()
	if in.drain.Err() != nil {
		err = nil
	}
	limit, cancel := context.WithTimeout(in.abort, o.drain)
	defer cancel()
	done, _ := srv.Shutdown(limit) // that it had to cut is told below
	if done.Cut > 0 {
		return errors.Join(err, cutError(done.Cut, o.drain, in))
	}
	return errors.Join(err, broken())
}

// tellsConnections reports whether anything is written about a connection.
func (a *app) tellsConnections() bool {
	return a.json || a.log.Enabled(a.ctx, a.endLevel()) || a.log.Enabled(a.ctx, slog.LevelInfo)
}
