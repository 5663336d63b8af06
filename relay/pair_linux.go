//go:build linux && !anysock_portable

package relay

import (
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file has the connections on a loop, and what the loop tells them. How one
// begins is in dialing_linux.go, how it passes bytes on in flow_linux.go, how it
// ends in pair_end_linux.go.

// A pair is a relayed connection on a loop. An idle one is this and two
// descriptors.
type pair struct {
	gate   *gate
	result *result // while the target is dialed, and from the ending on
	legs   [2]half // inbound, outbound
	to     *destination
	// Times are since the loop was made.
	accepted, connected, active time.Duration
	peer                        reactor.Peer // inbound
	port                        uint16       // the outbound leg's own, at the target's usual address; 0: at another
	flags                       pairFlags
}

type pairFlags uint16

const (
	placed     pairFlags = 1 << iota // it has a place
	joined                           // both legs are there, and neither has begun to end
	inDead                           // the inbound leg has failed first
	outDead                          // the outbound leg has
	firstIn                          // the inbound leg's end was the first
	firstOut                         // the outbound leg's was
	noSplice                         // a leg is of a kind that splice does not know
	clientGone                       // while the target was dialed the client hung up
	young                            // the outbound leg lacks its later options
	nagling                          // and TCP_NODELAY
)

// A half is one leg of a pair. Its fields about a flow are about the one
// that it is the source of.
type half struct {
	node reactor.Node
	p    *pair
	held *held // what it has sent and the other leg has not taken; nil is nothing

	received, sent int64
	first, over    time.Duration // the first byte came; its end, or its failure, was passed on
	flags          halfFlags
}

type halfFlags uint16

const (
	isTCP     halfFlags = 1 << iota
	bulk                // splice goes first
	resting             // the kernel was out of memory for it
	hungUp              // an end or a failure was reported: it is there to be received
	readEnded           // its end was received
	endSent             // our end went out
	peerWas             // the peer ended first, or gave up
	weWere              // we did
	recorded            // its ending is
)

func (l *half) is(f halfFlags) bool { return l.flags&f != 0 }
func (p *pair) is(f pairFlags) bool { return p.flags&f != 0 }
func (l *half) isOutbound() bool    { return l == &l.p.legs[1] }
func (l *half) loop() *reactor.Loop { return l.p.gate.core.loop }
func (p *pair) now() time.Duration  { return max(1, p.gate.core.loop.Elapsed()) }

func (l *half) other() *half {
	if l.isOutbound() {
		return &l.p.legs[0]
	}
	return &l.p.legs[1]
}

// watched is what a leg is always watched for, and by edges: so nothing needs to
// be asked for anew while it must wait, or once its end was read.
const watched = sys.EventIn | sys.EventPeerEnd | sys.EventEdge

// Ready is called by the loop.
func (l *half) Ready(found sys.Events) {
	p := l.p
	if !p.is(joined) {
		if d := p.dialing(); d != nil {
			d.clientIsReady(found)
		}
		return
	}
	if found&(sys.EventPeerEnd|sys.EventHangUp|sys.EventError) != 0 {
		l.flags |= hungUp
	}
	if found&sys.EventOut != 0 && !l.is(resting) {
		switch o := l.other(); {
		case o.held != nil:
			o.pump()
		case !l.is(isTCP) && found == sys.EventOut:
			// A Unix socket tells of room each time its peer has read.
			l.want(watched)
		}
	}
	if found&^sys.EventOut != 0 && p.is(joined) {
		l.readable(found)
	}
}

// readable takes what has come, or the failure.
func (l *half) readable(found sys.Events) {
	if !l.is(readEnded) && l.held == nil && l.over == 0 && !l.is(resting) {
		l.pump()
		return
	}
	// Nothing is to be received, or not now.
	if found&sys.EventError == 0 {
		return
	}
	err := l.loop().TakeError(&l.node)
	if err == nil {
		if l.is(readEnded) {
			return // it was taken before
		}
		err = syscall.ECONNRESET
	}
	l.p.fail(l, anysock.OpWait, err)
}

// want changes what the leg is watched for, which also has it looked at anew.
func (l *half) want(e sys.Events) {
	if err := l.loop().Want(&l.node, e); err != nil {
		l.p.fail(l, anysock.OpWait, err)
	}
}

// Expired is called by the loop: the inbound leg's timer is for the client
// while the target is dialed, and then for the idle time and the last words;
// the outbound one's for its later options and for rests.
func (l *half) Expired() {
	p := l.p
	d := p.dialing()
	switch {
	case d != nil:
		d.lookAtClient()
	case !p.is(joined):
	case l.isOutbound():
		p.settle()
		p.rested()
	case p.is(inDead | outDead):
		p.wordsExpired()
	default:
		p.idleExpired()
	}
}

// idleMargin is what the idle clock waits longer than asked for, since the
// loop's time can lie back by what it is at work with.
func idleMargin(idle time.Duration) time.Duration { return min(idle/16, 50*time.Millisecond) }

func (p *pair) idleExpired() {
	idle := p.gate.core.e.r.Options.Idle
	if idle <= 0 {
		return
	}
	if left := p.active + idle + idleMargin(idle) - p.now(); left > 0 {
		p.gate.core.loop.SetTimer(&p.legs[0].node, left)
		return
	}
	p.cut(anysock.Idle, &anysock.IdleError{After: idle})
}

// begin takes a connection over from the gate.
func (g *gate) begin(h reactor.Handle, peer reactor.Peer, hasPlace bool) {
	core := g.core
	p := &pair{gate: g, peer: peer}
	if hasPlace {
		p.flags = placed
	}
	p.accepted = p.now()
	for i := range p.legs {
		l := &p.legs[i]
		l.p, l.node.Source = p, l
	}
	if g.en.tcp {
		p.legs[0].flags = isTCP
	}
	if !core.e.dial.Unix {
		p.legs[1].flags = isTCP
	}
	if err := core.loop.Add(&p.legs[0].node, h, watched); err != nil {
		h.Reset()
		p.giveUp(bridge.OpError(anysock.OpAccept, g.en.name, err))
		return
	}
	if core.cutting {
		p.refuse(ErrDrainDeadline)
		return
	}
	p.dial()
}

// join is called when both legs are there; b is what the client has sent
// already.
func (p *pair) join(b []byte) {
	core := p.gate.core
	p.flags |= joined
	p.connected = p.now()
	p.active = p.connected
	if idle := core.e.r.Options.Idle; idle > 0 {
		core.loop.SetTimer(&p.legs[0].node, idle+idleMargin(idle))
	} else {
		core.loop.StopTimer(&p.legs[0].node)
	}
	if p.is(young) {
		core.loop.SetTimer(&p.legs[1].node, settleAfter)
	}
	if len(b) > 0 {
		p.legs[0].pass(b)
	}
}
