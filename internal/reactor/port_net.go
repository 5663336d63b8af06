//go:build !linux || anysock_portable

package reactor

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

const (
	// minAhead and maxAhead bound one receive ahead of a Recv: as much as the
	// peer sends at once, within them. maxAhead bounds what is kept, too.
	minAhead = 1 << 10
	maxAhead = BufferSize
	// sendAhead is what Send takes before the kernel did.
	sendAhead = 64 << 10
	// sendPiece is given to the kernel at once, so that progress shows.
	sendPiece = 16 << 10
	// shortage is the pause when the kernel is out of memory.
	shortage = 5 * time.Millisecond
)

const allEvents = sys.EventIn | sys.EventOut | sys.EventError | sys.EventPeerEnd

// A port is a socket with the goroutines that make it look non-blocking: one
// receives ahead while somebody wants to receive and nothing is there yet, one
// sends while something is to be sent. For a listening socket one accepts.
//
//	goroutine  runs from               until
//	receive    wanted for the first    the peer's end, a failure, or close; it pauses while maxAhead is kept
//	transmit   something is to send    all is sent, or close
//	accept     watched for the first   close
//
// The engine waits for all of them when the loop ends. Everything is guarded
// by the engine's mutex, which they hold but while they are in a call.
type port struct {
	engine *engine
	fd     *sys.FD
	moved  sync.Cond // something has changed for a goroutine

	node   *Node // nil while it is not on the loop; written on the loop
	want   sys.Events
	fresh  sys.Events // changed since it was reported
	listed bool       // in engine.changed
	shut   bool       // closed

	receiving bool
	in        []byte // received, and not taken by recv
	size      int    // of the next receive
	inErr     error  // what came behind in: io.EOF, or the failure

	transmitting bool
	out          []byte // waits to be sent
	flying       int    // bytes being sent
	lost         int    // bytes that could not be sent
	end, endSent bool   // our end is to go out; and has
	inCall       bool   // the goroutine is in a call that sends
	asked        bool   // it is to say how that went: see reallyEnded
	outErr       error  // sending failed
	told         bool   // the failure, by takeError

	acceptor *acceptor // of a listening socket
}

func newPort(e *engine, fd *sys.FD) *port {
	p := &port{engine: e, fd: fd, size: minAhead}
	p.moved.L = &e.mu
	return p
}

// state is the port's as poll(2) would have it.
func (p *port) state() sys.Events {
	if p.acceptor != nil {
		if p.acceptor.ready() {
			return sys.EventIn
		}
		return 0
	}
	var s sys.Events
	if len(p.in) > 0 || p.inErr != nil {
		s |= sys.EventIn
	}
	if p.inErr != nil {
		s |= sys.EventPeerEnd
		// Sending fails before what came is received: the failure comes behind
		// it, once that has its end.
		if !p.told && (!errors.Is(p.inErr, io.EOF) || p.outErr != nil) {
			s |= sys.EventError
		}
	}
	if p.outErr != nil || len(p.out)+p.flying < sendAhead {
		s |= sys.EventOut
	}
	return s
}

// report is what there is to tell now.
func (p *port) report() sys.Events {
	if p.node == nil {
		return 0
	}
	p.feed()
	found := p.state() & (p.want | sys.EventError)
	if p.want&sys.EventEdge != 0 && found&p.fresh == 0 {
		return 0
	}
	p.fresh = 0
	return found
}

// note has what changed reported.
func (p *port) note(what sys.Events) {
	p.fresh |= what
	p.engine.list(p)
}

// feed has what is wanted received.
func (p *port) feed() {
	switch {
	case p.shut:
	case p.acceptor != nil:
		p.acceptor.feed(p)
	case !p.hungry():
	case p.receiving:
		p.moved.Broadcast()
	default:
		p.receiving = true
		p.engine.pumps.Go(p.receive)
	}
}

// hungry reports whether to receive ahead. Once somebody has wanted that it goes
// on without, as far as there is room, so that a failure is noticed.
func (p *port) hungry() bool {
	return len(p.in) < maxAhead && p.inErr == nil && (p.receiving || p.want&sys.EventIn != 0 || p.outErr != nil)
}

// receive is the goroutine that receives ahead.
func (p *port) receive() {
	mu := &p.engine.mu
	mu.Lock()
	defer mu.Unlock()
	var buf []byte
	for {
		for !p.shut && !p.hungry() {
			p.moved.Wait()
		}
		if p.shut {
			return
		}
		if room := min(p.size, maxAhead-len(p.in)); room > cap(buf) || p.size < cap(buf)/2 {
			buf = make([]byte, room)
		} else {
			buf = buf[:room]
		}
		mu.Unlock()
		n, err := p.fd.Read(buf)
		again := passes(err)
		mu.Lock()
		switch {
		case again:
			continue
		case errors.Is(err, io.EOF):
			p.inErr = p.reallyEnded()
			p.note(allEvents)
			return
		case err != nil:
			p.inErr = err
			p.note(allEvents)
			return
		case n == len(buf):
			p.size = min(2*p.size, maxAhead)
		case n < len(buf)/8:
			p.size = max(p.size/2, minAhead)
		}
		p.in = append(p.in, buf[:n]...)
		p.note(sys.EventIn)
	}
}

// reallyEnded is io.EOF, or the reset that sending was told of: the kernel tells
// it once, and receiving finds an end afterwards (docs/notes/so-error). EPIPE
// says that the end had come first.
func (p *port) reallyEnded() error {
	if p.inCall { // and may have been told, so it is interrupted
		p.asked = true
		_ = p.fd.SetWriteDeadline(time.Unix(1, 0))
		for p.inCall && !p.shut {
			p.moved.Wait()
		}
		_ = p.fd.SetWriteDeadline(time.Time{})
		p.asked = false
		p.moved.Broadcast()
	}
	if p.outErr != nil && !errors.Is(p.outErr, syscall.EPIPE) {
		return p.outErr
	}
	return io.EOF
}

// passes waits out an error that is none of the connection's.
func passes(err error) bool {
	switch {
	case err == nil:
		return false
	case sys.ClassOf(err) == sys.Exhausted:
		<-time.After(shortage)
		return true
	}
	return errors.Is(err, syscall.EINTR)
}

func (p *port) recv(b []byte) (int, error) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	switch {
	case len(p.in) > 0:
		n := copy(b, p.in)
		if p.in = p.in[n:]; len(p.in) == 0 {
			p.in = nil // whoever is idle has no buffer
		}
		p.feed()
		return n, nil
	case errors.Is(p.inErr, io.EOF):
		return 0, nil
	case p.inErr != nil:
		return 0, p.inErr
	}
	return 0, sys.ErrWouldBlock
}

func (p *port) send(b []byte) (int, error) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	room := sendAhead - len(p.out) - p.flying
	switch {
	case p.outErr != nil:
		return 0, p.outErr
	case p.end:
		return 0, syscall.EPIPE
	case room <= 0:
		return 0, sys.ErrWouldBlock
	}
	n := min(len(b), room)
	p.out = append(p.out, b[:n]...)
	p.startTransmit()
	return n, nil
}

func (p *port) startTransmit() {
	if !p.transmitting {
		p.transmitting = true
		p.engine.pumps.Go(p.transmit)
	}
}

// closeWrite has our end sent behind everything.
func (p *port) closeWrite() error {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	switch {
	case p.end:
		return nil
	case p.outErr != nil:
		return syscall.ENOTCONN // as the kernel says: receiving tells the failure
	}
	p.end = true
	if p.transmitting {
		return nil
	}
	return p.shutdown()
}

// shutdown sends our end, which does not wait.
func (p *port) shutdown() error {
	p.endSent = true
	err := p.fd.CloseWrite()
	if err != nil && sys.ClassOf(err) == sys.NotConnected {
		err = syscall.ENOTCONN // Windows has a number of its own
	}
	p.note(sys.EventOut)
	return err
}

// transmit is the goroutine that sends.
func (p *port) transmit() {
	mu := &p.engine.mu
	mu.Lock()
	defer mu.Unlock()
	var spare []byte
	for !p.shut && p.outErr == nil && len(p.out) > 0 {
		b := p.out
		p.out, p.flying = spare[:0], len(b)
		spare = b
		for len(b) > 0 && !p.shut && p.outErr == nil {
			p.inCall = true
			mu.Unlock()
			n, err := p.fd.Write(b[:min(len(b), sendPiece)])
			again := passes(err)
			mu.Lock()
			p.inCall = false
			b = b[n:]
			p.flying -= n
			p.note(sys.EventOut)
			if err != nil && !again && !errors.Is(err, os.ErrDeadlineExceeded) {
				p.failed(err)
			}
			if p.asked {
				p.moved.Broadcast()
			}
			for p.asked && !p.shut {
				p.moved.Wait()
			}
		}
	}
	if p.end && !p.endSent && !p.shut && p.outErr == nil {
		if err := p.shutdown(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
			p.failed(err)
		}
	}
	p.transmitting, p.out = false, nil
	p.note(sys.EventOut)
}

// failed notes that sending did. What ended the connection comes behind what
// is still there to be received.
func (p *port) failed(err error) {
	p.lost, p.flying, p.out = p.flying+len(p.out), 0, nil
	p.outErr = err
	p.note(allEvents)
	p.feed()
}

// unsent is what the kernel has not taken, our end included.
func (p *port) unsent() int {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	n := len(p.out) + p.flying + p.lost
	if p.end && !p.endSent {
		n++
	}
	return n
}

func (p *port) takeError() error {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	if p.told {
		return nil
	}
	err := p.inErr
	if err == nil || errors.Is(err, io.EOF) {
		err = p.outErr
	}
	p.told = err != nil
	return err
}

// close closes the socket and has its goroutines end. What the kernel has not
// taken is missing at the peer, which must not take it for an end.
func (p *port) close() {
	e := p.engine
	delete(e.ports, p)
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.shut {
		return
	}
	missing := len(p.out)+p.flying+p.lost > 0
	p.shut, p.node, p.want, p.in, p.out = true, nil, 0, nil, nil
	p.moved.Broadcast()
	if p.acceptor != nil {
		p.acceptor.close()
	}
	if missing {
		_ = p.fd.Abort()
		return
	}
	_ = p.fd.Close()
}
