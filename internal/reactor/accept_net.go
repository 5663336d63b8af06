//go:build !linux || anysock_portable

package reactor

import (
	"errors"
	"os"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// drainLook is how long an empty queue is looked at before it counts as empty:
// there is no way to look without waiting.
const drainLook = 20 * time.Millisecond

// An acceptor is what a port has if its socket listens: it accepts one
// connection ahead, when the loop asks for it.
type acceptor struct {
	running  bool
	asked    bool    // to accept one
	accepted *sys.FD // the one; nil: none yet
	err      error   // why there is none
	draining bool    // wait no longer than drainLook
}

func (a *acceptor) ready() bool { return a.accepted != nil || a.err != nil }

// feed asks for a connection if one is wanted.
func (a *acceptor) feed(p *port) {
	if a.ready() || a.asked || p.want&sys.EventIn == 0 && !a.draining {
		return
	}
	a.asked = true
	p.moved.Broadcast()
	if !a.running {
		a.running = true
		p.engine.pumps.Go(p.accept)
	}
}

// accept is the goroutine that accepts.
func (p *port) accept() {
	mu := &p.engine.mu
	mu.Lock()
	defer mu.Unlock()
	a := p.acceptor
	for {
		for !p.shut && !a.asked {
			p.moved.Wait()
		}
		if p.shut {
			return
		}
		if a.draining {
			_ = p.fd.SetReadDeadline(time.Now().Add(drainLook))
		}
		mu.Unlock()
		fd, err := p.fd.Accept()
		mu.Lock()
		if p.shut {
			if err == nil {
				_ = fd.Abort() // as the kernel does with its queue
			}
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = sys.ErrWouldBlock
		}
		a.asked, a.accepted, a.err = false, fd, err
		p.moved.Broadcast()
		p.note(sys.EventIn)
	}
}

// close resets who was accepted and not taken.
func (a *acceptor) close() {
	if a.accepted != nil {
		_ = a.accepted.Abort()
		a.accepted = nil
	}
}

// A listening is an Acceptor's socket.
type listening struct {
	h       Handle
	reserve *os.File // a descriptor to give up; nil: there is none
}

func (s *listening) open(h Handle) {
	s.h = h
	s.keepReserve()
}

func (s *listening) keepReserve() { s.reserve, _ = os.Open(os.DevNull) }

// watch tells the Node's Source of connections.
func (s *listening) watch(l *Loop, n *Node, _ bool) error {
	if s.h.port == nil {
		s.h.port = newPort(&l.engine, s.h.fd)
		s.h.port.acceptor = new(acceptor)
	}
	return l.Add(n, s.h, sys.EventIn)
}

// accept takes the connection that was accepted ahead.
func (s *listening) accept() (Handle, Peer, error) {
	p := s.h.port
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	a := p.acceptor
	for a.draining && !p.shut && !a.ready() {
		p.feed()
		p.moved.Wait()
	}
	fd, err := a.accepted, a.err
	a.accepted, a.err = nil, nil
	p.engine.list(p) // the next wait asks for one more
	switch {
	case fd != nil:
		return Handle{fd: fd}, Peer{fd.PeerAddr()}, nil
	case err == nil:
		err = sys.ErrWouldBlock
	}
	return NoHandle, Peer{}, err
}

// refuse lets the queue admit no more, where that can be done.
func (s *listening) refuse() {
	_ = s.h.fd.SetBacklog(0)
	p := s.h.port
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.acceptor.draining = true
	_ = s.h.fd.SetReadDeadline(time.Now().Add(drainLook)) // for an accept at work
}

func (s *listening) close() {
	s.h.Close()
	if s.reserve != nil {
		_ = s.reserve.Close()
	}
}

// shed resets one waiting client with the reserve's descriptor. Nobody else
// accepts: that has just failed.
func (s *listening) shed() bool {
	if s.reserve == nil {
		return false
	}
	_ = s.reserve.Close()
	_ = s.h.fd.SetReadDeadline(time.Now().Add(drainLook))
	fd, err := s.h.fd.Accept()
	if err == nil {
		_ = fd.Abort()
	}
	_ = s.h.fd.SetReadDeadline(time.Time{})
	s.keepReserve()
	return err == nil
}
