package reactor

import (
	"errors"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// An Acceptor takes connections from a listening socket of the Loop, or of
// several Loops, as long as it is not paused. Out of descriptors or memory it
// waits, doubling the pause from Backoff to MaxBackoff; when that lasts for
// ShedAfter it resets one waiting client each time, with a descriptor held in
// reserve. Set the fields, then Start it on the loop.
type Acceptor struct {
	Backoff, MaxBackoff, ShedAfter time.Duration
	// Reserve is asked for a place before a connection is taken, and Return
	// gives it back when there was none. Without a place the Acceptor pauses
	// until Resume. nil is no limit.
	Reserve func() bool
	Return  func()
	// Accepted is given every connection.
	Accepted func(h Handle, peer Peer)
	// Trouble is told of each pause and its reason; nil is nobody.
	Trouble func(pause time.Duration, err error)
	// Failed is told when the listening socket is of no more use.
	Failed func(error)

	// Shed is told of each client that was reset because the trouble lasted;
	// nil is nobody.
	Shed func()

	node   Node
	socket listening
	loop   *Loop
	batch  int // connections to take at once
	streak int // batches that were full since it grew
	shared bool
	paused bool
	closed bool
	delay  time.Duration // of the pause at work; 0: none is
	since  time.Time     // the trouble began
}

// maxBatch bounds the connections taken at once, so that those that are there
// get their turn.
const maxBatch = 64

// growAfter is how many full batches make the next ones twice as large. The
// socket stays readable while somebody waits, so there is nothing to lose but
// the call that finds nobody.
const growAfter = 4

// Start begins to accept from the listening socket h, which the Acceptor closes
// in the end. shared means that other Loops accept from the same socket.
func (a *Acceptor) Start(l *Loop, h Handle, shared bool) error {
	a.loop, a.shared, a.node.Source = l, shared, a
	a.socket.open(h)
	return a.watch()
}

func (a *Acceptor) watch() error { return a.socket.watch(a.loop, &a.node, a.shared) }

// Pause leaves further connections in the queue until Resume.
func (a *Acceptor) Pause() {
	if !a.paused && !a.closed {
		a.paused = true
		a.loop.Release(&a.node)
	}
}

// Resume ends a Pause.
func (a *Acceptor) Resume() {
	if a.paused && !a.closed {
		a.paused = false
		if err := a.watch(); err != nil {
			a.rest(err)
		}
	}
}

// Close closes the socket and the reserve.
func (a *Acceptor) Close() {
	if a.closed {
		return
	}
	a.closed = true
	a.loop.Release(&a.node)
	a.node.unlink()
	a.socket.close()
}

// maxDrain bounds what Drain takes: more cannot wait in a queue.
const maxDrain = 1 << 16

// Drain lets the queue admit no more and takes what is in it, then closes the
// socket. It returns how many connections that were, and the error that left
// some in the queue, which are reset (docs/notes/close-listener).
func (a *Acceptor) Drain() (taken int, err error) {
	if a.closed {
		return 0, nil
	}
	defer a.Close()
	a.socket.refuse()
	a.paused = false
	for taken < maxDrain {
		h, peer, err := a.socket.accept()
		switch {
		case err == nil:
			taken++
			a.Accepted(h, peer)
		case sys.OneConnections(err):
		case errors.Is(err, sys.ErrWouldBlock):
			return taken, nil
		default:
			return taken, err
		}
	}
	return taken, nil
}

// Ready is called when connections wait.
func (a *Acceptor) Ready(sys.Events) {
	for range max(1, a.batch) {
		if a.Reserve != nil && !a.Reserve() {
			a.Pause()
			return
		}
		h, peer, err := a.socket.accept()
		if err != nil && a.Return != nil {
			a.Return()
		}
		switch {
		case err == nil:
			a.delay, a.since = 0, time.Time{}
			a.Accepted(h, peer)
			if a.paused || a.closed {
				return
			}
		case errors.Is(err, sys.ErrWouldBlock):
			a.batch, a.streak = 1, 0
			return
		case sys.OneConnections(err):
		case sys.ClassOf(err) == sys.Exhausted:
			a.rest(err)
			return
		default:
			a.Failed(err)
			return
		}
	}
	if a.streak++; a.streak == growAfter {
		a.batch, a.streak = min(2*max(1, a.batch), maxBatch), 0
	}
}

// rest waits a little: the socket stays readable, and would be reported again
// and again.
func (a *Acceptor) rest(err error) {
	now := time.Now()
	if a.since.IsZero() {
		a.since = now
	}
	if now.Sub(a.since) >= a.ShedAfter && a.socket.shed() && a.Shed != nil {
		a.Shed()
	}
	a.delay = min(max(2*a.delay, a.Backoff), a.MaxBackoff)
	if a.Trouble != nil {
		a.Trouble(a.delay, err)
	}
	a.loop.Release(&a.node)
	a.loop.SetTimer(&a.node, a.delay)
}

// Expired ends a pause for want of descriptors.
func (a *Acceptor) Expired() {
	if a.paused || a.closed {
		return
	}
	if err := a.watch(); err != nil {
		a.rest(err)
	}
}
