package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// A session is one connection of a Relay, from its acceptance to its record.
type session struct {
	r      *Relay
	in     *anysock.Conn
	placed bool // it has one of the Relay's places
	rec    Record

	// Guarded by the Relay's mu; written once.
	out  *anysock.Conn // nil until the target is connected
	base int64         // what out had been sent then

	mu       sync.Mutex // guards what follows
	attempts []anysock.Attempt
	sockets  []netip.AddrPort // local addresses of outbound sockets, if the target is original:
}

// maxAttempts bounds the failed attempts that a record lists.
const maxAttempts = 100

// start takes over c. Its goroutine belongs to the Relay: Shutdown waits.
func (r *Relay) start(c *anysock.Conn, placed bool) {
	s := &session{r: r, in: c, placed: placed}
	s.rec.Accepted, s.rec.Target = time.Now(), r.Target.String()
	r.count.Begin(!placed)
	r.mu.Lock()
	r.sessions[s] = struct{}{}
	r.mu.Unlock()
	go s.run()
}

// run serves the connection up to the dialing's outcome. What follows runs on a
// goroutine of its own: dialing needs a deep stack, and this one would keep it.
func (s *session) run() {
	out, err := s.dial()
	if err != nil {
		s.refuse(err)
		s.finish()
		return
	}
	s.rec.Connected = time.Now()
	s.r.mu.Lock()
	s.out, s.base = out, out.Sent()
	s.r.mu.Unlock()
	go s.join(out)
}

// join is the second half of run.
func (s *session) join(out *anysock.Conn) {
	join(s.r.ctx, s.in, out, s.r.Options, &s.rec)
	s.finish()
}

// finish completes the record, hands it over, and counts the session out.
func (s *session) finish() {
	s.rec.Attempts = RecordAttempts(s.attempts)
	s.rec.Done = time.Now()
	if s.r.OnEnd != nil {
		s.r.OnEnd(s.rec)
	}
	s.r.finished(s)
}

// dial reaches the target while the client waits. Its error is ErrClientLeft
// or ErrDrainDeadline if one of those was the reason.
func (s *session) dial() (*anysock.Conn, error) {
	ctx, cancel := context.WithCancelCause(s.r.ctx)
	defer cancel(nil)
	stop := s.watchClient(func() { cancel(ErrClientLeft) })
	defer stop()
	d := s.r.Dialer
	d.OnAttempt = s.noteAttempt
	to := s.r.Target
	if endsInOriginal(to) {
		var err error
		if to, err = s.original(); err != nil {
			return nil, err
		}
		s.watchCircle(&d, func(err error) { cancel(err) })
	}
	out, err := d.DialAddress(ctx, to)
	cause := context.Cause(ctx)
	if err == nil && errors.Is(cause, ErrLoop) {
		_ = out.Abort() // it came just before the dialing could be cut
		err = cause
	}
	if err == nil {
		return out, nil
	}
	if cause != nil {
		return nil, cause
	}
	return nil, err
}

// watchClient calls left when the client goes away, until stop was called.
func (s *session) watchClient(left func()) (stop func()) {
	var mu sync.Mutex
	var end func()
	stopped := false
	begin := time.AfterFunc(watchAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			end = s.r.w.watch(s.in, func(r anysock.Readiness) {
				if s.hasLeft(r) {
					left()
				}
			})
		}
	})
	return func() {
		begin.Stop()
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		if end != nil {
			end()
		}
	}
}

// hasLeft says what a hang-up means: with bytes to deliver the client still
// counts on us, and one that has closed with none does not.
func (s *session) hasLeft(r anysock.Readiness) bool {
	if r&anysock.Failed != 0 {
		return true
	}
	var one [1]byte
	_, err := s.in.Peek(context.Background(), one[:]) // does not wait: there are bytes or the end
	return err != nil
}

func (s *session) noteAttempt(a anysock.Attempt) {
	// One that came second in a race has not failed.
	if !errors.Is(a.Err, context.Canceled) {
		s.mu.Lock()
		if len(s.attempts) < maxAttempts {
			s.attempts = append(s.attempts, a)
		}
		s.mu.Unlock()
	}
	if s.r.Dialer.OnAttempt != nil {
		s.r.Dialer.OnAttempt(a)
	}
}

// refuse lets the client know that there is no target for it.
func (s *session) refuse(err error) {
	rec := &s.rec
	rec.Err = err
	switch {
	case errors.Is(err, ErrClientLeft):
		disconnectLeg(s.r.ctx, &leg{name: Inbound, c: s.in})
		end := s.in.End()
		rec.How, rec.By = end.How, Inbound
		if end.Err != nil {
			rec.Err = fmt.Errorf("%w: %w", err, end.Err)
		}
	case errors.Is(err, ErrDrainDeadline):
		rec.How, rec.By = anysock.AbortedByUs, Self
		s.abort("abort")
	case errors.Is(err, ErrLoop), errors.Is(err, ErrNotRedirected):
		rec.How, rec.By = anysock.Refused, Self
		s.abort("refusal")
	default:
		rec.How, rec.By = anysock.Refused, Outbound
		s.abort("refusal")
	}
	rec.Inbound = RecordLeg(s.in)
}

func (s *session) abort(ending string) {
	err := s.in.AbortAs(s.rec.How, s.rec.Err)
	if errors.Is(err, errors.ErrUnsupported) && s.in.End().How == s.rec.How {
		s.rec.Downgrades = append(s.rec.Downgrades, Downgrade{Inbound, ending, insteadOfAbort(s.in)})
	}
}

// finished lets go of a session.
func (r *Relay) finished(s *session) {
	s.leaveCircle()
	r.mu.Lock()
	delete(r.sessions, s)
	r.stats.ToOutbound += s.rec.ToOutbound.Bytes
	r.stats.ToInbound += s.rec.ToInbound.Bytes
	r.mu.Unlock()
	r.ended(s.rec.How)
	r.count.End(errors.Is(s.rec.Err, ErrDrainDeadline))
	if s.placed {
		r.places.Give()
	}
}

// ended counts how a connection went.
func (r *Relay) ended(how anysock.How) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch how {
	case anysock.Refused:
		r.stats.Refused++
	case anysock.Graceful:
		r.stats.Graceful++
	}
}
