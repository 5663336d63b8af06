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
	unsure  bool                        // the peer may miss something: of a stream that is over, or that we have not seen
	leaving bool                        // it is being closed, because it has no stream
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
	se := &session{qc: qc, ep: ep, client: ln == nil, mapped: mapped, window: int(conf.MaxStreamReceiveWindow), ln: ln, streams: make(map[quicgo.StreamID]*stream), newest: -1, unsure: true}
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
	se.ep.drop(closingPeriod)
}

// violation closes the connection because the peer breaks the mapping. After
// the connection's end it does nothing.
func (se *session) violation(err error) {
	go se.close(codeProtocol, err.Error()) // which waits for its own goroutines
}

// add makes a stream of the session's; nil if that is being closed because it
// had none.
func (se *session) add(qs *quicgo.Stream) *stream {
	s := newStream(se, qs)
	se.mu.Lock()
	if se.leaving {
		se.mu.Unlock()
		return nil
	}
	se.streams[qs.StreamID()] = s
	if se.newest < 0 {
		se.unsure = false // as far as this stream goes
	}
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
	confirmed := s.confirmed()
	se.mu.Lock()
	se.unsure = se.unsure || !confirmed
	delete(se.streams, s.qs.StreamID())
	last := len(se.streams) == 0
	now := se.ends()
	if last && !now {
		se.waitIdle(sessionIdle)
	}
	se.mu.Unlock()
	if last && now {
		se.close(code, "")
	}
}

// ends says whether it is for us to close the connection after its last stream.
func (se *session) ends() bool { return se.client || se.mapped && se.ln.isClosed() }

// closeIdle closes a connection if it has no stream: none will be accepted any
// more.
func (se *session) closeIdle() {
	se.mu.Lock()
	idle := len(se.streams) == 0
	se.leaving = se.leaving || idle
	se.mu.Unlock()
	if idle {
		se.close(codeDone, "")
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
		var t *time.Timer
		t = time.AfterFunc(d, func() {
			se.mu.Lock()
			idle := se.idle == t // it may have been stopped just when it ran out
			se.mu.Unlock()
			if idle {
				se.closeIdle()
			}
		})
		se.idle = t
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
// after the last who used it, when nobody needs it any more.
type endpoint struct {
	socket socket
	tr     *quicgo.Transport

	mu    sync.Mutex
	users int
	until time.Time // when it is not needed any more, as far as is known
}

// hold adds a user; there is one already.
func (ep *endpoint) hold() {
	ep.mu.Lock()
	ep.users++
	ep.mu.Unlock()
}

// drop gives a user's hold back, who needs it to be open for a while still.
func (ep *endpoint) drop(after time.Duration) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if until := time.Now().Add(after); until.After(ep.until) {
		ep.until = until
	}
	if ep.users--; ep.users == 0 {
		time.AfterFunc(time.Until(ep.until), ep.close)
	}
}

func (ep *endpoint) close() {
	_ = ep.tr.Close()
	_ = ep.socket.Close()
}
