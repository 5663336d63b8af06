package anysock

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// An acceptor is what a Listener drives: a listening socket of some
// transport.
type acceptor interface {
	accept() (stream, error)
	SetDeadline(time.Time) error
	Close() error
	Addr() net.Addr
}

// A Listener accepts connections. It is a net.Listener. Calls to accept take
// turns; every method may be called from several goroutines.
type Listener struct {
	id      uint64
	network string
	a       acceptor
	caps    Caps
	opts    Options
	group   *Group
	trace   Trace

	rd     direction
	slots  chan struct{} // one element per connection that may still be opened; nil is no limit
	closed chan struct{}
	once   sync.Once

	exhausted atomic.Int64 // accept calls that failed for want of descriptors or memory
	shed      atomic.Int64 // clients reset for that reason
}

var (
	_ net.Listener     = (*Listener)(nil)
	_ DeadlineListener = (*Listener)(nil)
	_ syscall.Conn     = (*Listener)(nil)
	_ Source           = (*Listener)(nil)
)

func newListener(id uint64, network string, a acceptor, caps Caps, opts Options, group *Group, trace Trace) *Listener {
	if id == 0 {
		id = nextSocket()
	}
	l := &Listener{id: id, network: network, a: a, caps: caps, opts: opts, group: group, trace: trace, closed: make(chan struct{})}
	l.rd.of = a
	return l
}

// ID is the socket's number in this process, as in Event.Socket.
func (l *Listener) ID() uint64 { return l.id }

// Addr is the bound address.
func (l *Listener) Addr() net.Addr { return l.a.Addr() }

// Network is the transport's name: "tcp", "unix", "mem".
func (l *Listener) Network() string { return l.network }

// Caps is what accepted connections can do.
func (l *Listener) Caps() Caps { return l.caps }

func (l *Listener) name() string { return l.network + ":" + l.a.Addr().String() }

// SetDeadline is the instant after which accepting returns an error that
// matches os.ErrDeadlineExceeded; zero is none.
func (l *Listener) SetDeadline(t time.Time) error {
	if ok, err := l.rd.setDeadline(t); !ok {
		return closedError("set deadline", l.name())
	} else if err != nil {
		return opError("set deadline", l.name(), err)
	}
	return nil
}

// Accept waits for a connection: see AcceptContext.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptContext(context.Background())
	if err != nil {
		return nil, err // not a nil *Conn in a net.Conn
	}
	return c, nil
}

// AcceptContext waits for a connection (accept(2)), and while MaxConns are
// open, for one of them to be closed. A connection that died in the queue
// (ECONNABORTED and the network errors of accept(2)) is skipped. When the
// process or the system is out of descriptors or memory it pauses, from
// DefaultAcceptBackoff to MaxAcceptBackoff, and tries again: the listener
// stays alive. After DefaultShedAfter of that a waiting client is reset with a
// descriptor kept in reserve, so that it learns of it.
//
// The error matches ctx's, os.ErrDeadlineExceeded or net.ErrClosed; the
// listener is still usable after the first two.
func (l *Listener) AcceptContext(ctx context.Context) (*Conn, error) {
	start := time.Now()
	c, err := l.acceptTurn(ctx)
	if l.trace != nil {
		ev := Event{Time: start, Duration: time.Since(start), Op: OpAccept, Socket: l.id, Network: l.network, Local: l.a.Addr().String(), State: StateListening, Err: err}
		if c != nil {
			ev.Socket, ev.State = c.id, StateConnected
			ev.Local, ev.Peer = c.LocalAddr().String(), c.RemoteAddr().String()
		}
		l.trace(ev)
	}
	return c, err
}

func (l *Listener) acceptTurn(ctx context.Context) (*Conn, error) {
	if err := l.rd.lock(ctx); err != nil {
		return nil, opError(OpAccept, l.name(), err)
	}
	defer l.rd.unlock()
	if err := l.takeSlot(ctx); err != nil {
		return nil, err
	}
	w, err := l.rd.begin(ctx)
	if err != nil {
		l.giveSlot()
		return nil, opError(OpAccept, l.name(), err)
	}
	s, err := l.acceptStream(ctx, -1)
	l.rd.end(w)
	if err != nil {
		l.giveSlot()
		return nil, l.acceptError(ctx, err)
	}
	c := newConn(0, l.network, s, capsFor(s, l.caps), l.opts, l.group, l.trace)
	if l.slots != nil {
		c.mu.Lock()
		c.known().release = l.giveSlot
		c.mu.Unlock()
	}
	return c, nil
}

// takeSlot waits while MaxConns are open.
func (l *Listener) takeSlot(ctx context.Context) error {
	if l.slots == nil {
		return nil
	}
	select {
	case <-l.slots:
		return nil
	default:
	}
	if _, err := l.rd.waitFor(ctx, l.slots, -1); err != nil {
		return opError(OpAccept, l.name(), err)
	}
	return nil
}

func (l *Listener) giveSlot() {
	if l.slots != nil {
		l.slots <- struct{}{}
	}
}

// limit sets how many connections may be open.
func (l *Listener) limit(n int) {
	if n > 0 {
		l.slots = make(chan struct{}, n)
		for range n {
			l.slots <- struct{}{}
		}
	}
}

func (l *Listener) acceptError(ctx context.Context, err error) error {
	if _, taken, _ := l.rd.look(); taken {
		return closedError(OpAccept, l.name())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = ctx.Err()
	}
	return opError(OpAccept, l.name(), err)
}

// acceptStream accepts, whatever passing trouble there is. patience bounds how
// long it goes on without descriptors or memory; negative is for ever.
func (l *Listener) acceptStream(ctx context.Context, patience time.Duration) (stream, error) {
	var delay time.Duration
	var since time.Time
	for {
		s, err := l.a.accept()
		switch {
		case err == nil:
			return s, nil
		case sys.ClassOf(err) == sys.Exhausted:
		case sys.OneConnections(err):
			continue
		default:
			return nil, err
		}
		l.exhausted.Add(1)
		if since.IsZero() {
			since = time.Now()
		}
		if patience >= 0 && time.Since(since) >= patience {
			return nil, err
		}
		if sh, ok := l.a.(interface{ shed() bool }); ok && time.Since(since) >= DefaultShedAfter && sh.shed() {
			l.shed.Add(1)
		}
		delay = min(max(2*delay, DefaultAcceptBackoff), MaxAcceptBackoff)
		if l.trace != nil {
			l.trace(Event{Time: time.Now(), Op: OpAccept, Socket: l.id, Network: l.network, Local: l.a.Addr().String(), State: StateListening, Detail: "pause " + delay.String(), Err: opError(OpAccept, l.name(), err)})
		}
		if patience >= 0 { // draining: nobody's deadline counts
			if err := sleep(ctx, delay); err != nil {
				return nil, err
			}
			l.rd.lend(time.Now().Add(drainGrace))
			continue
		}
		if _, err := l.rd.waitFor(ctx, nil, delay); err != nil {
			return nil, err
		}
	}
}

// Exhausted is how often accepting failed for want of descriptors or memory,
// and how many waiting clients were reset because that lasted.
func (l *Listener) Exhausted() (failures, shed int64) { return l.exhausted.Load(), l.shed.Load() }

// Conns iterates over accepted connections until ctx is done or the listener
// is closed, which end it without an error, or accepting fails for good, which
// is its last pair.
func (l *Listener) Conns(ctx context.Context) iter.Seq2[*Conn, error] {
	return func(yield func(*Conn, error) bool) {
		for {
			c, err := l.AcceptContext(ctx)
			if err != nil {
				if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
					yield(nil, err)
				}
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// Close closes the listener and wakes those who accept. The kernel resets the
// connections that wait in its queue (docs/notes/close-listener): Drain first
// if they matter. A second Close does nothing.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		l.rd.take()
		err = l.a.Close()
		if l.trace != nil {
			l.trace(Event{Time: time.Now(), Op: OpClose, Socket: l.id, Network: l.network, Local: l.a.Addr().String(), State: StateClosed, Err: err})
		}
	})
	if err != nil {
		return opError(OpClose, l.name(), err)
	}
	return nil
}

// maxDrain bounds what Drain accepts: more cannot wait in a queue.
const maxDrain = 1 << 16

// Drain stops accepting without resetting anybody who waits: it lets the queue
// admit no more, accepts what is in it, closes the listener, and returns the
// connections. Those who accept are turned away with net.ErrClosed. A limit of
// open connections does not count here.
func (l *Listener) Drain() ([]*Conn, error) {
	l.rd.take()
	l.rd.acquire()
	var conns []*Conn
	var err error
	select {
	case <-l.closed:
		l.rd.unlock()
		return nil, nil
	default:
	}
	if d, ok := l.a.(interface{ drain() ([]stream, error) }); ok {
		var streams []stream
		streams, err = d.drain()
		for _, s := range streams {
			conns = append(conns, newConn(0, l.network, s, capsFor(s, l.caps), l.opts, l.group, l.trace))
		}
		l.rd.unlock()
		return conns, errors.Join(err, l.Close())
	}
	if sh, ok := l.a.(interface{ shrink() }); ok {
		sh.shrink()
	}
	for len(conns) < maxDrain {
		// A deadline in the near future takes what is there and waits no more;
		// trouble that may pass has it renewed.
		l.rd.lend(time.Now().Add(drainGrace))
		var s stream
		if s, err = l.acceptStream(background, drainPatience); err != nil {
			break
		}
		conns = append(conns, newConn(0, l.network, s, capsFor(s, l.caps), l.opts, l.group, l.trace))
	}
	l.rd.unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if err != nil {
		err = opError(OpAccept, l.name(), err)
	}
	return conns, errors.Join(err, l.Close())
}

const (
	drainGrace    = 20 * time.Millisecond // how long Drain looks at an empty queue
	drainPatience = time.Second           // how long it goes on without descriptors or memory
)

// SyscallConn gives access to the descriptor; ErrUnsupported where there is
// none.
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	if fd := l.kernel(); fd != nil {
		if rc := fd.SyscallConn(); rc != nil {
			return rc, nil
		}
	}
	return nil, unsupported("syscallconn", l.name(), "no descriptor")
}

func (l *Listener) kernel() *sys.FD {
	if k, ok := l.a.(*kernelAcceptor); ok {
		return k.fd
	}
	return nil
}

func (l *Listener) buffered() bool { return false }

// A kernelAcceptor is a listening kernel socket: tcp and unix.
type kernelAcceptor struct {
	fd        *sys.FD
	opts      Options
	path      *unixPath
	inherited bool // made by another process: options are set on what is accepted

	mu      sync.Mutex
	reserve io.Closer // a descriptor given up to shed a client
	closed  bool      // and none is kept any more
}

func (k *kernelAcceptor) accept() (stream, error) {
	fd, err := k.fd.Accept()
	if err != nil {
		return nil, err
	}
	if k.inherited {
		if err := k.opts.apply(fd.Family(), fd.SetInt); err != nil {
			fd.Close()
			return nil, err
		}
	}
	return newKernelStream(fd), nil
}

func (k *kernelAcceptor) SetDeadline(t time.Time) error { return k.fd.SetReadDeadline(t) }

func (k *kernelAcceptor) Addr() net.Addr { return k.fd.LocalAddr().Net() }

func (k *kernelAcceptor) Close() error {
	k.path.remove()
	k.mu.Lock()
	k.closed = true
	k.giveUpReserve()
	k.mu.Unlock()
	return k.fd.Close()
}

// shrink lets the queue admit no more; what is in it stays (docs/notes/backlog).
func (k *kernelAcceptor) shrink() { _ = k.fd.SetBacklog(0) }

// keepReserve opens the descriptor that shed gives up; mu is held.
func (k *kernelAcceptor) keepReserve() {
	if k.closed || k.reserve != nil {
		return
	}
	if f, err := os.Open(os.DevNull); err == nil {
		k.reserve = f
	}
}

// giveUpReserve reports whether there was a descriptor to give up; mu is held.
func (k *kernelAcceptor) giveUpReserve() bool {
	if k.reserve == nil {
		return false
	}
	k.reserve.Close()
	k.reserve = nil
	return true
}

// shed resets one waiting client with the reserve's descriptor.
func (k *kernelAcceptor) shed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.keepReserve()
	if !k.giveUpReserve() {
		return false
	}
	// Only what waits already: the caller is not to be held up here.
	if r, err := k.fd.Readiness(); err != nil || r&sys.Readable == 0 {
		return false
	}
	fd, err := k.fd.Accept()
	if err != nil {
		return false
	}
	_ = fd.Abort()
	return true
}

// newKernelAcceptor drives a listening socket, with a descriptor in reserve.
func newKernelAcceptor(fd *sys.FD, opts Options, path *unixPath, inherited bool) *kernelAcceptor {
	k := &kernelAcceptor{fd: fd, opts: opts, path: path, inherited: inherited}
	k.keepReserve()
	return k
}

// A foreignAcceptor is a transport's net.Listener.
type foreignAcceptor struct{ DeadlineListener }

func (f foreignAcceptor) accept() (stream, error) {
	nc, err := f.Accept()
	if err != nil {
		return nil, err
	}
	return asStream(nc), nil
}
