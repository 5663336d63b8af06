package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// This file holds the sessions of the demo: real sockets, each step by its own
// call.

// What the sessions send, and their bounds.
const (
	demoBytes   = 250              // sent by the client, and back by the server
	demoHalf    = demoBytes / 2    // what comes back before the server aborts
	demoBacklog = 10               // listen's argument
	demoWait    = 30 * time.Second // select: the client waits at most that long for the answer
	demoBound   = 10 * time.Second // one session in all: it takes milliseconds
	demoDrain   = time.Second      // of it, the relay's drain and the wait at the end, each
	demoGrace   = time.Second / 5  // after a reset: until the session is called off
)

var errDemoBound = errors.New("the session was called off: it took longer than " + demoBound.String())

// A role is one of the parties of a session.
type role string

const (
	clientRole role = "client"
	relayRole  role = "relay"
	serverRole role = "server"
)

// A scenario is a session that the demo shows.
type scenario struct {
	name    string
	title   string
	roles   []role // from left to right
	aborted bool   // the server gives up in the middle
}

var scenarios = []scenario{
	{
		name:  "direct",
		title: "A client and a server: 250 bytes there and back, then both end in order.",
		roles: []role{clientRole, serverRole},
	},
	{
		name:  "relay",
		title: "The same through a relay, which passes each end on as an end.",
		roles: []role{clientRole, relayRole, serverRole},
	},
	{
		name:    "abort",
		title:   "The server aborts in the middle of its answer: through the relay, too, the client sees an abort and not an end of file, and knows that bytes are missing.",
		roles:   []role{clientRole, relayRole, serverRole},
		aborted: true,
	},
}

// A demoSession is a scenario as it went.
type demoSession struct {
	scenario
	spawn   func(func()) // runs a goroutine
	journal journal
	group   anysock.Group
	cancel  context.CancelCauseFunc // calls off what the others do
	half    chan struct{}           // closed when the client has the first half
	notes   []string

	client, server party
	relayed        []relay.Record // of the relay's connections
	left           []anysock.End  // what Wait listed
	leftErr        error

	mu      sync.Mutex
	failure error       // the first call that failed, and whose it was
	grace   *time.Timer // cancels
}

// A party is what the client or the server saw.
type party struct {
	conn *anysock.Conn
	got  []byte // what it received
	last error  // what its last read said, where that is the point
}

// demoPayload is what the client sends: each byte says where it belongs.
func demoPayload() []byte {
	p := make([]byte, demoBytes)
	for i := range p {
		p[i] = byte(i)
	}
	return p
}

// run goes through the session. What went wrong is in failure.
func (s *demoSession) run(ctx context.Context) {
	ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	defer s.stopGrace()
	// A timer, and not ctx's deadline: the calls' own bounds are shown.
	bound := time.AfterFunc(demoBound, func() { s.fail("demo", errDemoBound) })
	defer bound.Stop()
	s.half = make(chan struct{})
	s.journal.watch = s.watch

	ln, err := s.listen(serverRole)
	if err != nil {
		s.fail(serverRole, err)
		return
	}
	served := make(chan struct{})
	s.spawn(func() { s.serve(ctx, ln, served) })
	addr, finish, err := s.front(ctx, ln.Addr())
	if err == nil {
		s.talk(ctx, addr)
	} else {
		s.fail(relayRole, err)
	}
	<-served
	finish()
	s.settle()
	if err := ln.Close(); err != nil {
		s.fail(serverRole, err)
	}
}

// fail records a failure and calls off what the others do. A reset is what the
// other side's failure looks like from here: it has a moment to tell the
// reason.
func (s *demoSession) fail(r role, err error) {
	s.blame(r, err)
	if !isReset(err) {
		s.cancel(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grace == nil {
		s.grace = time.AfterFunc(demoGrace, func() { s.cancel(err) })
	}
}

// blame records a failure: the first, but any other rather than a reset.
func (s *demoSession) blame(r role, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil || isReset(s.failure) && !isReset(err) {
		s.failure = fmt.Errorf("%s: %w", r, err)
	}
}

func (s *demoSession) stopGrace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grace != nil {
		s.grace.Stop()
	}
}

func isReset(err error) bool {
	var e *anysock.Error
	return errors.As(err, &e) && e.Kind == anysock.KindReset
}

// watch sees every step. A listener that is out of descriptors tries again for
// ever, and nobody wants to look at that.
func (s *demoSession) watch(r role, ev anysock.Event) {
	var e *anysock.Error
	if ev.Op == anysock.OpAccept && errors.As(ev.Err, &e) && e.Kind == anysock.KindLimit {
		s.fail(r, ev.Err)
	}
}

// settle waits for what Close has left to the background, as a program does
// before it exits.
func (s *demoSession) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), demoDrain)
	defer cancel()
	s.left, s.leftErr = s.group.Wait(ctx)
	for _, c := range []*anysock.Conn{s.client.conn, s.server.conn} {
		if c != nil {
			_ = c.Abort() // nothing to one that has ended
		}
	}
	_, _ = s.group.Wait(ctx) // what was aborted ends at once
}

// socket is socket(2). The trace cannot be set before, so this step is told
// here.
func (s *demoSession) socket(r role) (*anysock.Socket, error) {
	ev := anysock.Event{Time: time.Now(), Op: anysock.OpSocket, Network: "tcp"}
	sock, err := anysock.NewSocket("tcp")
	ev.Duration, ev.Err = time.Since(ev.Time), err
	trace := s.journal.trace(r)
	if err == nil {
		sock.Trace, sock.Group = trace, &s.group
		ev.Socket, ev.State = sock.ID(), sock.State()
	}
	trace(ev)
	return sock, err
}

// listen makes a listening socket on a free port of every address of this
// machine, for IPv4 and IPv6.
func (s *demoSession) listen(r role) (*anysock.Listener, error) {
	sock, err := s.socket(r)
	if err != nil {
		return nil, err
	}
	defer sock.Close() // nothing once it listens
	if err := sock.SetReuseAddr(true); err != nil {
		return nil, err
	}
	if err := s.bind(r, sock); err != nil {
		return nil, err
	}
	return sock.Listen(demoBacklog)
}

// bind takes the dual-stack wildcard, or where there is no IPv6 that of IPv4.
func (s *demoSession) bind(r role, sock *anysock.Socket) error {
	err := sock.Bind("[::]:0")
	var e *anysock.Error
	if errors.As(err, &e) && (e.Kind == anysock.KindUnsupported || e.Kind == anysock.KindUnreachable) {
		s.notes = append(s.notes, "There is no IPv6 here: the "+string(r)+" listens on IPv4 alone.")
		return sock.Bind("0.0.0.0:0")
	}
	return err
}

// front is the address that the client connects to: the server's, or that of a
// relay in front of it. finish waits for the relay, and is never nil.
func (s *demoSession) front(ctx context.Context, server net.Addr) (addr string, finish func(), err error) {
	_, port, err := net.SplitHostPort(server.String())
	if err != nil {
		return "", func() {}, err
	}
	if len(s.roles) == 2 {
		return net.JoinHostPort("localhost", port), func() {}, nil
	}
	// The server takes IPv4 in either case; a name would be looked up for both
	// families at once, and the picture would depend on which comes first.
	target, err := anysock.ParseAddress("tcp://127.0.0.1:" + port)
	if err != nil {
		return "", func() {}, err
	}
	ln, err := s.listen(relayRole)
	if err != nil {
		return "", func() {}, err
	}
	trace := s.journal.trace(relayRole)
	r := &relay.Relay{
		Target: target,
		Dialer: anysock.Dialer{Retry: anysock.Retry{Attempts: 1}, Trace: trace, Group: &s.group},
		Drain:  demoDrain,
		OnEnd:  s.relayEnded,
	}
	serving := make(chan struct{})
	s.spawn(func() { s.serveRelay(ctx, r, ln, serving) })
	finish = func() {
		// What is cut here failed before.
		if _, err := r.Shutdown(ctx); err != nil {
			s.fail(relayRole, err)
		}
		<-serving
	}
	_, port, err = net.SplitHostPort(ln.Addr().String())
	return net.JoinHostPort("localhost", port), finish, err
}

// serveRelay is the relay's goroutine; front's finish waits for it.
func (s *demoSession) serveRelay(ctx context.Context, r *relay.Relay, ln *anysock.Listener, done chan<- struct{}) {
	defer close(done)
	if err := r.Serve(ctx, ln); err != nil {
		s.fail(relayRole, err)
	}
	_ = ln.Close() // Shutdown has, unless Serve did not begin
}

// relayEnded is told of the relay's connection. Only the abort is meant to be
// anything but graceful.
func (s *demoSession) relayEnded(rec relay.Record) {
	s.mu.Lock()
	s.relayed = append(s.relayed, rec)
	s.mu.Unlock()
	if !s.aborted && rec.Err != nil {
		s.fail(relayRole, rec.Err)
	}
}

// serve is the server's goroutine; run waits for it. It serves one connection.
func (s *demoSession) serve(ctx context.Context, ln *anysock.Listener, done chan<- struct{}) {
	defer close(done)
	c, err := ln.AcceptContext(ctx)
	if err != nil {
		s.fail(serverRole, err)
		return
	}
	s.server.conn = c
	if s.aborted {
		err = s.answerHalf(ctx, c)
	} else {
		err = s.echo(ctx, c)
	}
	if err != nil {
		s.fail(serverRole, err)
		_ = c.Abort() // nothing to one that has ended
	}
}

// echo sends back what comes until the client ends. Its Close is graceful and
// goes on in the background; run waits for the group.
func (s *demoSession) echo(ctx context.Context, c *anysock.Conn) error {
	buf := make([]byte, 2*demoBytes)
	for {
		n, err := c.ReadContext(ctx, buf)
		s.server.got = append(s.server.got, buf[:n]...)
		if n > 0 {
			if _, err := c.WriteContext(ctx, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return c.Close()
		}
		if err != nil {
			return err
		}
	}
}

// answerHalf reads the request, sends the first half of the answer, and aborts
// when that has arrived.
func (s *demoSession) answerHalf(ctx context.Context, c *anysock.Conn) error {
	buf := make([]byte, demoBytes)
	n, err := c.ReadAtLeast(ctx, buf, len(buf))
	s.server.got = buf[:n]
	if err != nil {
		return err
	}
	if _, err := c.WriteContext(ctx, buf[:demoHalf]); err != nil {
		return err
	}
	select {
	case <-s.half:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.Abort(); err != nil {
		s.blame(serverRole, err) // what the client sees is to be seen
	}
	return nil
}

// talk is the client.
func (s *demoSession) talk(ctx context.Context, addr string) {
	sock, err := s.socket(clientRole)
	if err != nil {
		s.fail(clientRole, err)
		return
	}
	defer sock.Close() // nothing once it is connected
	c, err := sock.Connect(ctx, addr)
	if err != nil {
		s.fail(clientRole, err)
		return
	}
	s.client.conn = c
	if err := s.converse(ctx, c); err != nil {
		s.fail(clientRole, err)
		_ = c.Abort() // nothing to one that has ended
	}
}

// converse sends the payload and goes through the session to its end.
func (s *demoSession) converse(ctx context.Context, c *anysock.Conn) error {
	if _, err := c.WriteContext(ctx, demoPayload()); err != nil {
		return err
	}
	buf := make([]byte, 2*demoBytes) // room for more than is expected
	expected := demoBytes
	if s.aborted {
		expected = demoHalf
	} else if err := awaitReadable(ctx, c); err != nil {
		return err
	}
	n, err := c.ReadAtLeast(ctx, buf, expected)
	s.client.got = append(s.client.got, buf[:n]...)
	if err != nil {
		return err
	}
	if !s.aborted {
		_, err := c.Disconnect(ctx)
		return err
	}
	close(s.half)
	n, s.client.last = c.ReadContext(ctx, buf)
	s.client.got = append(s.client.got, buf[:n]...)
	return c.Close()
}

// awaitReadable is select(2) for one socket.
func awaitReadable(ctx context.Context, c *anysock.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	ready, err := c.Wait(ctx, anysock.Readable, 1)
	if err == nil && ready&anysock.Readable == 0 {
		err = errors.New("wait returned with " + ready.String() + " instead of " + strconv.Quote(anysock.Readable.String()))
	}
	return err
}
