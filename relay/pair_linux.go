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

// This file passes bytes between the two legs of a connection on a loop. How
// it begins is in dialing_linux.go, how it ends in pair_end_linux.go.

const (
	// smallRead is received at once while messages are small. One that fills it
	// is followed by splice.
	smallRead = 16 << 10
	// heapRead is received at once where there is no pipe; it bounds what waits
	// on the heap for one direction.
	heapRead = anysock.DefaultReadBuffer
	// burst bounds what one connection may pass on while others wait.
	burst = 2 << 20
	// shortage is how long a leg rests when the kernel is out of memory for it.
	shortage = 5 * time.Millisecond
	// pipeShortage is how long no pipe is asked for after there was none.
	pipeShortage = 100 * time.Millisecond
	// keptBuffers bounds the buffers of heapRead bytes that a loop keeps.
	keptBuffers = 16
)

// A pair is a relayed connection on a loop. An idle one is this and two
// descriptors.
type pair struct {
	gate    *gate
	dialing *dialing // while the target is dialed
	result  *result  // from the ending on
	legs    [2]half  // inbound, outbound
	to      *destination
	// Times are since the loop was made.
	accepted, connected, active time.Duration
	peer                        reactor.Peer // inbound
	flags                       pairFlags
}

type pairFlags uint8

const (
	placed     pairFlags = 1 << iota // it has a place
	joined                           // both legs are there, and neither has begun to end
	inDead                           // the inbound leg has failed first
	outDead                          // the outbound leg has
	firstIn                          // the inbound leg's end was the first
	firstOut                         // the outbound leg's was
	noSplice                         // a leg is of a kind that splice does not know
	clientGone                       // while the target was dialed the client hung up
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

// A held is what waits for a leg, first buf and then the pipe.
type held struct {
	buf  []byte
	off  int
	pipe *sys.Pipe
}

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
		if p.dialing != nil {
			p.dialing.clientIsReady(found)
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

// pump passes on what the leg has sent, as long as there is something and the
// other leg takes it.
func (l *half) pump() {
	p := l.p
	for moved := 0; p.is(joined); {
		if l.held != nil && !l.flush() || l.is(readEnded) || l.over != 0 || l.is(resting) {
			break
		}
		n, more := l.fill()
		moved += n
		// A short read has emptied the socket, but for an end or a failure that was
		// reported already.
		if n == 0 || !more && !l.is(hungUp) {
			break
		}
		if moved >= burst && l.held == nil {
			l.loop().Again(&l.node)
			break
		}
	}
	if p.is(joined) && l.held != nil {
		// What TCP was once asked for stays: it tells of room only after it had
		// none.
		l.other().want(watched | sys.EventOut)
	}
}

// fill receives once, or splices once, and passes that on. more: there may be
// more at once.
func (l *half) fill() (n int, more bool) {
	core := l.p.gate.core
	if !l.is(bulk) {
		n, _ = l.copy(core.loop.Buffer[:smallRead])
		if n == smallRead {
			l.flags |= bulk
		}
		return n, n == smallRead
	}
	if pipe := l.p.pipe(); pipe != nil {
		return l.splice(pipe)
	}
	n, _ = l.copy(core.loop.Buffer[:heapRead])
	if n < smallRead {
		l.flags &^= bulk
	}
	return n, n == heapRead
}

// pipe is nil where there is none.
func (p *pair) pipe() *sys.Pipe {
	core := p.gate.core
	if p.is(noSplice) || core.noPipes > core.loop.Elapsed() {
		return nil
	}
	pipe, err := sys.RawPipe()
	if err != nil {
		core.noPipes = core.loop.Elapsed() + pipeShortage
		return nil
	}
	return pipe
}

// copy receives into b and sends it on.
func (l *half) copy(b []byte) (n int, err error) {
	n, err = l.loop().Recv(&l.node, b)
	if n > 0 {
		l.took(n)
		l.pass(b[:n])
		return n, nil
	}
	l.nothing(err)
	return 0, err
}

// splice fills the pipe and empties it, in turns.
func (l *half) splice(pipe *sys.Pipe) (total int, more bool) {
	p := l.p
	for {
		n, err := pipe.Fill(l.node.FD())
		if n == 0 {
			pipe.Release()
			switch {
			case total > 0 && errors.Is(err, sys.ErrWouldBlock):
			case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
				p.flags |= noSplice
				n, more = l.fill()
				return total + n, more
			default:
				l.nothing(err)
			}
			if total < smallRead {
				l.flags &^= bulk
			}
			return total, false
		}
		total += n
		l.took(n)
		if !l.empty(pipe) {
			if pipe.Queued() > 0 && p.is(joined) && l.over == 0 {
				l.hold().pipe = pipe
			} else {
				pipe.Release()
			}
			return total, true
		}
		if total >= burst {
			pipe.Release()
			return total, true
		}
	}
}

// took counts what came in.
func (l *half) took(n int) {
	l.received += int64(n)
	l.p.active = l.p.now()
	if l.first == 0 {
		l.first = l.p.active
	}
}

// gave counts what the other leg took.
func (l *half) gave(n int) {
	p, o := l.p, l.other()
	core := p.gate.core
	o.sent += int64(n)
	p.active = p.now()
	if l.isOutbound() {
		core.moved[1].Add(int64(n))
		if p.gate.monitor != nil {
			p.gate.monitor.Owe(&o.node)
		}
	} else {
		core.moved[0].Add(int64(n))
		if core.monitor != nil {
			core.monitor.Owe(&o.node)
		}
	}
}

// nothing is what err, or the lack of one, means where nothing was received.
func (l *half) nothing(err error) {
	switch {
	case err == nil:
		l.p.peerEnded(l)
	case errors.Is(err, sys.ErrWouldBlock):
	case sys.ClassOf(err) == sys.Exhausted:
		l.rest()
	default:
		l.p.fail(l, anysock.OpRead, err)
	}
}

// pass sends b on; what the other leg does not take is held.
func (l *half) pass(b []byte) {
	o := l.other()
	n, err := l.loop().Send(&o.node, b)
	if n > 0 {
		l.gave(n)
	}
	switch {
	case n == len(b):
	case l.refused(err):
	default:
		l.keep(b[n:])
	}
}

// refused deals with the failure of sending to the other leg; false: it is to
// be tried again, when there is room or a moment later.
func (l *half) refused(err error) bool {
	switch {
	case err == nil, errors.Is(err, sys.ErrWouldBlock):
		return false
	case sys.ClassOf(err) == sys.Exhausted:
		l.other().rest()
		return false
	}
	l.p.fail(l.other(), anysock.OpWrite, err)
	return true
}

// flush sends what is held, and reports whether that was all.
func (l *half) flush() bool {
	h, o := l.held, l.other()
	if o.is(resting) {
		return false
	}
	if left := h.buf[h.off:]; len(left) > 0 {
		n, err := l.loop().Send(&o.node, left)
		if n > 0 {
			h.off += n
			l.gave(n)
		}
		if n < len(left) {
			l.refused(err)
			return false
		}
		l.p.gate.core.putBuffer(h.buf)
		h.buf, h.off = nil, 0
	}
	if h.pipe != nil {
		if !l.empty(h.pipe) {
			return false
		}
		h.pipe.Release()
	}
	l.held = nil
	return true
}

// empty sends what the pipe holds, and reports whether that was all.
func (l *half) empty(pipe *sys.Pipe) bool {
	o := l.other()
	for pipe.Queued() > 0 {
		n, err := 0, error(syscall.EINVAL)
		if !l.p.is(noSplice) {
			n, err = pipe.Flush(o.node.FD())
		}
		switch {
		case n > 0:
			l.gave(n)
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
			// The kernel does not splice into this socket.
			l.p.flags |= noSplice
			b := l.loop().Buffer[:heapRead]
			n, err := pipe.Take(b)
			if err != nil || n == 0 {
				l.p.fail(o, anysock.OpWrite, errors.Join(syscall.EIO, err))
				return false
			}
			if l.pass(b[:n]); l.over != 0 || l.held != nil && len(l.held.buf) > 0 {
				return false
			}
		default:
			l.refused(err)
			return false
		}
	}
	return true
}

// hold is the leg's held, made if it has none.
func (l *half) hold() *held {
	if l.held == nil {
		l.held = new(held)
	}
	return l.held
}

// keep holds a copy of b in front of what the pipe holds.
func (l *half) keep(b []byte) {
	h := l.hold()
	h.buf, h.off = append(l.p.gate.core.getBuffer(len(b)), b...), 0
}

// getBuffer is an empty buffer with room for n bytes.
func (core *core) getBuffer(n int) []byte {
	if last := len(core.buffers) - 1; n > smallRead && last >= 0 {
		b := core.buffers[last]
		core.buffers = core.buffers[:last]
		return b
	}
	if n > smallRead {
		n = heapRead
	}
	return make([]byte, 0, n)
}

func (core *core) putBuffer(b []byte) {
	if cap(b) == heapRead && len(core.buffers) < keptBuffers {
		core.buffers = append(core.buffers, b[:0])
	}
}

// drop discards what is held.
func (l *half) drop() {
	if h := l.held; h != nil {
		if h.pipe != nil {
			h.pipe.Release()
		}
		l.p.gate.core.putBuffer(h.buf)
		l.held = nil
	}
}

// rest leaves the leg alone for a moment: the kernel is out of memory for it.
func (l *half) rest() {
	if !l.is(resting) && l.p.is(joined) {
		l.flags |= resting
		if n := &l.p.legs[1].node; !n.TimerSet() {
			l.loop().SetTimer(n, shortage)
		}
	}
}

// Expired is called by the loop: the inbound leg's timer is for the client
// while the target is dialed, and then for the idle time and the last words;
// the outbound one's for rests.
func (l *half) Expired() {
	p := l.p
	switch {
	case p.dialing != nil:
		p.dialing.lookAtClient()
	case !p.is(joined):
	case l.isOutbound():
		for i := range p.legs {
			p.legs[i].flags &^= resting
		}
		for i := range p.legs {
			if p.is(joined) {
				p.legs[i].pump()
			}
		}
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
	in := &p.legs[0]
	if len(b) > 0 {
		in.pass(b)
	}
}
