// This file looks at the carrier while the program does not: an ABORT, an END
// and a PING are noticed in every state in which no DATA is in front of them.

package lifecycle

import (
	"context"
	"time"

	"github.com/anysock/anysock"
)

// The tick is a timer that runs while the program uses the connection. When
// the program has not read for a while somebody else watches the carrier; when
// it has been reading for as long and nothing came, its buffer goes back.

// tick is the timer's state, guarded by the stream's mu.
type tick struct {
	timer *time.Timer
	armed bool
	calm  bool // nothing has happened since it was armed

	endFailureWatch context.CancelFunc // of the watch for the carrier's failure; nil is none
}

// armTick starts the timer; mu is held.
func (s *stream) armTick() {
	s.calm = false
	if s.armed || s.closed || s.failure != nil {
		return
	}
	s.armed = true
	if s.timer == nil {
		s.timer = time.AfterFunc(watchAfter, s.onTick)
		return
	}
	s.timer.Reset(watchAfter)
}

// stopTick ends it; mu is held.
func (s *stream) stopTick() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

func (s *stream) onTick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	switch {
	case s.closed || s.failure != nil:
	case !s.calm:
		s.armTick()
		s.calm = true
	case s.reader == nobody:
		s.watch()
	case s.reader == program:
		if s.holding.Load() {
			s.trim = true
			s.readApplied = longAgo
			_ = s.below.SetReadDeadline(longAgo)
		}
	}
}

// watch has the carrier read by a goroutine until a DATA frame, a failure, or
// the program comes; nothing happens if somebody reads. mu is held.
func (s *stream) watch() {
	if s.reader != nobody || s.closed || s.failure != nil || s.payload > 0 {
		return
	}
	s.startWatching(time.Time{})
	s.owned.Add(1)
	go s.runWatch()
}

// startWatching makes ourselves the reader until the deadline; mu is held.
func (s *stream) startWatching(until time.Time) {
	s.reader = ourselves
	s.wanted = false
	s.left = make(chan struct{})
	s.applyRead(until)
}

// stopWatching gives the carrier back; mu is held.
func (s *stream) stopWatching() {
	s.reader = nobody
	s.unread.Store(int64(s.payload))
	close(s.left)
	s.move()
}

// runWatch is owned by the stream, whose Close and Abort wait for it.
func (s *stream) runWatch() {
	defer s.owned.Done()
	s.giveBuffer()
	_ = s.readControl()
	s.mu.Lock()
	s.stopWatching()
	if s.payload == 0 || s.wanted || s.failure != nil || s.closed {
		s.mu.Unlock()
		return
	}
	// The program's DATA is in front of everything; but the carrier can fail.
	ctx, cancel := context.WithCancel(context.Background())
	s.endFailureWatch = cancel
	s.mu.Unlock()
	defer cancel()
	r, err := s.below.Wait(ctx, 0, 1)
	if err == nil && r&anysock.Failed != 0 {
		s.mu.Lock()
		s.notice()
		s.mu.Unlock()
	}
}

// stopFailureWatch ends the watch for the carrier's failure; mu is held.
func (s *stream) stopFailureWatch() {
	if s.endFailureWatch != nil {
		s.endFailureWatch()
		s.endFailureWatch = nil
	}
}

// readControl reads frames until DATA is at hand, or something ends it.
func (s *stream) readControl() error {
	for s.payload == 0 {
		if err := s.step(); err != nil {
			return s.watchFailed(err)
		}
	}
	return nil
}

// watchFailed is the watcher's answer to an error from below.
func (s *stream) watchFailed(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	if isDeadline(err) {
		return err
	}
	return s.carrierEnded(err)
}

// look reads what the carrier holds after a write has failed, for lookBound at
// most: the peer may have said why. A reader that is at work finds it itself,
// and is given as long.
func (s *stream) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil || s.closed {
		return
	}
	if s.reader != nobody {
		limit := time.NewTimer(lookBound)
		defer limit.Stop()
		for s.reader != nobody && s.failure == nil && s.awaitFor(limit.C) {
		}
		return
	}
	s.startWatching(time.Now().Add(lookBound))
	s.mu.Unlock()
	_ = s.readControl()
	s.mu.Lock()
	s.stopWatching()
}
