//go:build linux && !anysock_portable

package relay

import (
	"errors"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file reaches the target on a loop, as anysock.Dialer does: addresses
// are raced (RFC 8305 section 5), rounds are paced by their start.

const (
	// firstWords is how much a client's first message may have to go out with
	// the last segment of the target's handshake.
	firstWords = 4 << 10
	// fullQueueDelay and maxFullQueueDelay pace the tries to connect to a Unix
	// listener whose queue is full, for which the kernel has no event.
	fullQueueDelay    = 2 * time.Millisecond
	maxFullQueueDelay = 100 * time.Millisecond
)

// A dialing is a pair whose target does not answer at once.
type dialing struct {
	p        *pair
	timer    reactor.Node // the next attempt, or the next round
	round    int
	began    time.Time // the dialing
	roundAt  time.Time // the round
	attempts []anysock.Attempt
	queue    []*destination // not tried yet in this round
	tries    []*try         // under way
	due      bool           // the next address may be tried
	looking  bool           // addresses may still be found
	resolve  error          // why there are none
	resting  bool           // between two rounds
}

// A try is one attempt at one address.
type try struct {
	d       *dialing
	node    *reactor.Node // the outbound leg's, if that was free
	own     reactor.Node
	to      *destination
	started time.Time
	until   time.Duration
	delay   time.Duration // of a Unix listener's full queue
}

// dial begins to reach the target. Mostly that is done when it returns: on
// this machine connecting takes no time.
func (p *pair) dial() {
	core := p.gate.core
	if len(core.e.addrs) == 0 {
		p.dialLater().start()
		return
	}
	in := &p.legs[0]
	b := core.loop.Buffer[:firstWords]
	n, err := core.loop.Recv(&in.node, b)
	b = b[:max(n, 0)]
	ended := n == 0 && err == nil
	if n > 0 {
		in.took(n)
	}
	began := time.Now()
	to := core.e.addrs[0]
	m, cerr := core.connect(to, b)
	if m.done {
		if p.connect(to, m) {
			if m.sent > 0 {
				in.gave(m.sent)
			}
			p.join(b[m.sent:])
			p.early(ended, err)
		}
		return
	}
	d := p.dialLater()
	d.began, d.roundAt = began, began
	if n > 0 {
		in.hold().buf = append(make([]byte, 0, n), b...)
	}
	d.early(err)
	d.queue = append(d.queue, core.e.addrs[1:]...)
	d.follow(to, began, m.fd, cerr)
	d.step()
}

// dialing is the pair's, nil while it has none.
func (p *pair) dialing() *dialing {
	if p.result == nil {
		return nil
	}
	return p.result.dialing
}

// early deals with what the first look at the client has found beside bytes.
func (p *pair) early(ended bool, err error) {
	if p.is(joined) && (ended || err != nil && !errors.Is(err, sys.ErrWouldBlock)) {
		p.legs[0].nothing(err)
	}
}

func (d *dialing) early(err error) {
	if err != nil && !errors.Is(err, sys.ErrWouldBlock) && sys.ClassOf(err) != sys.Exhausted {
		_, e := bridge.Failure(anysock.OpRead, d.p.legs[0].name(), err)
		d.p.outcome().reason = e
	}
}

// dialLater makes the dialing of a pair.
func (p *pair) dialLater() *dialing {
	core := p.gate.core
	now := time.Now()
	d := &dialing{p: p, round: 1, began: now, roundAt: now}
	d.timer.Source = d
	p.outcome().dialing = d
	core.dialing[d] = struct{}{}
	// What comes waits; that the client goes away is looked at a little later.
	core.loop.SetTimer(&p.legs[0].node, watchAfter)
	return d
}

// clientIsReady: the client has hung up.
func (d *dialing) clientIsReady(found sys.Events) {
	p := d.p
	if found&(sys.EventPeerEnd|sys.EventError|sys.EventHangUp) != 0 {
		p.legs[0].flags |= hungUp
	}
	if found&(sys.EventError|sys.EventHangUp) != 0 {
		p.flags |= clientGone
		d.lookAtClient()
	}
}

// lookAtClient finds out whether a client that hung up has gone: with bytes to
// deliver it still counts on us, and one that has closed with none does not.
func (d *dialing) lookAtClient() {
	p := d.p
	in := &p.legs[0]
	if !p.is(clientGone) || p.now()-p.accepted < watchAfter {
		return
	}
	p.flags &^= clientGone
	err := in.loop().TakeError(&in.node)
	if err == nil && p.outcome().reason == nil {
		n, uerr := sys.RawUnread(in.node.FD())
		if in.held != nil || uerr == nil && n > 0 {
			return
		}
		p.refuse(ErrClientLeft)
		return
	}
	if err != nil {
		_, p.outcome().reason = bridge.Failure(anysock.OpWait, in.name(), err)
	}
	p.refuse(ErrClientLeft)
}

// start begins a round.
func (d *dialing) start() {
	core := d.p.gate.core
	d.due, d.resting, d.resolve = true, false, nil
	if addrs := core.e.addrs; len(addrs) > 0 {
		d.queue = append(d.queue, addrs...)
	} else {
		d.looking = true
		core.ask(d)
	}
	d.step()
}

// step does what there is to be done now.
func (d *dialing) step() {
	core := d.p.gate.core
	dial := core.e.dial
	for d.isOn() && d.due && len(d.queue) > 0 && (!dial.Sequential || len(d.tries) == 0) {
		to := d.queue[0]
		d.queue = d.queue[1:]
		d.due = false
		if !dial.Sequential {
			core.loop.SetTimer(&d.timer, dial.AttemptDelay)
		}
		began := time.Now()
		m, err := core.connect(to, nil)
		if m.done {
			d.won(to, m, nil)
			return
		}
		d.follow(to, began, m.fd, err)
	}
	if d.isOn() && !d.resting && !d.looking && len(d.queue) == 0 && len(d.tries) == 0 {
		d.roundFailed()
	}
}

// isOn is false once the dialing is over.
func (d *dialing) isOn() bool { return d.p.dialing() == d }

// follow goes on with an attempt that was begun: fd is under way, unless err
// says that it failed.
func (d *dialing) follow(to *destination, began time.Time, fd int, err error) {
	core := d.p.gate.core
	dial := core.e.dial
	if !d.isOn() {
		if err == nil {
			sys.RawClose(fd)
		}
		return
	}
	t := &try{d: d, to: to, started: began}
	if err == nil {
		t.node = &d.p.legs[1].node
		if t.node.Open() {
			t.node = &t.own
		}
		t.node.Source = t
		if err = core.loop.Add(t.node, reactor.Handle(fd), sys.EventOut); err != nil {
			sys.RawClose(fd)
		}
	} else if sys.ClassOf(err) == sys.Again && to.Family == sys.Unix {
		t.node, t.delay = &t.own, fullQueueDelay
		t.own.Source = t
		err = nil
	}
	if err != nil {
		d.failed(t, err)
		return
	}
	d.tries = append(d.tries, t)
	t.until = core.loop.Elapsed() + dial.AttemptTimeout
	t.arm()
	if !dial.Sequential && len(d.queue) > 0 && !d.timer.TimerSet() {
		core.loop.SetTimer(&d.timer, dial.AttemptDelay)
	}
}

// arm sets the timer of a try.
func (t *try) arm() {
	loop := t.d.p.gate.core.loop
	left := t.until - loop.Elapsed()
	if t.delay > 0 {
		left = min(left, t.delay)
	}
	loop.SetTimer(t.node, left)
}

// Ready: the outcome of a connect is there.
func (t *try) Ready(sys.Events) {
	d := t.d
	loop := d.p.gate.core.loop
	m := made{fd: t.node.FD()}
	err := sys.RawConnectError(m.fd)
	if err == nil {
		m.local, err = connected(m.fd, t.to)
	}
	if err == nil {
		d.remove(t)
		d.won(t.to, m, t)
		return
	}
	loop.Close(t.node)
	d.remove(t)
	d.failed(t, err)
	d.step()
}

// Expired: no answer in time; or the queue of a Unix listener is to be tried
// again.
func (t *try) Expired() {
	d := t.d
	core := d.p.gate.core
	if core.loop.Elapsed() >= t.until {
		core.loop.Close(t.node)
		d.remove(t)
		d.failed(t, core.e.dial.TimedOut)
		d.step()
		return
	}
	if t.delay == 0 {
		t.arm()
		return
	}
	m, err := core.connect(t.to, nil)
	switch {
	case m.done:
		d.remove(t)
		d.won(t.to, m, nil)
	case sys.ClassOf(err) == sys.Again:
		t.delay = min(2*t.delay, maxFullQueueDelay)
		t.arm()
	default:
		if err == nil { // a Unix socket connects at once or not at all
			sys.RawClose(m.fd)
			err = syscall.EINPROGRESS
		}
		d.remove(t)
		d.failed(t, err)
		d.step()
	}
}

func (d *dialing) remove(t *try) {
	for i, x := range d.tries {
		if x == t {
			d.tries = append(d.tries[:i], d.tries[i+1:]...)
			return
		}
	}
}

// failed notes an attempt; the next address may be tried at once.
func (d *dialing) failed(t *try, err error) {
	d.due = true
	if len(d.attempts) >= maxAttempts {
		return
	}
	at := anysock.Attempt{
		Round: d.round, Addr: t.to.Net().String(),
		Started: t.started.Sub(d.began), Duration: time.Since(t.started), Err: err,
	}
	i := len(d.attempts)
	d.attempts = append(d.attempts, at)
	for ; i > 0 && d.attempts[i-1].Started > at.Started; i-- {
		d.attempts[i] = d.attempts[i-1]
	}
	d.attempts[i] = at
}

// Ready is never called: the timer has no descriptor.
func (*dialing) Ready(sys.Events) {}

// Expired: the next address, or the next round.
func (d *dialing) Expired() {
	if d.resting {
		d.round++
		d.roundAt = time.Now()
		d.start()
		return
	}
	d.due = true
	d.step()
}

// roundFailed tries again later, or gives up.
func (d *dialing) roundFailed() {
	core := d.p.gate.core
	dial := core.e.dial
	err, again := dial.Failed(d.attempts, d.resolve, d.round)
	if !again || dial.Attempts >= 0 && d.round >= max(dial.Attempts, 1) {
		d.p.refuse(err)
		return
	}
	d.resting = true
	core.loop.SetTimer(&d.timer, time.Until(d.roundAt.Add(dial.Interval)))
}

// end stops all that is under way.
func (d *dialing) end() {
	core := d.p.gate.core
	core.loop.StopTimer(&d.timer)
	for _, t := range d.tries {
		core.loop.Close(t.node)
		core.loop.StopTimer(t.node)
	}
	d.tries, d.queue = nil, nil
	d.p.result.dialing = nil
	delete(core.dialing, d)
	if core.asking != nil {
		core.asking.forget(d)
	}
}

// won has a connection, that of try t if that is not nil.
func (d *dialing) won(to *destination, m made, t *try) {
	p := d.p
	core := p.gate.core
	out := &p.legs[1]
	if t != nil {
		core.loop.StopTimer(t.node)
	}
	d.end() // t is not among the tries any more
	if p.result.attempts = d.attempts; len(d.attempts) == 0 && p.result.reason == nil {
		p.result = nil // there is nothing to be said
	}
	switch {
	case t != nil && t.node == &out.node:
		out.node.Source = out
		p.to = to
		p.notice(m.local)
		if err := core.loop.Want(&out.node, watched); err != nil {
			p.giveUp(bridge.OpError(anysock.OpWait, out.name(), err))
			return
		}
	case t != nil:
		core.loop.Release(t.node)
		fallthrough
	default:
		out.node.Source = out
		if !p.connect(to, m) {
			return
		}
	}
	in := &p.legs[0]
	early := in.held
	in.held = nil
	var b []byte
	if early != nil {
		b = early.buf
	}
	p.join(b)
	if p.result != nil && p.result.reason != nil && p.is(joined) {
		e := p.result.reason
		p.result.reason = nil
		op := anysock.OpRead
		if in.held != nil {
			op = anysock.OpWait // there are last words
		}
		p.failAs(in, op, e)
		return
	}
	if p.is(joined) {
		in.pump() // what came meanwhile was told of before
	}
}
