//go:build linux && !anysock_portable

package load

import (
	"net"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file holds mode connect on event loops: each line's socket is made
// anew for each message, connected without waiting, and ended in order.

// A call is what a socket needs more for that.
type call struct {
	dest       *sys.Dest
	connecting bool
	began      int64         // of connecting
	pause      time.Duration // after a failure, before the next
	last       bool          // the run is over: no more
	over       bool          // the line is at its end
}

// makeCallers makes the lines' sockets, if the first connection went to a plain
// one.
func (r *run) makeCallers() error {
	if !r.Plain {
		return nil
	}
	var to sys.Addr
	switch peer := r.peer.(type) {
	case *net.TCPAddr:
		to = sys.IPAddr(peer.AddrPort())
	case *net.UnixAddr:
		to = sys.Addr{Family: sys.Unix, Path: peer.Name}
	default:
		return nil
	}
	dest, err := sys.NewDest(to)
	if err != nil {
		return nil //nolint:nilerr // a path that only Dial knows to shorten
	}
	sockets := make([]*socket, len(r.lines))
	for i, l := range r.lines {
		s := &socket{
			l: l, peer: r.peer.Network() + ":" + r.peer.String(), tcp: to.Family != sys.Unix,
			call: &call{dest: dest, pause: redialPause},
		}
		s.node.Source = s
		sockets[i] = s
	}
	return r.makeLoops(sockets)
}

// nextCall begins the next connection if one is due; true if it is made
// already.
func (s *socket) nextCall() bool {
	l, r, c := s.l, s.b.r, s.call
	switch {
	case c.over || s.node.TimerSet():
		return false
	case c.last:
		s.endCalls()
		return false
	}
	j, now := l.sent.Load(), r.now()
	if r.work.Rate > 0 {
		switch due := l.startOf(j); {
		case due >= r.until.Load():
			s.endCalls()
			return false
		case now < due:
			return false // the loop's alarm comes
		}
		l.late(j, j+1, now)
	} else {
		if r.grant(now, 1) == 0 {
			s.endCalls()
			return false
		}
		l.starts = append(l.starts[:0], now)
	}
	l.sent.Store(j + 1)
	l.start = streamStart(l.n, int(j%patternPeriod))
	s.first, s.out, s.got, s.ending, s.since = j, 0, 0, false, 0
	c.began = now
	return s.connect()
}

// connect makes the socket; true if it is connected at once.
func (s *socket) connect() bool {
	c := s.call
	fd, err := sys.RawSocket(c.dest.Family())
	if err != nil {
		s.refused(anysock.OpSocket, err)
		return false
	}
	if s.tcp {
		_ = sys.RawSetInt(fd, sys.NoDelay, 1) // as Dial does; it cannot fail for a TCP socket
	}
	done, err := sys.RawConnect(fd, c.dest)
	if err == nil {
		err = s.b.loop.Add(&s.node, reactor.Handle(fd), messageEvents)
	}
	if err != nil {
		sys.RawClose(fd)
		s.refused(anysock.OpConnect, err)
		return false
	}
	c.connecting = true
	if done {
		s.made()
	}
	return done
}

// connected is called when connecting has come to its end; false if it failed.
func (s *socket) connected() bool {
	if err := sys.RawConnectError(s.node.FD()); err != nil {
		s.b.loop.Close(&s.node)
		s.refused(anysock.OpConnect, err)
		return false
	}
	s.made()
	return true
}

func (s *socket) made() {
	s.call.connecting = false
	s.l.shard.connected(s.b.r.now() - s.call.began)
}

// refused is a connection that could not be made.
func (s *socket) refused(op string, err error) {
	s.call.connecting = false
	s.l.lose(bridge.OpError(op, s.peer, err), false, false)
	s.pauseCalls()
}

// pauseCalls waits before the next connection, because a server that refuses
// is not to be hammered.
func (s *socket) pauseCalls() {
	c := s.call
	c.connecting = false
	if c.last || s.b.r.isOver() {
		s.endCalls()
		return
	}
	s.b.loop.SetTimer(&s.node, c.pause)
	c.pause = min(2*c.pause, maxRedialPause)
}

// endCalls is the end of the line.
func (s *socket) endCalls() {
	if c := s.call; !c.over {
		c.over = true
		s.b.loop.StopTimer(&s.node)
		s.done()
	}
}
