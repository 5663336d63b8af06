package anysock

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unique"

	"github.com/anysock/anysock/internal/sys"
)

// A Conn is a connected stream socket of any transport. It is a net.Conn
// whose ending is known: see End.
//
// All methods may be called from several goroutines. Reads take turns in the
// order they were called, and so do writes; one Write is never mixed with
// another. A call past its deadline, or whose context is cancelled, returns
// with the count of bytes it moved and leaves the connection usable. Close
// and Abort wake every caller.
type Conn struct {
	id     uint64
	scheme unique.Handle[string] // of the transport
	s      stream
	caps   Caps
	opts   *Options // with defaults; not changed
	group  *Group
	trace  *tracing // nil without one
	opened time.Time

	// flags are the facts that the reading and writing paths look at.
	flags   atomic.Uint32
	waiting atomic.Int32 // callers in Wait

	// read side: what it guards belongs to whoever has the turn
	rd            direction
	kept          atomic.Pointer[[]byte] // received, not yet read: by setUnread only; nil if empty
	received      atomic.Int64
	firstReceived atomic.Int64 // when, in Unix nanoseconds; 0 is not yet

	// write side
	wr   direction
	sent atomic.Int64

	mu      sync.Mutex // guards what follows
	so      *soFar     // nil as long as nothing has ended and nobody waits for it: by known only
	watched *lostMonitor
	place   int // in watched; guarded by lostMonitors
}

// A soFar is what is known of the ending before it is complete, that, and what
// is due with it.
type soFar struct {
	by       Side   // who ended first
	failure  *Error // the error that every later call reports
	failHow  How
	wroteEnd time.Duration // since opened; 0 is not yet
	readEnd  time.Duration // the same
	drained  int64
	end      *End          // nil is not yet
	done     chan struct{} // closed when the ending is known; nil until somebody asks
	release  func()        // gives back a Listener's place, once; may be nil
}

// A tracing makes the events of one connection a sequence.
type tracing struct {
	mu sync.Mutex
	to Trace
}

// known is what is known of the ending; mu is held.
func (c *Conn) known() *soFar {
	if c.so == nil {
		c.so = new(soFar)
	}
	return c.so
}

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
	_ syscall.Conn  = (*Conn)(nil)
)

// The flags.
const (
	flagReadEnded     = 1 << iota // the peer's end was read
	flagWriteEnded                // our end was sent, or is being sent
	flagFailed                    // failure is set
	flagDisconnecting             // Disconnect or Close is at work
	flagClosing                   // Close, Abort or a finished Disconnect: callers are turned away
	flagReleased                  // the carrier is closed
	flagEndSent                   // our end is in the carrier's hands
	flagEndUnsent                 // sending our end was cut: it is to be tried again
	flagTurnedAway                // Disconnect lost patience with callers at work
	flagReadClosed                // CloseRead: our readers are turned away
	flagCarrier                   // a layer's stream runs over it
	flagTraced                    // the ending was reported: the last event
	flagEnded                     // the ending is known
)

// flagGone turns callers away.
const flagGone = flagClosing | flagTurnedAway

// newConn takes over s.
func newConn(id uint64, network string, s stream, caps Caps, opts Options, group *Group, trace Trace) *Conn {
	if id == 0 {
		id = nextSocket()
	}
	if group == nil {
		group = &defaultGroup
	}
	c := &Conn{
		id: id, scheme: unique.Make(network), s: s, caps: caps, opts: opts.shared(),
		group: group, opened: time.Now(),
	}
	if trace != nil {
		c.trace = &tracing{to: trace}
	}
	c.rd.of = (*readingSide)(c)
	c.wr.of = (*writingSide)(c)
	if layer, ok := optionally[interface{ Below() *Conn }](s); ok {
		layer.Below().set(flagCarrier)
	}
	c.watchForLoss()
	return c
}

// Wrap gives a connection of any make the lifecycle of a Conn, and takes it
// over: use nc no more. A *net.TCPConn or *net.UnixConn gets everything that
// tcp and unix have. For others, what Wrap can do follows from the optional
// methods nc has: CloseWrite, CloseRead, Abort, Unacked, WaitAcked, Unread,
// Caps; the calls that need a missing one return an error that matches
// errors.ErrUnsupported, and Disconnect and Close report no acknowledgement.
// Wrap of a *Conn is that Conn.
func Wrap(nc net.Conn, opts Options) *Conn {
	if c, ok := nc.(*Conn); ok {
		return c
	}
	s := asStream(nc)
	network := "wrapped"
	if a := nc.LocalAddr(); a != nil {
		network = a.Network()
	}
	var caps Caps
	if f, ok := s.(foreignStream); ok {
		caps = f.caps()
	}
	return newConn(0, network, s, capsFor(s, caps), opts, nil, nil)
}

// ID is the socket's number in this process, as in Event.Socket.
func (c *Conn) ID() uint64 { return c.id }

// Caps is what this connection can do.
func (c *Conn) Caps() Caps { return c.caps }

// LocalAddr is our address; it stays known after Close.
func (c *Conn) LocalAddr() net.Addr { return c.s.LocalAddr() }

// RemoteAddr is the peer's address; it stays known after Close.
func (c *Conn) RemoteAddr() net.Addr { return c.s.RemoteAddr() }

// network is the transport's name.
func (c *Conn) network() string { return c.scheme.Value() }

// Sent is how many bytes Write has accepted so far.
func (c *Conn) Sent() int64 { return c.sent.Load() }

// Received is how many bytes were received so far: handed to a reader, kept
// for the next one, or drained.
func (c *Conn) Received() int64 { return c.received.Load() }

// State is where the connection is in its life.
func (c *Conn) State() State {
	f := c.flags.Load()
	switch {
	case f&flagReleased != 0:
		return StateClosed
	case f&flagDisconnecting != 0:
		return StateDisconnecting
	case f&flagWriteEnded != 0:
		return StateWriteEnded
	case f&flagReadEnded != 0:
		return StateReadEnded
	}
	return StateConnected
}

// Done is closed when the ending is known.
func (c *Conn) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known()
	if k.done == nil {
		k.done = make(chan struct{})
		if c.is(flagEnded) {
			close(k.done)
		}
	}
	return k.done
}

// End is the ending, set exactly once; before that its How is NotEnded.
func (c *Conn) End() End {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.so == nil || c.so.end == nil {
		return End{}
	}
	return *c.so.end
}

// sinceOpened is now, as wroteEnd and readEnd keep it.
func (c *Conn) sinceOpened() time.Duration { return max(time.Since(c.opened), 1) }

// instant is the time that sinceOpened stands for, or the zero time.
func (c *Conn) instant(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return c.opened.Add(d)
}

// SyscallConn gives access to the descriptor, for options this package lacks.
// It says ErrUnsupported where there is none. Reading or writing through it
// goes past the counts and the ending.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if k, ok := c.s.(*kernelStream); ok {
		if rc := k.SyscallConn(); rc != nil {
			return rc, nil
		}
	}
	if sc, ok := optionally[syscall.Conn](c.s); ok {
		return sc.SyscallConn()
	}
	return nil, unsupported("syscallconn", c.peerName(), "no descriptor")
}

// kernel is the kernel socket under c, or nil.
func (c *Conn) kernel() *sys.FD {
	if k, ok := c.s.(*kernelStream); ok {
		return k.FD
	}
	return nil
}

// bottom is the kernel socket that carries c at last, through all layers that
// say what is below them, or nil. A hop ends it: what is behind can fail alone.
func (c *Conn) bottom() *sys.FD {
	for {
		if fd := c.kernel(); fd != nil {
			return fd
		}
		layer, ok := optionally[interface{ Below() *Conn }](c.s)
		if !ok {
			return nil
		}
		c = layer.Below()
	}
}

// SetDeadline sets the read and the write deadline.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline is the instant after which reads return an error that
// matches os.ErrDeadlineExceeded, pending ones included; zero is none.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.rd, t) }

// SetWriteDeadline is the same for writes. A Write that had sent a part
// returns its count.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.wr, t) }

func (c *Conn) setDeadline(d *direction, t time.Time) error {
	ok, err := d.setDeadline(t)
	if !ok && c.is(flagClosing) {
		return closedError("set deadline", c.peerName())
	}
	if err != nil {
		return c.opError("set deadline", err)
	}
	return nil
}

// peerName is the peer for messages.
func (c *Conn) peerName() string {
	if a := c.s.RemoteAddr(); a != nil && a.String() != "" {
		return a.Network() + ":" + a.String()
	}
	if a := c.s.LocalAddr(); a != nil {
		return a.Network() + ":" + a.String()
	}
	return c.network()
}

// opError wraps err for a call on this connection.
func (c *Conn) opError(op string, err error) *Error { return opError(op, c.peerName(), err) }

func (c *Conn) set(f uint32)     { c.flags.Or(f) }
func (c *Conn) is(f uint32) bool { return c.flags.Load()&f != 0 }

// emit reports a step; Socket, addresses and State are filled in.
func (c *Conn) emit(ev Event) {
	if c.trace == nil {
		return
	}
	ev.Socket, ev.Network, ev.State = c.id, c.network(), c.State()
	if ev.Op == OpEnd {
		ev.State = StateClosed
	}
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	if a := c.s.LocalAddr(); a != nil {
		ev.Local = a.String()
	}
	if a := c.s.RemoteAddr(); a != nil {
		ev.Peer = a.String()
	}
	c.trace.mu.Lock()
	defer c.trace.mu.Unlock()
	if c.is(flagTraced) {
		return // a call that was at work when the connection ended
	}
	if ev.Op == OpEnd {
		c.set(flagTraced)
	}
	c.trace.to(ev)
}

// step reports a step that began at start, if anybody listens.
func (c *Conn) step(op string, start time.Time, n int64, err error) {
	if c.trace != nil {
		c.emit(Event{Time: start, Duration: time.Since(start), Op: op, Bytes: n, Err: err})
	}
}

// now is the time if a trace wants it.
func (c *Conn) now() time.Time {
	if c.trace == nil {
		return time.Time{}
	}
	return time.Now()
}

// callError is the error of a read or write that the carrier failed: it
// decides between the caller's deadline, the caller's context, our own
// closing, and an ending of the connection, which it records.
func (c *Conn) callError(ctx context.Context, op string, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Four parties use the deadline to wake a call.
		switch {
		case c.is(flagFailed):
			return c.failed(op)
		case c.is(flagGone):
			return closedError(op, c.peerName())
		case op == OpRead && c.is(flagReadClosed):
			return &Error{Op: op, Addr: c.peerName(), Kind: KindClosed, Err: errReadClosed}
		case ctx.Err() != nil:
			return c.opError(op, ctx.Err())
		}
		return c.opError(op, os.ErrDeadlineExceeded)
	case c.is(flagClosing):
		return closedError(op, c.peerName())
	}
	return c.fail(op, err)
}

// fail records err as what ended the connection, once, and returns the error
// to report. What a carrier says in other words than an errno is a cut.
func (c *Conn) fail(op string, err error) error {
	e := c.opError(op, err)
	how, ends := howOf(e.Kind)
	if !ends {
		return e
	}
	if how == Truncated {
		e.Kind = KindTruncated
	}
	c.mu.Lock()
	k := c.known()
	first := k.failure == nil
	if first {
		k.failure, k.failHow = e, how
		if k.by == Nobody && how == AbortedByPeer {
			k.by = Peer
		}
	}
	c.mu.Unlock()
	c.set(flagFailed)
	if !first {
		// The carrier tells a reset once; what it says next is no news
		// (docs/notes/so-error).
		return c.failed(op)
	}
	return e
}

// howOf is the ending that a kind of error means, if it is one.
func howOf(k Kind) (how How, ends bool) {
	switch k {
	case KindReset, KindAuth: // a peer that judges us after the handshake
		return AbortedByPeer, true
	case KindLost, KindUnreachable:
		return Lost, true
	case KindTimeout, KindCanceled, KindLimit, KindUnsupported, KindClosed, KindState:
		return NotEnded, false
	}
	return Truncated, true
}

// failed is the recorded error, said of this call.
func (c *Conn) failed(op string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := *c.so.failure
	e.Op = op
	return &e
}

// endingGrace bounds how long an ending waits for calls at work to return with
// their counts. They are woken first, so that only a carrier without
// deadlines can take it.
const endingGrace = time.Second

// finish records the ending, once, after the calls at work have returned: what
// they moved is counted, and their events precede the ending's. The caller
// has no turn.
func (c *Conn) finish(how How, by Side, ackedBy Ack, unacked int64, err error) {
	if c.is(flagEnded) {
		return
	}
	c.turnAway()
	for _, d := range [...]*direction{&c.rd, &c.wr} {
		if d.try() || d.lockWithin(endingGrace) {
			defer d.unlock()
		}
	}
	c.record(how, by, ackedBy, unacked, err)
}

// record is finish for whoever knows that no call is at work. It reports
// false if there was an ending already.
func (c *Conn) record(how How, by Side, ackedBy Ack, unacked int64, err error) bool {
	c.mu.Lock()
	k := c.known()
	if k.end != nil {
		c.mu.Unlock()
		return false
	}
	if k.by != Nobody {
		by = k.by
	}
	end := End{
		How: how, By: by, AckedBy: ackedBy, Unacked: unacked, Drained: k.drained,
		Sent: c.sent.Load(), Received: c.received.Load(),
		Local: c.s.LocalAddr(), Peer: c.s.RemoteAddr(),
		Opened: c.opened, WriteEnded: c.instant(k.wroteEnd), ReadEnded: c.instant(k.readEnd), Ended: time.Now(),
		Err: err,
	}
	if ns := c.firstReceived.Load(); ns != 0 {
		end.FirstReceived = time.Unix(0, ns)
	}
	k.end = &end
	c.mu.Unlock()
	c.unwatchForLoss()
	if c.trace != nil {
		told := end
		c.emit(Event{Time: end.Ended, Op: OpEnd, End: &told})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(flagEnded)
	if k.done != nil {
		close(k.done)
	}
	return true
}

// finishFailed makes the recorded failure the ending.
func (c *Conn) finishFailed() {
	c.mu.Lock()
	e, how := c.so.failure, c.so.failHow
	c.mu.Unlock()
	c.finish(how, Nobody, AckedNone, c.unackedBytes(), e)
}

// unackedBytes is what the peer has not acknowledged of our bytes, 0 where
// that cannot be known. Our end counts one in the kernel's figure.
func (c *Conn) unackedBytes() int64 {
	n, err := c.s.Unacked()
	if err != nil || n == 0 {
		return 0
	}
	if c.is(flagEndSent) {
		n--
	}
	return min(int64(n), c.sent.Load()) // a layer counts what its carrier sends
}

// free closes the carrier, once, and gives back the place in the Listener.
func (c *Conn) free(abort bool) error {
	c.mu.Lock()
	if c.is(flagReleased) {
		c.mu.Unlock()
		return nil
	}
	c.set(flagReleased | flagClosing)
	release := c.known().release
	c.mu.Unlock()
	var err error
	if abort {
		err = c.abortStream()
	} else {
		err = c.s.Close()
	}
	if release != nil {
		release()
	}
	return err
}

// abortStream aborts the carrier, and lets a stream that can tell the peer why
// do so.
func (c *Conn) abortStream() error {
	if s, ok := optionally[interface {
		AbortAs(how How, cause error) error
	}](c.s); ok {
		end := c.End()
		return s.AbortAs(end.How, end.Err)
	}
	return c.s.Abort()
}
