//go:build linux && !anysock_portable

package relay

import (
	"errors"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file passes bytes from one leg of a connection on a loop to the other.

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

// A held is what waits for a leg, first buf and then the pipe.
type held struct {
	buf  []byte
	off  int
	pipe *sys.Pipe
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
	n, err := l.other().send(b)
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

// send sends b to the leg's peer, as much as there is room for.
func (l *half) send(b []byte) (int, error) {
	if err := l.prepareToSend(); err != nil {
		return 0, err
	}
	return l.loop().Send(&l.node, b)
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
		n, err := o.send(left)
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
			if err = o.prepareToSend(); err == nil {
				n, err = pipe.Flush(o.node.FD())
			}
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
		if n := &l.p.legs[1].node; !n.TimerSet() || l.p.is(young) {
			l.loop().SetTimer(n, shortage)
		}
	}
}

// rested goes on with what the kernel had no memory for.
func (p *pair) rested() {
	if (p.legs[0].flags|p.legs[1].flags)&resting == 0 {
		return
	}
	for i := range p.legs {
		p.legs[i].flags &^= resting
	}
	for i := range p.legs {
		if p.is(joined) {
			p.legs[i].pump()
		}
	}
}
