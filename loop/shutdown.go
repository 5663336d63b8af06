package loop

import (
	"context"
	"errors"
	"sync"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
)

// This file ends a Server.

// Drained says what became of the connections that Shutdown found.
type Drained struct {
	Queued   int `json:"queued"`   // accepted from the listeners' queues
	Finished int `json:"finished"` // ended by themselves, those of the queues included
	Cut      int `json:"cut"`      // aborted at the deadline
}

// ErrDrainDeadline is the reason of connections that Shutdown has cut.
var ErrDrainDeadline = errors.New("cut at the drain deadline")

// Shutdown ends the Server: it accepts what waits in the listeners' queues,
// closes them, and lets the connections finish. When ctx is done those that are
// left are aborted. Then the loops end. Its error is ctx's if it had to cut. A
// second Shutdown waits for the first one.
func (s *Server) Shutdown(ctx context.Context) (Drained, error) {
	s.init()
	if !s.stop() {
		<-s.over
		return Drained(s.count.Drained()), nil
	}
	s.closeListeners()
	s.count.Emptied()
	if n, _ := s.count.Active(); n > 0 && s.Draining != nil {
		s.Draining(n)
	}
	err := s.count.Wait(ctx)
	if err != nil {
		s.cut()
	}
	for _, core := range s.cores {
		core.loop.Tell(core.loop.Stop)
	}
	s.loops.Wait()
	close(s.over)
	s.watch.Wait()
	return Drained(s.count.Drained()), err
}

// stop turns newcomers away; first is false if that was done before.
func (s *Server) stop() (first bool) {
	s.mu.Lock() // a Serve that is beginning goes first
	defer s.mu.Unlock()
	return s.count.Stop()
}

// onEach runs f on every loop. A loop whose goroutine a handler has ended
// (runtime.Goexit) is left out.
func (s *Server) onEach(f func(*core)) {
	var all sync.WaitGroup
	for _, core := range s.cores {
		all.Add(1)
		told := core.loop.Tell(func() {
			defer all.Done()
			f(core)
		})
		if !told {
			all.Done()
		}
	}
	all.Wait()
}

// closeListeners takes what the queues hold and closes them.
func (s *Server) closeListeners() {
	s.onEach(func(core *core) {
		core.emptying = true
		for _, a := range core.acceptors {
			if _, err := a.Drain(); err != nil {
				s.warn(bridge.OpError(anysock.OpAccept, core.name, err))
			}
		}
	})
	s.mu.Lock()
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	for _, ln := range listeners {
		_ = ln.Close() // the socket file, and what was kept in reserve
	}
}

// cut aborts what is left.
func (s *Server) cut() {
	s.onEach(func(core *core) {
		for node := range core.loop.Nodes {
			if c, ok := node.Owner().(*Conn); ok {
				_ = c.abortAs(anysock.AbortedByUs, ErrDrainDeadline)
			}
		}
	})
}
