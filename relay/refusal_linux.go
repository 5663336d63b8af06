//go:build linux && !anysock_portable

package relay

import (
	"errors"
	"fmt"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/reactor"
)

// This file ends pairs that have no target.

// refuse ends a pair that has no outbound leg. Its reasons are those of
// session.refuse.
func (p *pair) refuse(err error) {
	if p.stopDialing(err) {
		return
	}
	r, in := p.result, &p.legs[0]
	switch {
	case errors.Is(err, ErrClientLeft):
		p.letClientGo()
		return
	case errors.Is(err, ErrDrainDeadline):
		r.how, r.by = anysock.AbortedByUs, Self
		p.abortLeg(in, r.how, err, "abort")
	default:
		r.how, r.by = anysock.Refused, Outbound
		p.abortLeg(in, r.how, err, "refusal")
	}
	p.finish()
}

// giveUp ends a pair that the loop cannot serve, for want of memory.
func (p *pair) giveUp(err error) {
	if p.stopDialing(err) {
		return
	}
	p.result.how, p.result.by = anysock.AbortedByUs, Self
	p.abortLeg(&p.legs[0], anysock.AbortedByUs, err, "abort")
	p.finish()
}

// stopDialing lets go of the target for the reason err; true if the pair is over
// already.
func (p *pair) stopDialing(err error) bool {
	if p.result != nil && p.result.how != anysock.NotEnded {
		return true
	}
	r := p.outcome()
	r.err = err
	if d := r.dialing; d != nil {
		r.attempts = d.attempts
		d.end()
	}
	out := &p.legs[1]
	if out.node.Open() {
		_ = out.loop().DiscardOnClose(&out.node)
		out.loop().Close(&out.node)
	}
	p.flags &^= joined
	p.connected = 0
	return false
}

// letClientGo finds out how a client that went away has ended.
func (p *pair) letClientGo() {
	in := &p.legs[0]
	in.loop().StopTimer(&in.node)
	ended := func(end halfEnd) {
		r := p.result
		r.how, r.by, r.ends[0] = end.how, Inbound, end
		if end.err != nil {
			r.err = fmt.Errorf("%w: %w", r.err, end.err)
		}
		p.finish()
	}
	if e := p.result.reason; e != nil {
		how := howOf(e)
		if how == anysock.AbortedByPeer {
			in.flags |= peerWas
		}
		p.closeLeg(in, halfEnd{how: how, err: e}, true)
		ended(p.result.ends[0])
		return
	}
	var end halfEnd
	in.locate(&end)
	b := reactor.Bounds{DrainBytes: in.options().DrainBytes, Patience: in.options().DrainTimeout}
	in.loop().Disconnect(&in.node, in.is(isTCP), false, in.is(readEnded), b, func(o reactor.Outcome) {
		p.disconnected(in, o, end)
		ended(p.result.ends[0])
	})
}
