package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/attendance"
	"github.com/anysock/anysock/internal/bridge"
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
	// OnEnd is told of every connection that has ended, on a goroutine that may
	// wait, and possibly from several at once; its place is taken until OnEnd
	// returns. The connections of the event loops are told one after the other:
	// while DefaultMaxConns of them wait to be told, no further ones are accepted.
	// nil is nobody.
	OnEnd func(Record)
	// Loops is how many event loops serve the connections between kernel
	// sockets: see Serve. 0 is one for each processor that the program may use
	// (GOMAXPROCS), negative serves all connections with goroutines.
	Loops int

	once   sync.Once
	ctx    context.Context // ended when the drain deadline has passed
	cut    context.CancelCauseFunc
	count  *attendance.Count
	places attendance.Places
	over   chan struct{} // closed when the first Shutdown has done its work
	circle circle        // our own connections, if the target is original:

	mu        sync.Mutex                 // guards what follows, and out and base of sessions
	w         *watcher                   // kept, so that it is not made anew for each connection
	e         *engine                    // the event loops; nil until they are needed
	listeners map[*anysock.Listener]bool // served so far, for Shutdown; true: on the loops
	sessions  map[*session]struct{}      // the connections that have goroutines
	stats     Stats                      // of connections that have ended; bytes of sessions only
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
		r.count = attendance.New()
		r.over = make(chan struct{})
		r.listeners = make(map[*anysock.Listener]bool)
		r.sessions = make(map[*session]struct{})
		r.places.Limit = int64(orDefault(r.MaxConns, DefaultMaxConns))
		r.Dialer.Retry.Attempts = orDefault(r.Dialer.Retry.Attempts, DefaultAttempts)
	})
}

// Serve accepts connections from ln and relays each, until Shutdown (nil), ctx
// is done (its error), or accepting fails for good (that error). However it
// ends, the connections go on and ln stays open: both are left to Shutdown,
// which must be called. Several listeners may be served at once.
//
// Where ln is a kernel socket (tcp, unix) and so is Target, without layers and
// hops, the connections live on event loops: without a goroutine, without a
// buffer while no data flows, and with the same endings and records. The loops
// then have ln's socket: accepting from it is Serve's alone. A connection to a
// target on this machine, which is connected at once, has its keep-alive when it
// is a second old. Goroutines serve all else, and where the listener or Dialer
// have a Trace, or Dialer has an Allow, OnAttempt or OnConnected, which a loop
// could not wait for. original: as Target is served by goroutines too.
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
	defer r.count.Leave()
	if ok, err := r.serveOnLoops(ctx, ln); ok {
		return err
	}
	r.useWatcher()
	for {
		if ok, err := r.places.Wait(ctx, r.count.Closed()); !ok {
			if err != nil {
				err = bridge.OpError(anysock.OpAccept, "", err)
			}
			return err
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			r.places.Give()
			if r.count.Stopping() {
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
	if !r.count.Enter() {
		return false
	}
	if !r.listeners[ln] {
		r.listeners[ln] = false
	}
	return true
}

// useWatcher has a watcher for the sessions.
func (r *Relay) useWatcher() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.w == nil {
		r.w = useWatcher()
	}
}

// Wait waits until there is no connection, or until ctx is done (its error). It
// neither stops accepting nor ends anything: it is for those whose listener is
// at its end by itself, before they call Shutdown.
func (r *Relay) Wait(ctx context.Context) error {
	r.init()
	return r.count.Wait(ctx)
}

// Stats counts up to now, bytes of connections that still run included.
func (r *Relay) Stats() Stats {
	r.init()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.stats
	st.Active, st.Accepted = r.count.Active()
	if r.e != nil {
		st.Active = max(0, st.Active-r.e.untold())
		st.ToOutbound, st.ToInbound = r.e.movedBytes()
		st.ToOutbound += r.stats.ToOutbound
		st.ToInbound += r.stats.ToInbound
	}
	for s := range r.sessions {
		if s.out != nil {
			st.ToOutbound += s.out.Sent() - s.base
			st.ToInbound += s.in.Sent()
		}
	}
	return st
}
