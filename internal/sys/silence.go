package sys

import "time"

// This file judges whether a TCP peer, or the path to it, is gone, from looks
// at what the kernel knows. A live peer that reads nothing can leave one probe
// unanswered, and its answers can be two minutes apart, so silence needs
// several unanswered segments too (docs/notes/zero-window).

// ChecksPerBound is how often Silence is to be asked within its bound: the
// verdict comes within the bound, at most an eighth early.
const ChecksPerBound = 8

// minUnanswered is how many segments must have gone out in vain.
const minUnanswered = 3

// A Silence is one connection's, between looks. The zero value has heard of
// no debt.
type Silence struct {
	since time.Time // something is owed, and nothing was heard, from here on
	base  Liveness  // as it was then
}

// Owing reports whether the last look found something unacknowledged.
func (s *Silence) Owing() bool { return !s.since.IsZero() }

// Forget is a look that found nothing owed.
func (s *Silence) Forget() { s.since = time.Time{} }

// Lost takes a look into account and gives the verdict: something is owed,
// nothing was heard for the bound, and at least minUnanswered segments went
// out in vain since.
func (s *Silence) Lost(l Liveness, now time.Time, bound time.Duration) bool {
	if l.Owed == 0 {
		s.Forget()
		return false
	}
	if s.since.IsZero() || l.Segments != s.base.Segments {
		// Silence began no earlier than the last acknowledgement, and debt no
		// earlier than the look before this one.
		debt := s.since.IsZero()
		s.since = now.Add(-min(l.LastHeard, bound/ChecksPerBound))
		s.base = l
		if debt { // what went out again already was in vain
			s.base.AllRetransmits -= l.Retransmits
			s.base.Retransmits = 0
		}
		return false
	}
	unanswered := l.Probes + max(l.Retransmits-min(l.Retransmits, s.base.Retransmits), l.AllRetransmits-s.base.AllRetransmits)
	// The next look would be too late.
	due := bound - bound/ChecksPerBound
	return l.LastHeard >= due && now.Sub(s.since) >= due && unanswered >= minUnanswered
}
