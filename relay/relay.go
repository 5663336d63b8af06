package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// A Relay accepts connections, dials Target for each, and joins the two: see
// Join for what happens to the endings. Set the fields before the first Serve
// and leave them alone; every method may be called from several goroutines.
//
//	the target                          the client
//	cannot be reached                   is kept waiting for Dialer.Retry, then
//	                                    reset: its connect had succeeded already
//	                                    (a leg without abort is cut or closed,
//	                                    which the record lists as a downgrade)
//	is being dialed when it goes away   the dialing ends
//
// A client goes away by a reset, or by closing a Unix socket with nothing left
// to deliver. A tcp client that closes looks like one that half-closes after
// its request and waits for the reply; for it the dialing goes on.
type Relay struct {
	// Target is the address that is dialed for every connection. Where its last
	// hop ends in original: (original:, tls+original:,
	// socks5://proxy:1080,original:) that is the address a connection was
	// going to before a firewall redirected it here (see
	// anysock.Conn.OriginalDestination). A connection that was not redirected
	// (ErrNotRedirected), and one that would come back here (ErrLoop), are
	// refused.
	Target anysock.Address
	// Dialer makes the outbound connections. In its Retry, which an option of
	// Target goes before, Attempts 0 is DefaultAttempts; 1 tries once.
	Dialer anysock.Dialer
	// Options tunes Join.
	Options Options
	// MaxConns bounds the connections at once, over all listeners; further
	// ones wait in the backlog. 0 is DefaultMaxConns, negative no bound.
	MaxConns int
	// Drain bounds how long Shutdown lets connections finish. 0 is
	// DefaultDrain; negative aborts at once.
	Drain time.Duration
	// OnEnd is told of every connection that has ended, on that connection's
	// goroutine and possibly from several at once; its place is taken until
	// OnEnd returns. nil is nobody.
	OnEnd func(Record)

	once   sync.Once
	ctx    context.Context // ended when the drain deadline has passed
	cut    context.CancelCauseFunc
	closed chan struct{} // Shutdown was called
	places chan struct{} // one element per connection; nil is no bound
	w      *watcher      // kept, so that it is not made anew for each connection
	circle circle        // our own connections, if the target is original:

	mu        sync.Mutex // guards what follows, and out and base of sessions
	stopping  bool
	emptying  bool                           // Shutdown is taking what the queues hold
	serving   int                            // Serve calls at work
	listeners map[*anysock.Listener]struct{} // served so far, for Shutdown
	sessions  map[*session]struct{}
	idle      chan struct{} // closed when stopping and nothing is left
	none      chan struct{} // closed when there is no session; nil until somebody waits
	stats     Stats         // of sessions that have ended, and Accepted
	drained   Drained
}

// Stats counts what a Relay has done so far.
type Stats struct {
	Active     int   `json:"active"`      // connections now, those that wait for the target included
	Accepted   int64 `json:"accepted"`    // connections so far
	Refused    int64 `json:"refused"`     // of them, ended because the target could not be reached
	Graceful   int64 `json:"graceful"`    // of them, ended in order
	ToOutbound int64 `json:"to_outbound"` // bytes passed on to targets
	ToInbound  int64 `json:"to_inbound"`  // bytes passed back to clients
}

// Drained says what became of the connections that Shutdown found.
type Drained struct {
	Queued   int `json:"queued"`   // accepted from the listeners' queues
	Finished int `json:"finished"` // ended by themselves, those of the queues included
	Cut      int `json:"cut"`      // aborted at the deadline
}

// ErrDrainDeadline is the reason of connections that Shutdown has cut.
var ErrDrainDeadline = errors.New("cut at the drain deadline")

// ErrClientLeft is the reason of a connection whose client went away while the
// target was dialed.
var ErrClientLeft = errors.New("the client went away while the target was dialed")

// init makes the private fields, once.
func (r *Relay) init() {
	r.once.Do(func() {
		r.ctx, r.cut = context.WithCancelCause(context.Background())
		r.closed = make(chan struct{})
		r.idle = make(chan struct{})
		r.listeners = make(map[*anysock.Listener]struct{})
		r.sessions = make(map[*session]struct{})
		if n := orDefault(r.MaxConns, DefaultMaxConns); n > 0 {
			r.places = make(chan struct{}, n)
		}
		r.Dialer.Retry.Attempts = orDefault(r.Dialer.Retry.Attempts, DefaultAttempts)
	})
}

// Serve accepts connections from ln and relays each, until Shutdown (nil), ctx
// is done (its error), or accepting fails for good (that error). However it
// ends, the connections go on and ln stays open: both are left to Shutdown,
// which must be called. Several listeners may be served at once.
//
// The error is a *anysock.Error: KindAddress where Target makes no sense,
// KindClosed after Shutdown, otherwise that of ln.AcceptContext.
func (r *Relay) Serve(ctx context.Context, ln *anysock.Listener) error {
	r.init()
	if err := r.Target.Check(); err != nil {
		return &anysock.Error{Op: anysock.OpListen, Addr: r.Target.String(), Kind: anysock.KindAddress, Err: err}
	}
	if !r.enter(ln) {
		return &anysock.Error{Op: anysock.OpAccept, Addr: ln.Addr().String(), Kind: anysock.KindClosed, Err: errShutdown}
	}
	defer r.leave()
	for {
		if ok, err := r.takePlace(ctx); !ok {
			return err
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			r.givePlace()
			if r.isStopping() {
				return nil
			}
			return err
		}
		r.start(c, true)
	}
}

var errShutdown = errors.New("the relay was shut down")

// enter adds a listener; false after Shutdown.
func (r *Relay) enter(ln *anysock.Listener) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return false
	}
	if r.w == nil {
		r.w = useWatcher()
	}
	r.listeners[ln] = struct{}{}
	r.serving++
	return true
}

func (r *Relay) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving--
	r.finishIfIdle()
}

func (r *Relay) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

// takePlace waits while MaxConns connections are there. It is false, without
// an error, after Shutdown.
func (r *Relay) takePlace(ctx context.Context) (bool, error) {
	if r.places == nil {
		return true, nil
	}
	select {
	case r.places <- struct{}{}:
		return true, nil
	case <-r.closed:
		return false, nil
	case <-ctx.Done():
		kind := anysock.KindCanceled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			kind = anysock.KindTimeout
		}
		return false, &anysock.Error{Op: anysock.OpAccept, Kind: kind, Err: ctx.Err()}
	}
}

func (r *Relay) givePlace() {
	if r.places != nil {
		<-r.places
	}
}

// Wait waits until there is no connection, or until ctx is done (its error). It
// neither stops accepting nor ends anything: it is for those whose listener is
// at its end by itself, before they call Shutdown.
func (r *Relay) Wait(ctx context.Context) error {
	r.init()
	r.mu.Lock()
	if len(r.sessions) == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.none == nil {
		r.none = make(chan struct{})
	}
	none := r.none
	r.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats counts up to now, bytes of connections that still run included.
func (r *Relay) Stats() Stats {
	r.init()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.stats
	st.Active = len(r.sessions)
	for s := range r.sessions {
		if s.out != nil {
			st.ToOutbound += s.out.Sent() - s.base
			st.ToInbound += s.in.Sent()
		}
	}
	return st
}
