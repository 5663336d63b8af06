// This file asks an idle peer for signs of life
// (docs/LIFECYCLE-PROTOCOL.md, section 6).

package lifecycle

import (
	"fmt"
	"time"

	"github.com/anysock/anysock"
)

// aliveness is the state of asking, guarded by the stream's mu.
type aliveness struct {
	alive    *time.Timer // nil: nobody is asked
	probes   int         // PINGs in a row that nothing followed, with all DATA confirmed
	probedAt int64       // heard's mark when the last of them was sent

	pongTimer *time.Timer // sends the PONG that was held back; nil until the first
	pongHeld  bool        // it is running
	pongedAt  int64       // when the last PONG became due, as elapsed says; 0 is never
}

func (s *stream) startLiveness() {
	if s.live.idle == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive = time.AfterFunc(s.live.idle, s.onAlive)
}

// stopLiveness ends it; mu is held.
func (s *stream) stopLiveness() {
	if s.alive != nil {
		s.alive.Stop()
	}
	if s.pongTimer != nil {
		s.pongTimer.Stop()
	}
}

// onAlive runs when the peer may have been silent for long enough.
func (s *stream) onAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.failure != nil || s.complete() {
		return
	}
	if s.heard.at.Load() != s.probedAt {
		s.probes = 0
	}
	silent := s.heard.since()
	if silent < s.live.idle && s.probes == 0 {
		s.alive.Reset(s.live.idle - silent)
		return
	}
	if s.reader == nobody {
		if s.payload > 0 {
			// Our own program does not read: the answers wait behind its DATA.
			s.probes = 0
			s.alive.Reset(s.live.interval)
			return
		}
		s.watch()
	}
	if s.confirmed != s.sent {
		// The peer's program may not be reading: no verdict. One PING behind
		// the DATA says when it has taken everything.
		s.probes = 0
		s.ask()
		s.alive.Reset(s.live.interval)
		return
	}
	if s.probes >= s.live.count && s.due&duePing == 0 {
		_ = s.fail(&anysock.Error{
			Op: anysock.OpWait, Addr: peerName(s.below), Kind: anysock.KindLost,
			Err:  fmt.Errorf("no sign of life for %s: %w", silent.Round(time.Millisecond), errSilent),
			Hint: "the peer or the path to it is gone",
		})
		return
	}
	if s.due&duePing == 0 { // one that the carrier has not taken asks nobody
		s.probes++
		s.probedAt = s.heard.at.Load()
		s.due |= duePing
		s.kick()
	}
	s.alive.Reset(s.live.interval)
}

// ask sends a PING behind all DATA, unless one is out already; mu is held.
func (s *stream) ask() {
	if s.pinged && s.lastPing == s.sent {
		return
	}
	s.due |= duePing
	s.kick()
}

// owePong answers a PING: at once, or with the others that come within
// pongEvery, so that a peer that asks often is not answered as often. mu is
// held.
func (s *stream) owePong(count int64) {
	s.pong = count
	if s.pongHeld {
		return // with what comes until then
	}
	now := elapsed()
	wait := pongEvery - time.Duration(now-s.pongedAt)
	if s.pongedAt == 0 || wait <= 0 {
		s.pongedAt = now
		s.due |= duePong
		s.kick()
		return
	}
	s.pongHeld = true
	if s.pongTimer == nil {
		s.pongTimer = time.AfterFunc(wait, s.onPong)
	} else {
		s.pongTimer.Reset(wait)
	}
}

func (s *stream) onPong() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pongHeld = false
	if s.closed || s.writeErr != nil {
		return
	}
	s.pongedAt = elapsed()
	s.due |= duePong
	s.kick()
}
