// This file holds the mem transport: names within the process that streams
// are dialed to and accepted at. The stream itself is in mem_pipe.go.

package anysock

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultMemBuffer bounds the bytes that wait to be read at one end of a mem
// stream.
const DefaultMemBuffer = 64 << 10

// memCaps is everything but an identity: both ends are this process.
const memCaps = CapHalfClose | CapAbort | CapCutDetect | CapDeadline | CapCloseAck | CapBindSource

// memConnOptions are those of every mem stream; the built-in services have
// them too.
var memConnOptions = []OptionSpec{
	{Name: "buffer", Type: OptionInt, Dial: true, Listen: true, Help: "bytes that may wait to be read at our end (default 65536)"},
	{Name: "closetimeout", Type: OptionDuration, Dial: true, Listen: true, Help: "bound of the disconnect after close (default 30s)"},
	{Name: "draintimeout", Type: OptionDuration, Dial: true, Listen: true, Help: "disconnect: wait for the peer's end (default 5s)"},
	{Name: "drainbytes", Type: OptionInt, Dial: true, Listen: true, Help: "disconnect: discard at most (default 1048576)"},
}

var memOptions = append([]OptionSpec{
	{Name: "backlog", Type: OptionInt, Listen: true, Help: "connections that wait to be accepted (default 4096)"},
	{Name: "maxconns", Type: OptionInt, Listen: true, Help: "open connections at once (default no limit)"},
	{Name: "bind", Type: OptionString, Dial: true, Help: "name of our end, as the peer sees it"},
	{Name: "timeout", Type: OptionDuration, Dial: true, Help: "one attempt to connect (default 10s)"},
	{Name: "retry", Type: OptionInt, Dial: true, Help: "tries in all (default 1)"},
	{Name: "retryinterval", Type: OptionDuration, Dial: true, Help: "from one try's start to the next (default 1s)"},
}, memConnOptions...)

func init() {
	Register(Transport{
		Scheme:  "mem",
		Options: memOptions,
		Caps:    func(Caps, Target) Caps { return memCaps },
		Dial: func(ctx context.Context, d *Dialer, t Target) (net.Conn, error) {
			d = d.with(t)
			c, err := d.dialMem(ctx, t.Hop.Opaque, memLimit(t, d.Options))
			if err != nil {
				return nil, err // not a nil *Conn in a net.Conn
			}
			return c, nil
		},
		Listen: func(_ context.Context, lc *ListenConfig, t Target) (DeadlineListener, error) {
			lc = lc.with(t)
			l, err := lc.listenMem(t.Hop.Opaque, t.Int("backlog", lc.Backlog), memLimit(t, lc.Options))
			if err != nil {
				return nil, err
			}
			return l, nil
		},
	})
}

// memLimit is the buffer that the address or the options ask for.
func memLimit(t Target, o Options) int {
	if n := t.Int("buffer", o.ReceiveBuffer); n > 0 {
		return n
	}
	return DefaultMemBuffer
}

// lastMem numbers mem streams, to tell their ends apart.
var lastMem atomic.Uint64

func memNumber() string { return "#" + strconv.FormatUint(lastMem.Add(1), 10) }

// Pipe makes the two ends of one mem stream, for tests and for joining parts
// of a program. Unlike net.Pipe it has a buffer in each direction, and the
// whole lifecycle: half-close, abort, acknowledgement, deadlines.
//
// opts is for both ends; its ReceiveBuffer, if positive, is how many bytes may
// wait to be read at each, else DefaultMemBuffer. A Write returns when the
// last byte is in the peer's buffer, which is what acknowledged means here.
// Both ends belong to the process's Group (see Wait). It works inside a
// testing/synctest bubble.
func Pipe(opts Options) (*Conn, *Conn) {
	limit := memLimit(Target{}, opts)
	name := "pipe" + memNumber()
	a, b := newMemPair(memAddr{"mem", name + ".a"}, memAddr{"mem", name + ".b"}, limit, limit)
	return newConn(0, "mem", a, memCaps, opts, nil, nil), newConn(0, "mem", b, memCaps, opts, nil, nil)
}

// memNames has the listeners of this process.
var memNames struct {
	sync.Mutex
	byName map[string]*memListener
}

// A memListener is a name that is listened on.
//
// A dial is done when its stream is in the queue; accepting is not waited for.
// While the queue is full, dials wait, first come first served.
type memListener struct {
	name    string
	backlog int
	limit   int // buffer of accepted ends

	mu       sync.Mutex
	arrived  sync.Cond    // queue has a stream, or accept must look again
	queue    []*memStream // at most backlog
	waiting  []*memDial   // each is a caller held up in Dial
	draining bool         // nothing enters queue any more
	closed   bool
	deadline memDeadline
}

// A memDial waits for a place in the queue.
type memDial struct {
	s       *memStream
	outcome chan error // nil: it is in the queue; has room for the one outcome
}

var _ acceptor = (*memListener)(nil)

// listenMem takes the name. A backlog of 0 is DefaultBacklog.
func (lc *ListenConfig) listenMem(name string, backlog, limit int) (*Listener, error) {
	start := time.Now()
	if backlog <= 0 {
		backlog = DefaultBacklog
	}
	ml := &memListener{name: name, backlog: backlog, limit: limit}
	ml.arrived.L = &ml.mu
	id := nextSocket()
	err := ml.register()
	if lc.Trace != nil {
		ev := Event{Time: start, Duration: time.Since(start), Op: OpListen, Socket: id, Network: "mem", Local: name, Detail: "backlog=" + strconv.Itoa(backlog), State: StateListening, Err: err}
		if err != nil {
			ev.State = StateNew
		}
		lc.Trace(ev)
	}
	if err != nil {
		return nil, err
	}
	return newListener(id, "mem", ml, memCaps, lc.Options, lc.Group, lc.Trace), nil
}

func (l *memListener) register() error {
	memNames.Lock()
	defer memNames.Unlock()
	if memNames.byName[l.name] != nil {
		return &Error{
			Op: OpListen, Addr: "mem:" + l.name, Kind: KindInUse, Err: syscall.EADDRINUSE,
			Hint: "another listener of this process has the name: close it, or choose another",
		}
	}
	if memNames.byName == nil {
		memNames.byName = make(map[string]*memListener)
	}
	memNames.byName[l.name] = l
	return nil
}

// unregister frees the name.
func (l *memListener) unregister() {
	memNames.Lock()
	defer memNames.Unlock()
	if memNames.byName[l.name] == l {
		delete(memNames.byName, l.name)
	}
}

// Addr is the name.
func (l *memListener) Addr() net.Addr { return memAddr{"mem", l.name} }

// SetDeadline bounds accept, a pending one too.
func (l *memListener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.deadline.set(t, &l.arrived)
	return nil
}

func (l *memListener) accept() (stream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, net.ErrClosed
		case l.draining && len(l.queue) == 0:
			return nil, net.ErrClosed // nothing will come
		case l.deadline.expired && !l.draining:
			return nil, os.ErrDeadlineExceeded
		case len(l.queue) > 0:
			s := l.queue[0]
			l.queue[0] = nil
			l.queue = l.queue[1:]
			l.admit()
			return s, nil
		}
		l.arrived.Wait()
	}
}

// admit lets the first of those who wait into the queue; mu is held.
func (l *memListener) admit() {
	for len(l.waiting) > 0 && len(l.queue) < l.backlog {
		w := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		l.queue = append(l.queue, w.s)
		w.outcome <- nil
	}
}

// enter puts s into the queue, waiting for a place until ctx is done.
func (l *memListener) enter(ctx context.Context, s *memStream) error {
	l.mu.Lock()
	if l.closed || l.draining {
		l.mu.Unlock()
		return syscall.ECONNREFUSED
	}
	if len(l.queue) < l.backlog {
		l.queue = append(l.queue, s)
		l.arrived.Broadcast()
		l.mu.Unlock()
		return nil
	}
	w := &memDial{s: s, outcome: make(chan error, 1)}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()

	select {
	case err := <-w.outcome:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.waiting {
		if x == w {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	return <-w.outcome // it was decided at the same moment
}

// refuse turns away those who wait for a place; mu is held.
func (l *memListener) refuse() {
	for _, w := range l.waiting {
		w.outcome <- syscall.ECONNREFUSED
	}
	l.waiting = nil
}

// shrink lets the queue admit no more; what is in it stays to be accepted.
func (l *memListener) shrink() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	l.refuse()
	l.arrived.Broadcast()
}

// Close frees the name and resets the connections in the queue.
func (l *memListener) Close() error {
	l.unregister()
	l.mu.Lock()
	queue := l.queue
	l.closed, l.queue = true, nil
	l.refuse()
	l.deadline.stop()
	l.arrived.Broadcast()
	l.mu.Unlock()
	for _, s := range queue {
		_ = s.Abort()
	}
	return nil
}

// dialMem connects to a name. Dialer.Local names our end; it is a label and
// need not be unique.
func (d *Dialer) dialMem(ctx context.Context, name string, limit int) (*Conn, error) {
	c, err := d.retry(ctx, "mem", name, func(ctx context.Context, r *dialRound) (*Conn, error) {
		r.network = "mem"
		return r.attemptMem(ctx, name, limit)
	})
	if err == nil {
		return c, nil
	}
	var e *Error
	if errors.As(err, &e) && len(e.Attempts) > 0 {
		switch last := e.Attempts[len(e.Attempts)-1].Err; {
		case errors.Is(last, syscall.ECONNREFUSED):
			e.Hint = "nothing in this process listens on mem:" + name + ": a mem name does not leave the process"
		case errors.Is(last, context.DeadlineExceeded):
			e.Hint = "the backlog of mem:" + name + " is full: its listener does not accept"
		}
	}
	return nil, err
}

// attemptMem is attempt for a name.
func (r *dialRound) attemptMem(ctx context.Context, name string, limit int) (*Conn, error) {
	start := time.Now()
	s, err := connectMem(ctx, name, r.d.Local, limit, orDefault(r.d.AttemptTimeout, DefaultAttemptTimeout))
	ev := Event{Time: start, Duration: time.Since(start), Op: OpConnect, Peer: name, Err: err}
	if err != nil {
		r.mu.Lock()
		if len(r.attempts) < maxAttempts {
			r.attempts = append(r.attempts, Attempt{Round: r.round, Addr: name, Started: start.Sub(r.began), Duration: ev.Duration, Err: err})
		}
		r.mu.Unlock()
		r.emit(ev)
		return nil, errRoundFailed
	}
	ev.Local, ev.State = s.local.name, StateConnected
	r.emit(ev)
	return newConn(r.id, "mem", s, memCaps, r.d.Options, r.d.Group, r.d.Trace), nil
}

// connectMem makes one attempt within timeout.
func connectMem(ctx context.Context, name, local string, limit int, timeout time.Duration) (*memStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	memNames.Lock()
	l := memNames.byName[name]
	memNames.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	if local == "" {
		local = name + memNumber()
	}
	near, far := newMemPair(memAddr{"mem", local}, memAddr{"mem", name}, limit, l.limit)
	actx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := l.enter(actx, far)
	switch {
	case err == nil:
		return near, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case actx.Err() != nil && errors.Is(err, actx.Err()):
		return nil, &attemptTimeoutError{timeout}
	}
	return nil, err
}
