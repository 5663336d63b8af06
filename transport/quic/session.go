// This file holds a QUIC connection with its streams: when it is closed, by
// whom, and what a closed stream leaves to be waited for.

package quic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// A session is a QUIC connection. A dialed one has one stream and ends with
// it; an accepted one has as many as the client opens, and is closed by the
// client, or when it has had none for sessionIdle.
type session struct {
	qc     *quicgo.Conn
	ep     *endpoint
	client bool
	mapped bool      // our mapping is spoken: there are control streams
	window int       // what the peer may send on a stream before it is read
	ln     *listener // that has accepted it; nil of a dialed one

	mu      sync.Mutex
	streams map[quicgo.StreamID]*stream // that are not closed, or linger
	newest  quicgo.StreamID             // the last one that was opened or accepted; -1 is none
	early   []message                   // about streams that have not been accepted yet
	idle    *time.Timer                 // runs while a listener's connection has no stream
	over    bool

	omu     sync.Mutex
	outbox  []byte
	sending bool               // a goroutine is writing it
	control *quicgo.SendStream // that goroutine's
}

// newSession takes over qc, and gives ep back when qc ends. ln is nil for a
// dialed connection.
func newSession(qc *quicgo.Conn, ep *endpoint, conf *quicgo.Config, ln *listener) *session {
	mapped := isOurs(qc.ConnectionState().TLS.NegotiatedProtocol)
	se := &session{qc: qc, ep: ep, client: ln == nil, mapped: mapped, window: int(conf.MaxStreamReceiveWindow), ln: ln, streams: make(map[quicgo.StreamID]*stream), newest: -1}
	context.AfterFunc(qc.Context(), se.ended)
	if mapped {
		go se.listen()
	}
	return se
}

// ended is called once, when the connection is over for whatever reason.
func (se *session) ended() {
	se.mu.Lock()
	se.over = true
	se.stopIdle()
	streams := make([]*stream, 0, len(se.streams))
	for _, s := range se.streams {
		streams = append(streams, s)
	}
	se.mu.Unlock()
	for _, s := range streams {
		s.carrierEnded(context.Cause(se.qc.Context()))
	}
	if se.ln != nil {
		se.ln.forget(se)
	}
	se.ep.drop()
}

// close closes the connection; the code goes to the peer.
func (se *session) close(code quicgo.ApplicationErrorCode) { _ = se.qc.CloseWithError(code, "") }

// violation closes the connection because the peer breaks the mapping. After
// the connection's end it does nothing.
func (se *session) violation(err error) {
	go func() { _ = se.qc.CloseWithError(codeProtocol, err.Error()) }() // which waits for its own goroutines
}

// add makes a stream of the session's.
func (se *session) add(qs *quicgo.Stream) *stream {
	s := newStream(se, qs)
	se.mu.Lock()
	se.streams[qs.StreamID()] = s
	early := se.passed(qs.StreamID())
	se.stopIdle()
	over := se.over
	se.mu.Unlock()
	for _, m := range early {
		if err := s.hear(m); err != nil {
			se.violation(err)
		}
	}
	context.AfterFunc(qs.Context(), s.writeSideEnded)
	if over {
		s.carrierEnded(context.Cause(se.qc.Context()))
	}
	return s
}

// passed notes that the streams up to id were accepted, and returns what came
// early about id; mu is held.
func (se *session) passed(id quicgo.StreamID) []message {
	se.newest = max(se.newest, id)
	var mine, later []message
	for _, m := range se.early {
		switch {
		case m.stream == id:
			mine = append(mine, m)
		case m.stream > id:
			later = append(later, m)
		}
	}
	se.early = later
	return mine
}

// alone reports whether s is the only stream of the connection.
func (se *session) alone(s *stream) bool {
	se.mu.Lock()
	defer se.mu.Unlock()
	return len(se.streams) == 1 && se.streams[s.qs.StreamID()] == s
}

// drop forgets a stream that is over. The last one of a dialed connection
// closes that with the code, and so does that of an accepted one whose listener
// is closed; with a foreign protocol the last packets need time to get out.
func (se *session) drop(s *stream, code quicgo.ApplicationErrorCode) {
	se.mu.Lock()
	delete(se.streams, s.qs.StreamID())
	last := len(se.streams) == 0
	now := se.client || se.mapped && se.ln.isClosed()
	if last && !now {
		se.waitIdle(sessionIdle)
	}
	se.mu.Unlock()
	if last && now {
		se.close(code)
	}
}

// closeIdle closes a connection without a stream, because the listener is
// closed and no stream will be accepted any more.
func (se *session) closeIdle() {
	se.mu.Lock()
	idle := len(se.streams) == 0
	se.mu.Unlock()
	if idle {
		se.close(codeDone)
	}
}

// tailRoom is how much of one stream may be collected: what the peer may send
// on it before it is read, and less when it has many streams, which are not to
// take many times the memory.
func (se *session) tailRoom() int {
	se.mu.Lock()
	defer se.mu.Unlock()
	return min(se.window, max(connectionWindow/max(len(se.streams), 1), collectChunk))
}

// waitIdle gives a connection of a listener some time to have a stream; mu is
// held.
func (se *session) waitIdle(d time.Duration) {
	se.stopIdle()
	if !se.over {
		se.idle = time.AfterFunc(d, func() { se.close(codeDone) })
	}
}

func (se *session) stopIdle() {
	if se.idle != nil {
		se.idle.Stop()
		se.idle = nil
	}
}

// lingering counts the closed streams of the process that wait for their
// acknowledgement.
var lingering atomic.Int64

// An endpoint is a UDP socket with the library's transport on it. It is closed
// closingPeriod after the last who used it.
type endpoint struct {
	tr *quicgo.Transport

	mu    sync.Mutex
	users int
}

// hold adds a user; there is one already.
func (ep *endpoint) hold() {
	ep.mu.Lock()
	ep.users++
	ep.mu.Unlock()
}

// drop gives a user's hold back.
func (ep *endpoint) drop() {
	ep.mu.Lock()
	ep.users--
	last := ep.users == 0
	ep.mu.Unlock()
	if last {
		time.AfterFunc(closingPeriod, ep.close)
	}
}

func (ep *endpoint) close() {
	_ = ep.tr.Close()
	_ = ep.tr.Conn.Close()
}
