package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock"
)

// Options tunes Join. The zero value is ready.
type Options struct {
	// Idle ends the connection when no byte has come in or gone out on either
	// leg for that long, noticed at most a quarter late and never early. 0 and
	// negative are never.
	Idle time.Duration
	// LastWords is how long bytes that a leg had sent before it failed may
	// wait for the other leg to take some, before that is aborted too; each
	// time it takes some they may wait again. 0 is DefaultLastWords, negative
	// does not wait for them.
	LastWords time.Duration
}

// Join passes bytes between two connections in both directions until both are
// over, ends both, and says how it went. The connections belong to Join: it
// leaves them closed, and nobody else may read, write or end them meanwhile.
//
//	on one leg                          the other leg             the record says
//	end of file                         half-close, once all      -
//	                                    bytes are passed on
//	end of file on both                 -                         Graceful
//	reset, cut or lost                  abort                     AbortedByPeer, Truncated, Lost
//	does not take what is sent to it    abort                     the same
//	no data for Options.Idle            abort of both             Idle
//	ctx is done                         abort of both             AbortedByUs
//
// The two directions do not depend on each other: after one has ended the
// other lives as long as it likes, unless Options.Idle says otherwise, and no
// clock but that one ends it. Once a leg has failed both are over: no direction
// waits for a leg whose connection is dead. A reset is noticed in every state,
// also on a leg whose end was read already, and while the other leg takes no
// bytes (on carriers that can tell; see anysock.Conn.Wait). What a leg had sent
// before its reset is passed on as far as the other leg takes it within
// Options.LastWords; that it may not be all is always told.
//
// When both have ended in order, Join disconnects both legs, so that the
// record says whether everything was acknowledged. That is bounded by the
// legs' Options.DrainTimeout, which acknowledgements renew.
//
// A leg that cannot express an ending (see anysock.Caps) gets what comes
// nearest, and Record.Downgrades says so. Without half-close the end is held
// back until the other direction has ended too, because the reply would be
// lost otherwise: there only Options.Idle ends a peer that waits for the end.
// Nothing is held for a peer that has ended both of its directions: one
// without half-close, or a Unix socket that was closed.
//
// Deadlines of the legs count as they are; leave them at zero.
func Join(ctx context.Context, inbound, outbound *anysock.Conn, opts Options) Record {
	now := time.Now()
	r := Record{Accepted: now, Connected: now}
	join(ctx, inbound, outbound, opts, &r)
	r.Done = time.Now()
	return r
}

// join is Join for a record that has been begun.
func join(ctx context.Context, inbound, outbound *anysock.Conn, opts Options, r *Record) {
	j := joint{
		opts: opts, r: r,
		over: make(chan *flow, 2), failed: make(chan *leg, 2), gone: make(chan *leg, 2),
	}
	in, out := &leg{name: Inbound, c: inbound}, &leg{name: Outbound, c: outbound}
	j.legs = [2]*leg{in, out}
	j.flows = [2]*flow{newFlow(in, out), newFlow(out, in)}
	in.reads, out.reads = j.flows[0], j.flows[1]

	j.copies.Add(2)
	for _, f := range j.flows {
		go j.carry(f)
	}
	j.decide(ctx)
	j.unwatch()
	j.copies.Wait()
	if !j.aborted {
		j.disconnect(ctx)
	}
	j.record()
}

// A joint is two legs being joined. The goroutine of Join decides; it alone
// uses what has no other guard.
type joint struct {
	opts  Options
	r     *Record
	legs  [2]*leg
	flows [2]*flow

	over   chan *flow // a flow's goroutine is done with it; has room for both
	failed chan *leg  // the watcher saw a leg fail; has room for both
	gone   chan *leg  // the watcher saw that a leg's peer has closed; has room for both
	copies sync.WaitGroup
	watch  []func() // what ends watching; nil before it has begun

	dead    *leg  // the leg that failed first; nil while none has
	reason  error // why
	aborted bool  // both legs are, or are about to be
}

// A leg is one connection of a joint.
type leg struct {
	name  Leg
	c     *anysock.Conn
	reads *flow // the flow that reads from it

	isGone bool // its peer has closed; decide's
}

// A flow is one direction.
type flow struct {
	src, dst *leg
	base     int64 // what dst had been sent before

	// Set by the flow's goroutine before it reports to over.
	ended  time.Time
	victim *leg  // the leg that failed, nil after an end in order
	err    error // why
	held   bool  // dst has no half-close

	isOver  bool // decide has heard of it
	stopped bool // by decide
}

func newFlow(src, dst *leg) *flow { return &flow{src: src, dst: dst, base: dst.c.Sent()} }

// moved is how many bytes the flow has passed on.
func (f *flow) moved() int64 { return f.dst.c.Sent() - f.base }

// carry copies one direction and passes its end on; Join waits for it.
func (j *joint) carry(f *flow) {
	defer j.copies.Done()
	if _, err := f.dst.c.ReadFrom(f.src.c); err != nil {
		f.err, f.victim = err, f.dst
		var e *anysock.Error
		if errors.As(err, &e) && e.Op == anysock.OpRead {
			f.victim = f.src
		}
	} else if err := f.dst.c.CloseWrite(); errors.Is(err, errors.ErrUnsupported) {
		f.held = f.dst.c.State() != anysock.StateReadEnded // else it is over already
	} else if err != nil {
		f.err, f.victim = err, f.dst
	}
	f.ended = time.Now()
	j.over <- f
}

// beginWatch has both legs watched; what has happened before is reported too.
func (j *joint) beginWatch() {
	w := useWatcher()
	for _, l := range j.legs {
		j.watch = append(j.watch, w.watch(l.c, func(r anysock.Readiness) { j.report(l, r) }))
	}
	j.watch = append(j.watch, w.leave)
}

func (j *joint) unwatch() {
	for _, end := range j.watch {
		end()
	}
}

// report is called by the watcher. A Unix socket also hangs up when its peer
// has closed in order: no failure, since what that peer sent is there to be
// read, but no reply will reach it.
func (j *joint) report(l *leg, r anysock.Readiness) {
	if r&anysock.Failed == 0 {
		if s := l.c.State(); s != anysock.StateConnected && s != anysock.StateReadEnded {
			return // both directions have ended
		}
		// The kernel sets the error after the hang-up: look once more.
		if r, err := l.c.Wait(context.Background(), 0, 1); err != nil || r&anysock.Failed == 0 {
			j.gone <- l // as with failed
			return
		}
	}
	j.failed <- l // it is called once for each leg
}

// decide waits until both flows are over, and ends them when it must.
func (j *joint) decide(ctx context.Context) {
	idle := newIdleClock(j)
	defer idle.stop()
	words := lastWords{limit: orDefault(j.opts.LastWords, DefaultLastWords)}
	defer words.stop()
	watch := time.NewTimer(watchAfter)
	defer watch.Stop()
	inDone, outDone, ctxDone := j.legs[0].c.Done(), j.legs[1].c.Done(), ctx.Done()
	for running := 2; running > 0; {
		select {
		case f := <-j.over:
			running--
			f.isOver = true
			switch {
			case j.aborted:
			case f.stopped && f.victim == f.src && errors.Is(f.err, os.ErrDeadlineExceeded):
				// Nobody is there for what it would bring.
			case f.victim != nil && j.dead == nil:
				j.dead, j.reason = f.victim, f.err
			default:
				j.letGo(f)
			}
		case l := <-j.gone:
			l.isGone = true
			if l.reads.isOver && !j.aborted {
				j.letGo(l.reads)
			}
		case <-watch.C:
			j.beginWatch()
		case l := <-j.failed:
			if j.dead == nil {
				j.dead, j.reason = l, &anysock.Error{Op: anysock.OpWait, Addr: l.peer(), Kind: anysock.KindReset, Err: syscall.ECONNRESET}
			}
		case <-inDone:
			inDone = nil
			j.legEnded(j.legs[0])
		case <-outDone:
			outDone = nil
			j.legEnded(j.legs[1])
		case <-idle.tick():
			if idle.expired() {
				j.cut(anysock.Idle, &anysock.IdleError{After: j.opts.Idle})
			}
		case <-words.tick():
			if words.over() {
				j.abort()
			}
		case <-ctxDone:
			ctxDone = nil
			j.cut(anysock.AbortedByUs, context.Cause(ctx))
		}
		// Whatever made a leg fail, the flow that reads from it may have bytes
		// to pass on, and ends by itself once it has.
		if j.dead != nil && !j.aborted {
			if j.dead.reads.isOver || words.limit < 0 {
				j.abort()
			} else {
				words.begin(j.dead.reads)
			}
		}
	}
}

// letGo passes on an end that was held back for a reply, if nobody is there to
// get one: the leg that has ended did so in both directions. What ends the other
// leg is the end of both flows.
func (j *joint) letGo(f *flow) {
	if !f.held || f.src.c.Caps().Has(anysock.CapHalfClose) && !f.src.isGone {
		return
	}
	f.held = false
	back := f.dst.reads
	if back.isOver {
		return
	}
	back.stopped = true
	_ = back.src.c.SetReadDeadline(time.Unix(1, 0)) // one that is closing stops by itself
}

// legEnded: the Conn knows its ending. A silent peer is noticed so, also where
// no call is at work.
func (j *joint) legEnded(l *leg) {
	if j.dead != nil || j.aborted {
		return
	}
	j.dead, j.reason = l, l.c.End().Err
	if j.reason == nil { // somebody else has ended it
		j.reason = &anysock.Error{Op: anysock.OpWait, Addr: l.peer(), Kind: anysock.KindClosed, Err: net.ErrClosed}
	}
}

// abort passes on the failure of a leg.
func (j *joint) abort() {
	if j.aborted {
		return
	}
	j.aborted = true
	how := howOf(j.reason)
	_ = j.dead.c.AbortAs(how, j.reason) // has its own ending mostly, and is released
	end := j.dead.c.End()
	if end.How != anysock.NotEnded && !end.How.Complete() && end.Err != nil {
		how, j.reason = end.How, end.Err
	}
	other := j.legs[0]
	if other == j.dead {
		other = j.legs[1]
	}
	j.abortLeg(other, how)
	j.r.How, j.r.By, j.r.Err = how, j.dead.name, j.reason
}

// cut ends both legs for a reason of ours. If a leg is dead already that stays
// the reason.
func (j *joint) cut(how anysock.How, reason error) {
	if j.aborted {
		return
	}
	if j.dead != nil {
		j.abort()
		return
	}
	j.aborted, j.reason = true, reason
	for _, l := range j.legs {
		j.abortLeg(l, how)
	}
	j.r.How, j.r.By, j.r.Err = how, Self, reason
}

func (j *joint) abortLeg(l *leg, how anysock.How) {
	err := l.c.AbortAs(how, j.reason)
	// One that had failed by itself needs no abort.
	if errors.Is(err, errors.ErrUnsupported) && l.c.End().How == how {
		j.r.Downgrades = append(j.r.Downgrades, Downgrade{l.name, "abort", insteadOfAbort(l.c)})
	}
}

// howOf is the ending that an error means for the other leg.
func howOf(err error) anysock.How {
	var e *anysock.Error
	if errors.As(err, &e) {
		switch e.Kind {
		case anysock.KindReset, anysock.KindState: // a peer without half-close that has ended takes nothing
			return anysock.AbortedByPeer
		case anysock.KindTruncated:
			return anysock.Truncated
		case anysock.KindLost, anysock.KindUnreachable:
			return anysock.Lost
		}
	}
	return anysock.AbortedByUs
}

// disconnect ends both legs after both directions have ended in order.
func (j *joint) disconnect(ctx context.Context) {
	var other sync.WaitGroup
	other.Go(func() { disconnectLeg(ctx, j.legs[0]) })
	disconnectLeg(ctx, j.legs[1])
	other.Wait()

	first := j.flows[0]
	if j.flows[1].endSeen().Before(first.endSeen()) {
		first = j.flows[1]
	}
	j.r.How, j.r.By = anysock.Graceful, first.src.name
	for _, l := range j.legs {
		if end := l.c.End(); !end.How.Complete() {
			j.r.How, j.r.By, j.r.Err = end.How, l.name, end.Err
			if cause := context.Cause(ctx); cause != nil && errors.Is(end.Err, cause) {
				j.r.By = Self
			}
			break
		}
	}
}

// disconnectLeg waits until the leg has ended. If ctx is done before, what is
// not acknowledged by then is given up.
func disconnectLeg(ctx context.Context, l *leg) {
	if end, err := l.c.Disconnect(ctx); err != nil && end.How == anysock.NotEnded {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		_ = l.c.AbortAs(anysock.AbortedByUs, err)
	}
}

// endSeen is when the end of the flow's source was read.
func (f *flow) endSeen() time.Time {
	if t := f.src.c.End().ReadEnded; !t.IsZero() {
		return t
	}
	return f.ended
}

// record fills in the rest.
func (j *joint) record() {
	j.r.Inbound, j.r.Outbound = RecordLeg(j.legs[0].c), RecordLeg(j.legs[1].c)
	for i, d := range []*Direction{&j.r.ToOutbound, &j.r.ToInbound} {
		f := j.flows[i]
		d.Bytes, d.Ended = f.moved(), f.ended
		d.FirstByte = f.src.c.End().FirstReceived
		if f.held {
			j.r.Downgrades = append(j.r.Downgrades, Downgrade{f.dst.name, "half-close", "held"})
		}
	}
}

func (l *leg) peer() string {
	network, text := addrText(l.c.RemoteAddr())
	return network + ":" + text
}

// idleChecks is how often the counters are looked at within Options.Idle.
const idleChecks = 8

// An idleClock looks at the legs' counters; copying knows nothing of it.
type idleClock struct {
	j      *joint
	ticker *time.Ticker // nil: no clock
	sum    int64
	since  time.Time
}

func newIdleClock(j *joint) *idleClock {
	k := &idleClock{j: j}
	if j.opts.Idle > 0 {
		k.sum, k.since = k.count(), time.Now()
		k.ticker = time.NewTicker(max(j.opts.Idle/idleChecks, time.Millisecond))
	}
	return k
}

func (k *idleClock) tick() <-chan time.Time {
	if k.ticker == nil {
		return nil
	}
	return k.ticker.C
}

func (k *idleClock) stop() {
	if k.ticker != nil {
		k.ticker.Stop()
	}
}

func (k *idleClock) count() (sum int64) {
	for _, l := range k.j.legs {
		sum += l.c.Received() + l.c.Sent()
	}
	return sum
}

// expired looks at the counters. When they have moved, that was after the last
// look: the clock starts anew from now, so it is never early.
func (k *idleClock) expired() bool {
	now := time.Now()
	if sum := k.count(); sum != k.sum {
		k.sum, k.since = sum, now
	}
	return now.Sub(k.since) >= k.j.opts.Idle
}

// lastWords bounds how long a dead leg's bytes wait for the other leg. Those
// bytes are few: what its receive buffer and one pipe hold.
type lastWords struct {
	limit time.Duration // negative: none are waited for
	timer *time.Timer   // nil: not begun
	f     *flow
	moved int64
}

func (w *lastWords) begin(f *flow) {
	if w.timer == nil {
		w.f, w.moved, w.timer = f, f.moved(), time.NewTimer(w.limit)
	}
}

func (w *lastWords) tick() <-chan time.Time {
	if w.timer == nil {
		return nil
	}
	return w.timer.C
}

// over is false if bytes were taken since it was last asked.
func (w *lastWords) over() bool {
	if n := w.f.moved(); n != w.moved {
		w.moved = n
		w.timer.Reset(w.limit)
		return false
	}
	return true
}

func (w *lastWords) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
