// This file repeats the packet that closes a connection. Nobody acknowledges
// it, and the library sends it again only when the peer says something: were it
// lost, a peer that only reads would learn of an abort after a minute, and take
// it for a loss.

package quic

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// A farewell is the last packet that was sent to an address while a connection
// there was being closed: that is its CONNECTION_CLOSE, which the library sends
// after everything else. RFC 9000 section 10.2.1 allows to send it again as it
// is.
type farewell struct {
	b, oob []byte
	closes int // of connections there that are at work
}

// farewells are those of a socket.
type farewells struct {
	closes atomic.Int32 // at work, so that other packets cost nothing more
	mu     sync.Mutex
	to     map[netip.AddrPort]*farewell
}

// expect begins to note the packets to an address.
func (f *farewells) expect(to netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to == nil {
		f.to = make(map[netip.AddrPort]*farewell)
	}
	if f.to[to] == nil {
		f.to[to] = new(farewell)
	}
	f.to[to].closes++
	f.closes.Add(1)
}

// note is told of every packet.
func (f *farewells) note(b, oob []byte, to net.Addr) {
	if f.closes.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.to[addrPort(to)]; last != nil {
		last.b, last.oob = append([]byte(nil), b...), append([]byte(nil), oob...)
	}
}

// take ends what expect began, and returns what was sent last: nothing if the
// connection was over already.
func (f *farewells) take(to netip.AddrPort) (b, oob []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.to[to]
	f.closes.Add(-1)
	if last.closes--; last.closes == 0 {
		delete(f.to, to)
	}
	return last.b, last.oob
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort()
	}
	return netip.AddrPort{}
}

// close closes the connection; the code and the reason go to the peer, and
// again for a while unless it has said itself that nothing is missing.
func (se *session) close(code quicgo.ApplicationErrorCode, reason string) {
	se.mu.Lock()
	news := code != codeDone || se.unsure
	se.mu.Unlock()
	if !news {
		_ = se.qc.CloseWithError(code, reason)
		return
	}
	if se.qc.Context().Err() != nil {
		return // closed already, by either side
	}
	peer := se.qc.RemoteAddr()
	se.ep.hold()
	se.ep.socket.expect(addrPort(peer))
	_ = se.qc.CloseWithError(code, reason)
	b, oob := se.ep.socket.take(addrPort(peer))
	if len(b) == 0 {
		se.ep.drop(0)
		return
	}
	udp, _ := peer.(*net.UDPAddr)
	se.ep.repeat(b, oob, udp, probeTimeout(se.qc.ConnectionStats()))
}

// repeat sends a packet again closeRepeats times, after pause and then each
// time after twice as long, and gives a hold of the endpoint back. The socket
// is closed later than that, so that there is one.
func (ep *endpoint) repeat(b, oob []byte, to *net.UDPAddr, pause time.Duration) {
	left := closeRepeats
	var again func()
	again = func() {
		_, _, _ = ep.socket.WriteMsgUDP(b, oob, to) // it may be lost as well
		if left--; left == 0 {
			ep.drop(0)
			return
		}
		pause *= 2
		time.AfterFunc(pause, again)
	}
	time.AfterFunc(pause, again)
}

// probeTimeout is the time after which a packet that nobody has acknowledged
// is taken for lost (RFC 9002 section 6.2.1), at most maxRepeatPause.
func probeTimeout(s quicgo.ConnectionStats) time.Duration {
	return min(s.SmoothedRTT+max(4*s.MeanDeviation, timerGranularity)+maxAckDelay, maxRepeatPause)
}
