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

// This file ends connections on a loop, as join.go does it with goroutines: what
// ends on one leg ends in the same way on the other.

// A result is how a pair went. It is made at the ending, or where dialing the
// target takes time.
type result struct {
	dialing    *dialing // while the target is dialed
	how        anysock.How
	by         Leg
	err        error
	reason     error // why the first leg to fail has failed
	words      int64 // of a dead leg's last bytes the other had taken so many at the last look
	cut        bool  // by Shutdown
	ends       [2]halfEnd
	client     sys.Addr // of a Unix socket
	attempts   []anysock.Attempt
	downgrades []Downgrade
	done       time.Duration
}

// A halfEnd is the ending of one leg.
type halfEnd struct {
	how     anysock.How
	by      anysock.Side
	acked   anysock.Ack
	unacked int64
	err     error
	local   sys.RawAddr
}

func (p *pair) outcome() *result {
	if p.result == nil {
		p.result = new(result)
	}
	return p.result
}

// legName says which leg it is.
func (l *half) legName() Leg {
	if l.isOutbound() {
		return Outbound
	}
	return Inbound
}

// options are those of the leg.
func (l *half) options() *anysock.Options {
	if l.isOutbound() {
		return &l.p.gate.core.e.opts
	}
	return &l.p.gate.en.opts
}

// name is the peer for messages.
func (l *half) name() string {
	en := l.p.gate.en
	switch {
	case l.isOutbound() && l.p.to != nil:
		return l.p.to.network + ":" + l.p.to.text
	case l.isOutbound() || !en.tcp:
		return en.name
	}
	return "tcp:" + addrString(l.p.peer.Addr())
}

// peerEnded: the end of one direction is passed on, once all its bytes are.
func (p *pair) peerEnded(l *half) {
	if p.dead() == l {
		l.over = p.now() // the kernel tells a failure once; what comes next is no end
		p.abort()
		return
	}
	o := l.other()
	l.flags |= readEnded
	if l.by() == 0 {
		l.flags |= peerWas
	}
	if !p.is(firstIn | firstOut) {
		p.flags |= firstIn
		if l.isOutbound() {
			p.flags += firstOut - firstIn
		}
	}
	if o.by() == 0 {
		o.flags |= weWere
	}
	l.over = p.now()
	if o.over != 0 && o.is(readEnded) {
		p.disconnect() // which sends our end
		return
	}
	o.flags |= endSent
	if err := l.loop().CloseWrite(&o.node); err != nil {
		o.flags &^= endSent
		if errors.Is(err, syscall.ENOTCONN) { // dead already; the reason is told once
			if err = l.loop().TakeError(&o.node); err == nil {
				err = syscall.ECONNRESET
			}
		}
		p.fail(o, anysock.OpShutdown, err)
		return
	}
	p.owe(o)
}

func (l *half) by() halfFlags { return l.flags & (peerWas | weWere) }

// owe has a leg looked at for silence.
func (p *pair) owe(l *half) {
	m := p.gate.core.monitor
	if !l.isOutbound() {
		m = p.gate.monitor
	}
	if m != nil {
		m.Owe(&l.node)
	}
}

// dead is the leg that has failed first, nil while none has.
func (p *pair) dead() *half {
	switch {
	case p.is(inDead):
		return &p.legs[0]
	case p.is(outDead):
		return &p.legs[1]
	}
	return nil
}

// fail: l is dead. What it had sent before is passed on as long as the other
// leg takes it, then that is aborted too.
func (p *pair) fail(l *half, op string, err error) {
	if !p.is(joined) {
		return
	}
	_, e := bridge.Failure(op, l.name(), err)
	p.failAs(l, op, e)
}

func (p *pair) failAs(l *half, op string, e error) {
	o := l.other()
	switch p.dead() {
	case nil:
		if l.isOutbound() {
			p.flags |= outDead
		} else {
			p.flags |= inDead
		}
		p.outcome().reason = e
		if l.by() == 0 && howOf(e) == anysock.AbortedByPeer {
			l.flags |= peerWas
		}
	case o:
		// Both are dead: nobody takes the last words.
		l.over = p.now()
		p.abort()
		return
	}
	o.drop() // nobody takes it
	if o.over == 0 {
		o.over = p.now()
	}
	words := orDefault(p.gate.core.e.r.Options.LastWords, DefaultLastWords)
	if op == anysock.OpRead && l.over == 0 {
		l.over = p.now()
	}
	if l.over != 0 || words < 0 {
		p.abort()
		return
	}
	p.result.words = o.sent
	p.gate.core.loop.SetTimer(&p.legs[0].node, words)
	l.flags |= hungUp // whatever it was noticed by
	if l.held == nil {
		l.pump()
	}
}

// wordsExpired aborts unless the other leg has taken some of the last words.
func (p *pair) wordsExpired() {
	o := p.dead().other()
	if p.result.words == o.sent {
		p.abort()
		return
	}
	p.result.words = o.sent
	p.gate.core.loop.SetTimer(&p.legs[0].node, orDefault(p.gate.core.e.r.Options.LastWords, DefaultLastWords))
}

// lose: the peer of l is silent.
func (l *half) lose(silent time.Duration) {
	p := l.p
	e := &anysock.Error{
		Op: anysock.OpWait, Addr: l.name(), Kind: anysock.KindLost, Err: syscall.ETIMEDOUT,
		Hint: "nothing was heard for " + silent.Round(time.Millisecond).String() + " while data is unacknowledged: the peer or the path to it is gone",
	}
	if p.is(joined) {
		l.over = p.now() // nothing more will come
		p.failAs(l, anysock.OpWait, e)
		return
	}
	// What is closed with something owed is to have the kernel's own patience
	// (docs/notes/lost-peer); where that cannot be set it has it.
	_ = l.loop().SetInt(&l.node, sys.MaxRetransmit, int(fullPatience/time.Millisecond))
	l.loop().Abandon(&l.node, false, e)
}

const fullPatience = 120 * time.Second

// abort passes on the failure of the dead leg.
func (p *pair) abort() {
	if !p.is(joined) {
		return
	}
	p.flags &^= joined
	r, l := p.outcome(), p.dead()
	r.how, r.by, r.err = howOf(r.reason), l.legName(), r.reason
	p.closeLeg(l, halfEnd{how: r.how, err: r.reason, unacked: l.unacked()}, true)
	p.abortLeg(l.other(), r.how, r.reason, "abort")
	p.finish()
}

// cut ends both legs for a reason of ours. If a leg is dead already that stays
// the reason.
func (p *pair) cut(how anysock.How, reason error) {
	switch {
	case p.is(joined) && p.dead() != nil:
		p.abort()
	case p.is(joined):
		p.flags &^= joined
		r := p.outcome()
		r.how, r.by, r.err = how, Self, reason
		for i := range p.legs {
			p.abortLeg(&p.legs[i], how, reason, "abort")
		}
		p.finish()
	case p.dialing() != nil:
		p.refuse(reason)
	default:
		for i := range p.legs {
			if n := &p.legs[i].node; n.Open() {
				p.gate.core.loop.Abandon(n, p.legs[i].is(isTCP), reason)
			}
		}
	}
}

// abortLeg resets a leg. A reset that nobody has read yet is its true ending.
func (p *pair) abortLeg(l *half, how anysock.How, reason error, ending string) {
	end := halfEnd{how: how, err: reason}
	if l.node.Open() {
		if err := l.loop().TakeError(&l.node); err != nil {
			h, e := bridge.Failure(anysock.OpAbort, l.name(), err)
			end.how, end.err = anysock.How(h), e
			if l.by() == 0 && end.how == anysock.AbortedByPeer {
				l.flags |= peerWas
			}
		}
		end.unacked = l.unacked()
	}
	if !l.is(isTCP) && end.how == how {
		r := p.outcome()
		r.downgrades = append(r.downgrades, Downgrade{l.legName(), ending, "close"})
	}
	if l.by() == 0 {
		l.flags |= weWere
	}
	p.closeLeg(l, end, true)
}

// unacked is how many bytes of ours nobody has confirmed.
func (l *half) unacked() int64 {
	if !l.is(isTCP) || !l.node.Open() {
		return 0
	}
	n, err := l.loop().Unacked(&l.node)
	if err != nil || n == 0 {
		return 0
	}
	if l.is(endSent) {
		n--
	}
	return min(int64(n), l.sent)
}

// closeLeg closes the descriptor and notes the ending.
func (p *pair) closeLeg(l *half, end halfEnd, reset bool) {
	l.locate(&end)
	if l.node.Open() {
		if reset && l.is(isTCP) {
			_ = l.loop().DiscardOnClose(&l.node)
		}
		l.loop().Close(&l.node)
	}
	l.noteEnd(end)
}

// locate finds out the addresses that the record needs and the pair does not
// have.
func (l *half) locate(end *halfEnd) {
	en := l.p.gate.en
	if en.e.rec == nil || !l.node.Open() {
		return
	}
	switch {
	case l.isOutbound() && l.p.port > 0:
		end.local = l.p.to.usual.Load().WithPort(l.p.port)
	case l.isOutbound(), en.local == "":
		end.local = sys.RawSelf(l.node.FD())
	}
	if !l.isOutbound() && !l.is(isTCP) {
		l.p.outcome().client, _ = sys.RawPeer(l.node.FD())
	}
}

// noteEnd completes the ending of a leg that is closed.
func (l *half) noteEnd(end halfEnd) {
	switch {
	case l.is(peerWas):
		end.by = anysock.Peer
	case l.is(weWere):
		end.by = anysock.Us
	case end.how == anysock.Lost || end.how == anysock.Truncated:
		end.by = anysock.Nobody
	default:
		end.by = anysock.Us
	}
	l.flags |= recorded
	if l.over == 0 {
		l.over = l.p.now()
	}
	i := 0
	if l.isOutbound() {
		i = 1
	}
	l.p.outcome().ends[i] = end
}

// disconnect ends both legs after both directions have ended in order: what is
// not acknowledged yet is waited for.
func (p *pair) disconnect() {
	p.flags &^= joined
	loop := p.gate.core.loop
	for i := range p.legs {
		loop.StopTimer(&p.legs[i].node)
	}
	for i := range p.legs {
		p.disconnectLeg(&p.legs[i])
	}
	p.finishIfDisconnected()
}

// disconnectLeg ends a leg in order. What has nothing to wait for is closed at
// once, and the kernel has our end from then on to deliver: the peer's end was
// seen, and all our bytes are acknowledged.
func (p *pair) disconnectLeg(l *half) {
	if l.is(readEnded) {
		if !l.is(isTCP) {
			p.closeLeg(l, halfEnd{how: anysock.Graceful}, false)
			return
		}
		// Once both ends have gone through, the kernel is done with the connection:
		// what has failed before has left something unacknowledged.
		n, err := l.loop().Unacked(&l.node)
		if err == nil && n == 0 && (l.is(endSent) || l.loop().TakeError(&l.node) == nil) {
			p.closeLeg(l, halfEnd{how: anysock.Graceful, acked: anysock.AckedKernel}, false)
			return
		}
	}
	var end halfEnd
	l.locate(&end) // while there is a descriptor
	b := reactor.Bounds{DrainBytes: l.options().DrainBytes, Patience: l.options().DrainTimeout}
	l.loop().Disconnect(&l.node, l.is(isTCP), l.is(endSent), l.is(readEnded), b, func(o reactor.Outcome) {
		p.disconnected(l, o, end)
	})
}

// disconnected has the outcome of the reactor's disconnect.
func (p *pair) disconnected(l *half, o reactor.Outcome, end halfEnd) {
	l.received += o.Drained
	if o.TheirEnd && !l.is(readEnded) {
		l.flags |= readEnded
		if l.by() == 0 {
			l.flags |= peerWas
		}
	}
	end.unacked = min(int64(o.Unacked), l.sent)
	switch {
	case errors.Is(o.Err, ErrDrainDeadline):
		end.how, end.err = anysock.AbortedByUs, o.Err
	case o.Err != nil:
		how, e := bridge.Failure(anysock.OpDisconnect, l.name(), o.Err)
		end.how, end.err = anysock.How(how), e
		if l.by() == 0 && end.how == anysock.AbortedByPeer {
			l.flags |= peerWas
		}
	case o.Unacked > 0:
		end.how = anysock.Lost
		end.err = &anysock.Error{
			Op: anysock.OpDisconnect, Addr: l.name(), Kind: anysock.KindLost, Err: &unackedError{int64(o.Unacked), l.options().DrainTimeout},
			Hint: "the peer does not read, or the path to it is gone; allow more time, or abort",
		}
	default:
		end.how = anysock.Delivered
		if l.is(readEnded) {
			end.how = anysock.Graceful
		}
		if l.is(isTCP) {
			end.acked = anysock.AckedKernel
		}
	}
	l.noteEnd(end)
	p.finishIfDisconnected()
}

// finishIfDisconnected ends the pair when both legs are over.
func (p *pair) finishIfDisconnected() {
	if p.result == nil || p.connected == 0 || !p.legs[0].is(recorded) || !p.legs[1].is(recorded) || p.result.how != anysock.NotEnded {
		return
	}
	r := p.result
	r.how, r.by = anysock.Graceful, Inbound
	if p.is(firstOut) {
		r.by = Outbound
	}
	for i := range p.legs {
		if end := &r.ends[i]; !end.how.Complete() {
			r.how, r.by, r.err = end.how, p.legs[i].legName(), end.err
			if errors.Is(end.err, ErrDrainDeadline) {
				r.by = Self
			}
			break
		}
	}
	p.finish()
}

// finish hands the pair over to be recorded; nobody uses it afterwards.
func (p *pair) finish() {
	r, core := p.result, p.gate.core
	for i := range p.legs {
		p.legs[i].drop()
	}
	r.done = max(1, core.loop.Elapsed())
	r.cut = errors.Is(r.err, ErrDrainDeadline)
	core.e.r.ended(r.how)
	if core.e.rec != nil {
		core.tell(p)
		return
	}
	p.leave()
}

// leave counts the pair out.
func (p *pair) leave() {
	e := p.gate.core.e
	hasPlace, en := p.is(placed), p.gate.en
	e.r.count.End(p.result.cut)
	if hasPlace {
		e.r.places.Give()
		en.places.Give()
	}
}
