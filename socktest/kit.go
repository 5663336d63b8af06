// This file holds what a case works with: connected pairs, calls that run
// beside it, waiting for conditions, and the release of all that at its end.

package socktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock"
)

// A tester is what a case needs of a *testing.T. The suite's own test gives it
// something else, to see a case fail.
type tester interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A conn is a *anysock.Conn as the cases use it: an interface, so that the
// suite's own test can put a defect into it.
type conn interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	syscall.Conn
	anysock.Source

	Caps() anysock.Caps
	State() anysock.State
	Sent() int64
	Received() int64

	ReadContext(ctx context.Context, p []byte) (int, error)
	ReadAtLeast(ctx context.Context, p []byte, low int) (int, error)
	Peek(ctx context.Context, p []byte) (int, error)
	Wait(ctx context.Context, want anysock.Readiness, low int) (anysock.Readiness, error)
	ActiveRead(ctx context.Context, fn func(p []byte) error) error
	WriteContext(ctx context.Context, p []byte) (int, error)
	WriteBuffers(bufs [][]byte) (int64, error)

	CloseRead() error
	CloseWrite() error
	Disconnect(ctx context.Context) (anysock.End, error)
	Abort() error
	Done() <-chan struct{}
	End() anysock.End
}

// A listener is a *anysock.Listener in the same way.
type listener interface {
	net.Listener
	Caps() anysock.Caps
	AcceptContext(ctx context.Context) (*anysock.Conn, error)
	SetDeadline(t time.Time) error
}

// A selector is an *anysock.Selector in the same way.
type selector interface {
	Add(src anysock.Source, want anysock.Readiness) error
	Wait(ctx context.Context) ([]anysock.Selection, error)
	Close() error
}

var (
	_ conn     = (*anysock.Conn)(nil)
	_ listener = (*anysock.Listener)(nil)
	_ selector = (*anysock.Selector)(nil)
)

// A kit is one run of one case.
type kit struct {
	tester
	*suite
	ctx   context.Context // done at the case's bound
	group anysock.Group   // of all connections, where Listen and Dial make them
	trace anysock.Trace   // set before pair
	role  string          // which end is x now; the case's own goroutine reads and writes it
	tasks sync.WaitGroup

	mu        sync.Mutex // guards what follows
	conns     []*anysock.Conn
	listeners []*anysock.Listener
	over      bool
}

func (k *kit) Errorf(format string, args ...any) {
	k.Helper()
	k.tester.Errorf("%s%s", k.role, fmt.Sprintf(format, args...))
}

func (k *kit) Fatalf(format string, args ...any) {
	k.Helper()
	k.tester.Fatalf("%s%s", k.role, fmt.Sprintf(format, args...))
}

// check fails the case if err is not nil.
func (k *kit) check(what string, err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("%s: %v", what, err)
	}
}

// owns takes care of c: it is aborted at the case's end, or at its bound.
func (k *kit) owns(c *anysock.Conn) conn {
	k.mu.Lock()
	k.conns = append(k.conns, c)
	over := k.over
	k.mu.Unlock()
	if over {
		_ = c.Abort()
	}
	return k.wrap(c)
}

// listen makes a listener.
func (k *kit) listen(opts anysock.Options) (*anysock.Listener, error) {
	ln, err := k.Listen(k.ctx, &anysock.ListenConfig{Options: opts, Group: &k.group, Trace: k.trace})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	k.mu.Lock()
	k.listeners = append(k.listeners, ln)
	k.mu.Unlock()
	return ln, nil
}

func (k *kit) dial(ln *anysock.Listener, opts anysock.Options) (conn, error) {
	c, err := k.Dial(k.ctx, &anysock.Dialer{Options: opts, Group: &k.group, Trace: k.trace}, ln)
	if err != nil {
		return nil, err
	}
	return k.owns(c), nil
}

// connect makes a pair: a was dialed, b was accepted.
func (k *kit) connect(opts anysock.Options) (a, b conn, err error) {
	if k.Listen == nil {
		x, y, err := k.Pair(k.ctx, opts)
		if err != nil {
			return nil, nil, fmt.Errorf("pair: %w", err)
		}
		return k.owns(x), k.owns(y), nil
	}
	ln, err := k.listen(opts)
	if err != nil {
		return nil, nil, err
	}
	// Some transports finish a dial only when the other side has accepted.
	type dialed struct {
		c   conn
		err error
	}
	d := start(k, "Dial", func() dialed {
		c, err := k.dial(ln, opts)
		return dialed{c, err}
	})
	acc, err := ln.AcceptContext(k.ctx)
	if err != nil {
		ln.Close()
		<-d.done
		return nil, nil, errors.Join(fmt.Errorf("accept: %w", err), d.val.err)
	}
	b = k.owns(acc)
	<-d.done
	if d.val.err != nil {
		return nil, nil, fmt.Errorf("dial: %w", d.val.err)
	}
	return d.val.c, b, nil
}

// pair is connect for a case: it cannot fail. At most one opts is given.
func (k *kit) pair(opts ...anysock.Options) (a, b conn) {
	k.Helper()
	a, b, err := k.connect(append(opts, anysock.Options{})[0])
	k.check("making a connected pair", err)
	return a, b
}

// both runs f twice: with the dialed end as x, and with the accepted one.
func (k *kit) both(f func(x, y conn), opts ...anysock.Options) {
	k.Helper()
	a, b := k.pair(opts...)
	k.role = "x was dialed: "
	f(a, b)
	b, a = k.pair(opts...)
	k.role = "x was accepted: "
	f(a, b)
	k.role = ""
}

// smallBuffers asks for buffers that fill up soon, where the transport can.
var smallBuffers = anysock.Options{SendBuffer: 32 << 10, ReceiveBuffer: 32 << 10}

// abandon wakes every call of the case.
func (k *kit) abandon() {
	k.mu.Lock()
	k.over = true
	conns, listeners := k.conns, k.listeners
	k.mu.Unlock()
	for _, c := range conns {
		_ = c.Abort() // ErrUnsupported closes too
	}
	for _, l := range listeners {
		l.Close()
	}
}

// release ends everything that the case made, and waits for it.
func (k *kit) release() {
	k.Helper()
	k.abandon()
	ctx, cancel := context.WithTimeout(context.Background(), releaseBound)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		k.tasks.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		k.Errorf("a call has not returned %s after Abort", releaseBound)
	}
	for _, c := range k.conns {
		select {
		case <-c.Done():
		case <-ctx.Done():
			k.Errorf("a connection has no ending %s after Abort", releaseBound)
			return
		}
	}
	if _, err := k.group.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
		k.Errorf("the group still has %d connections %s after Abort", k.group.Pending(), releaseBound)
	}
}

// A task is a call that runs beside the case. The case's release waits for
// it.
type task[T any] struct {
	k    *kit
	what string
	done chan struct{}
	val  T // valid when done is closed
}

// start runs f beside the case. f must not use the kit's tester.
func start[T any](k *kit, what string, f func() T) *task[T] {
	t := &task[T]{k: k, what: what, done: make(chan struct{})}
	k.tasks.Add(1)
	go t.run(f)
	return t
}

func (t *task[T]) run(f func() T) {
	defer t.k.tasks.Done()
	defer close(t.done)
	t.val = f()
}

// wait is f's result. A call that does not return within the case's bound
// fails the case.
func (t *task[T]) wait() T {
	t.k.Helper()
	select {
	case <-t.done:
	case <-t.k.ctx.Done():
		t.k.Fatalf("%s did not return within %s", t.what, t.k.bound)
	}
	return t.val
}

// settle waits until f has returned, or has probably been stopped because
// nobody reads what it writes.
func (t *task[T]) settle() {
	tm := time.NewTimer(quietTime)
	defer tm.Stop()
	select {
	case <-t.done:
	case <-tm.C:
	}
}

// running says whether f has not returned.
func (t *task[T]) running() bool {
	select {
	case <-t.done:
		return false
	default:
		return true
	}
}

// send starts a write of n bytes of the sequence, and settles it.
func (k *kit) send(c conn, off int64, n int) *task[moved] {
	t := start(k, "Write", func() moved { return write(c, off, n) })
	t.settle()
	return t
}

// most is more than can be written while nobody reads.
func (k *kit) most() int64 { return 2*k.MaxBuffered + 4*int64(k.bulk) }

// flood starts to write until something stops it.
func (k *kit) flood(c conn) *task[moved] {
	return start(k, "Write", func() moved { return flood(c, k.most(), floodChunk) })
}

// idle lets d go by.
func (k *kit) idle(d time.Duration) {
	tm := time.NewTimer(d)
	defer tm.Stop()
	select {
	case <-tm.C:
	case <-k.ctx.Done():
	}
}

// until waits for a condition that nothing announces.
func (k *kit) until(what string, met func() bool) {
	k.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-k.ctx.Done():
			k.Fatalf("%s: not within %s", what, k.bound)
		}
	}
}

// quiet waits until the count has not changed for quietTime, and returns it.
func (k *kit) quiet(count func() int64) int64 {
	last, since := count(), time.Now()
	k.until("a count that no longer changes", func() bool {
		if n := count(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) >= quietTime
	})
	return last
}

// end waits for c's ending.
func (k *kit) end(c conn) anysock.End {
	k.Helper()
	select {
	case <-c.Done():
	case <-k.ctx.Done():
		k.Fatalf("no ending within %s", k.bound)
	}
	return c.End()
}

// finish ends our direction as the transport can: its peer reads end of file.
func (k *kit) finish(c conn) error {
	if k.Caps.Has(anysock.CapHalfClose) {
		return c.CloseWrite()
	}
	return c.Close()
}

// wantEnd fails the case unless m is n bytes and the peer's end.
func (k *kit) wantEnd(what string, m moved, n int64) {
	k.Helper()
	if m.err != nil {
		k.Fatalf("%s: %d of %d bytes, then not the peer's end but: %v", what, m.n, n, m.err)
	}
	if m.n != n {
		k.Fatalf("%s: %d bytes and the peer's end; %d were accepted for sending", what, m.n, n)
	}
}

// wantReset fails the case unless err says that the peer aborted.
func (k *kit) wantReset(what string, err error) {
	k.Helper()
	if !isKind(err, anysock.KindReset) {
		k.Fatalf("%s: want the peer's reset, got %v", what, err)
	}
}

// wantIs fails the case unless err matches target.
func (k *kit) wantIs(what string, err, target error) {
	k.Helper()
	if !errors.Is(err, target) {
		k.Fatalf("%s: want an error that matches %q, got %v", what, target, err)
	}
}

// wantHow fails the case unless e ended so.
func (k *kit) wantHow(what string, e anysock.End, how anysock.How) {
	k.Helper()
	if e.How != how {
		k.Fatalf("%s: the ending is %q, want %q (%v)", what, e, how, e.Err)
	}
}

// isKind reports whether err is an *anysock.Error of that kind.
func isKind(err error, kind anysock.Kind) bool {
	var e *anysock.Error
	return errors.As(err, &e) && e.Kind == kind
}
