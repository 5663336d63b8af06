// This file listens.

package quic

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/tlsconfig"
)

// A listener accepts the streams of all connections of its endpoint. Its
// goroutines are acceptors that accept connections, one for each of them that
// accepts its streams, and with our mapping one that reads its control stream;
// they end with what they accept from.
type listener struct {
	ep     *endpoint
	ql     *quicgo.Listener
	conf   *quicgo.Config
	local  net.Addr
	gate   gate
	ready  chan *stream
	closed chan struct{}
	once   sync.Once
	failed chan struct{} // closed when no connection will come any more
	err    error         // why, if the listener was not closed; set before

	accepting sync.WaitGroup

	mu       sync.Mutex
	deadline time.Time
	moved    chan struct{} // closed when the deadline was changed
	sessions map[*session]struct{}
}

func listen(ctx context.Context, lc *anysock.ListenConfig, t anysock.Target) (anysock.DeadlineListener, error) {
	if err := checkProtocols(t); err != nil {
		return nil, err
	}
	addr := net.JoinHostPort(t.Hop.Host, t.Hop.Port)
	if t.Hop.Host == "*" {
		addr = ":" + t.Hop.Port
	}
	tc, err := tlsconfig.Server(t)
	if err != nil {
		return nil, &anysock.Error{Op: anysock.OpListen, Addr: scheme + ":" + addr, Kind: anysock.KindAddress, Err: err}
	}
	if lc.ReusePort {
		return nil, &anysock.Error{Op: anysock.OpListen, Addr: scheme + ":" + addr, Kind: anysock.KindUnsupported, Err: errSharedPort}
	}
	conf := configFor(t, lc.Options, anysock.DefaultHandshake/2)
	conf.MaxIncomingStreams = int64(t.Int("streams", DefaultStreams))
	pc, err := listenSocket(ctx, t.String("interface", lc.Interface), addr, t.Bool("v6only", lc.V6Only))
	if err != nil {
		return nil, err
	}
	ep, err := newEndpoint(pc)
	if err != nil {
		pc.Close()
		return nil, err
	}
	backlog := t.Int("backlog", lc.Backlog)
	if backlog <= 0 {
		backlog = anysock.DefaultBacklog
	}
	l := &listener{
		ep: ep, conf: conf, local: pc.LocalAddr(), gate: newGate(),
		ready: make(chan *stream, backlog), closed: make(chan struct{}), failed: make(chan struct{}), moved: make(chan struct{}), sessions: make(map[*session]struct{}),
	}
	ep.tr.VerifySourceAddress = l.gate.suspect
	ep.tr.ConnContext = l.enter
	if l.ql, err = ep.tr.Listen(secured(tc, t), conf); err != nil {
		ep.close()
		return nil, err
	}
	for range acceptors {
		l.accepting.Go(l.accept)
	}
	go l.end()
	return l, nil
}

var errSharedPort = errors.New("several QUIC listeners cannot share a port: a packet that comes from a client's new address would reach the wrong one")

// accept takes in connections until the endpoint is closed, which is later
// than Close if there are connections; those that come then are refused.
func (l *listener) accept() {
	for {
		qc, err := l.ql.Accept(context.Background())
		if err != nil {
			l.mu.Lock()
			l.err = fault(anysock.OpAccept, scheme+":"+l.local.String(), err)
			l.mu.Unlock()
			return
		}
		if l.isClosed() {
			_ = qc.CloseWithError(codeBusy, "")
			continue
		}
		l.ep.hold()
		se := newSession(qc, l.ep, l.conf, l)
		se.mu.Lock()
		se.waitIdle(anysock.DefaultHandshake)
		se.mu.Unlock()
		l.remember(se)
		go l.acceptStreams(se)
	}
}

// end says that all acceptors have ended.
func (l *listener) end() {
	l.accepting.Wait()
	close(l.failed)
}

// remember keeps a connection to close it with the listener if it has no
// stream then.
func (l *listener) remember(se *session) {
	l.mu.Lock()
	l.sessions[se] = struct{}{}
	l.mu.Unlock()
	if se.qc.Context().Err() != nil {
		l.forget(se) // it ended before
	}
	if l.isClosed() {
		se.closeIdle()
	}
}

func (l *listener) forget(se *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, se)
}

// acceptStreams takes in the streams of a connection until that ends.
func (l *listener) acceptStreams(se *session) {
	ticket, _ := se.qc.Context().Value(ticketKey{}).(*ticket)
	for {
		qs, err := se.qc.AcceptStream(se.qc.Context())
		if err != nil {
			return
		}
		if se.mapped && !opened(qs) {
			qs.CancelRead(codeProtocol)
			qs.CancelWrite(codeProtocol)
			se.mu.Lock()
			se.passed(qs.StreamID())
			se.mu.Unlock()
			continue
		}
		ticket.leave()
		s := se.add(qs)
		if s == nil {
			continue // until the connection is closed
		}
		select {
		case <-l.closed:
			s.reset(codeBusy)
			continue
		default:
		}
		select {
		case l.ready <- s:
			se.send(message{kind: msgOpened, stream: qs.StreamID()})
			if l.isClosed() {
				l.turnAway()
			}
		default:
			s.reset(codeBusy) // the queue is full
		}
	}
}

// opened reads the opening byte. The stream was accepted because something
// came on it, which need not have been its beginning.
func opened(qs *quicgo.Stream) bool {
	_ = qs.SetReadDeadline(time.Now().Add(anysock.DefaultHandshake))
	var b [1]byte
	_, err := io.ReadFull(qs, b[:])
	_ = qs.SetReadDeadline(time.Time{})
	return err == nil && b[0] == openingByte
}

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Accept waits for a stream.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		deadline, moved := l.deadline, l.moved
		l.mu.Unlock()
		if s, err := l.acceptUntil(deadline, moved); s != nil || err != nil {
			if err != nil {
				return nil, err // not a nil *stream in a net.Conn
			}
			return s, nil
		}
	}
}

// acceptUntil returns neither if the deadline was moved.
func (l *listener) acceptUntil(deadline time.Time, moved <-chan struct{}) (*stream, error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	if l.isClosed() {
		return nil, net.ErrClosed
	}
	select {
	case s := <-l.ready:
		return s, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.failed:
		return nil, l.err
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	case <-moved:
		return nil, nil
	}
}

// SetDeadline bounds Accept.
func (l *listener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	close(l.moved)
	l.moved = make(chan struct{})
	return nil
}

// Addr is the bound address, a *net.UDPAddr.
func (l *listener) Addr() net.Addr { return l.local }

// Close refuses whoever comes from now on, and resets who waits to be
// accepted. Connections that were accepted go on; the socket is closed after
// the last of them.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.turnAway()
		l.mu.Lock()
		sessions := slices.Collect(maps.Keys(l.sessions))
		l.mu.Unlock()
		for _, se := range sessions {
			se.closeIdle()
		}
		l.ep.drop(closingPeriod)
	})
	return nil
}

// turnAway resets who waits to be accepted.
func (l *listener) turnAway() {
	for {
		select {
		case s := <-l.ready:
			s.reset(codeBusy)
		default:
			return
		}
	}
}
