package loop

import (
	"errors"
	"io"
	"iter"
	"net"
	"runtime/debug"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// A Stream is a connection for code that reads and writes as if it blocked. It
// runs as a coroutine on the connection's loop: when it has to wait, the loop
// goes on with the other connections. Its methods may be called by that code
// only, and it must not block otherwise: no channel, no lock that is held for
// long, no sleep (see Server.Blocked). It is an io.ReadWriter.
type Stream struct {
	conn    Conn // in here, so that both are one allocation
	resume  func() (struct{}, bool)
	yield   func(struct{}) bool
	running bool
	waits   waiting
	burst   uint8 // receives since it last waited
}

// maxBurst bounds what a coroutine receives before the others get their turn.
const maxBurst = 16

// waiting is what a coroutine waits for.
type waiting uint8

const (
	forNothing waiting = iota
	forBytes
	forRoom
	forEnding
)

// start runs the handler until it waits for the first time.
func (s *Stream) start() {
	s.resume, _ = iter.Pull(s.serve)
	s.run()
}

// serve is the coroutine.
func (s *Stream) serve(yield func(struct{}) bool) {
	defer func() {
		if v := recover(); v != nil { // seen by the loop, where this stack is gone
			panic(&PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	s.yield = yield
	if err := s.conn.core.handler.Serve(s); err != nil {
		s.conn.extra().result = err
	}
}

// run lets the coroutine go on until it waits or has ended.
func (s *Stream) run() {
	c := &s.conn
	s.waits = forNothing
	s.running = true
	alive := false
	c.call(func() { _, alive = s.resume() })
	s.running = false
	if alive {
		return
	}
	c.co = nil
	switch {
	case c.is(over | closing):
	case c.trouble != nil && c.trouble.result != nil:
		_ = c.abortAs(anysock.AbortedByUs, c.trouble.result)
	default:
		c.Close()
	}
}

// wait gives the loop back until what is waited for is there or the connection
// has ended.
func (s *Stream) wait(w waiting) {
	s.waits = w
	s.conn.push() // it would wait for the answer to what was not sent
	s.conn.watch()
	s.yield(struct{}{})
}

// readable is called by the loop when something came.
func (s *Stream) readable(failing bool) {
	c := &s.conn
	switch {
	case s.waits == forBytes:
		s.run()
	case failing && s.waits == forRoom:
		c.breakOff(c.core.loop.TakeError(&c.node))
	case !s.running && !c.is(byEdge):
		// Nobody wants it now.
		c.flags |= unwanted
		c.watch()
	}
}

// writable is called by the loop when everything that waited was taken, or can
// no longer be.
func (s *Stream) writable() {
	if s.waits == forRoom && !s.running {
		s.run()
	}
}

// over is called when the connection has ended.
func (s *Stream) over() {
	if s.waits != forNothing && !s.running {
		s.run()
	}
}

// Conn is the connection: its addresses, counts and value. What waits is done
// through the Stream.
func (s *Stream) Conn() *Conn { return &s.conn }

// Read waits for bytes and receives at most len(p). io.EOF is the peer's end;
// any other error is an *anysock.Error: the failure that ended the connection,
// or one that matches net.ErrClosed.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.receive(p)
}

// Next waits for bytes and returns them as they came, in the loop's own buffer:
// they are valid until the next call of any method of s. So a connection that
// waits has no buffer. The error is as for Read.
func (s *Stream) Next() ([]byte, error) {
	p := s.conn.core.loop.Buffer
	n, err := s.receive(p)
	return p[:n], err
}

func (s *Stream) receive(p []byte) (int, error) {
	c := &s.conn
	for {
		switch {
		case c.is(readEnded):
			return 0, io.EOF
		case c.is(over | closing):
			return 0, s.closed(anysock.OpRead)
		case !c.is(readable) || c.is(resting) || s.burst >= maxBurst:
			s.burst = 0
			c.flags &^= unwanted
			s.wait(forBytes)
			continue
		}
		n, err := c.core.loop.Recv(&c.node, p)
		s.burst++
		if n < len(p) && c.emptied(n, len(p)) {
			c.flags &^= readable
		}
		switch {
		case n > 0:
			c.gotBytes(n)
			return n, nil
		case err == nil:
			c.peerEnded()
		case errors.Is(err, sys.ErrWouldBlock):
			if c.is(broken) {
				c.fail(anysock.OpRead, c.core.loop.TakeError(&c.node))
			}
		default:
			c.recvFailed(err)
		}
	}
}

// closed is the error after the ending.
func (s *Stream) closed(op string) error {
	if t := s.conn.trouble; t != nil && t.err != nil {
		return s.conn.failure(op, t.err)
	}
	return &anysock.Error{Op: op, Addr: s.conn.name(), Kind: anysock.KindClosed, Err: net.ErrClosed}
}

// Write takes all of p. When Server.WriteBuffer bytes or more are on their way
// to a peer that does not take them, it waits until it did. What a handler
// writes goes out when it waits for something. The errors are those of
// Conn.Write but ErrFull; one after len(p) says that the connection failed
// while it waited.
func (s *Stream) Write(p []byte) (int, error) {
	c := &s.conn
	if err := c.writable(); err != nil {
		return 0, err
	}
	c.put(p) // before waiting: p may be what Next returned
	for c.out != nil && c.out.len() >= c.core.limit {
		s.wait(forRoom)
	}
	if c.is(over) || c.trouble != nil && c.trouble.err != nil {
		return len(p), s.closed(anysock.OpWrite)
	}
	return len(p), nil
}

// CloseWrite ends our direction behind what was written: see Conn.CloseWrite.
func (s *Stream) CloseWrite() error { return s.conn.CloseWrite() }

// Disconnect ends the connection in order and waits until it has ended: see
// Conn.Close. It returns the ending, and the error that it means, nil after one
// that was graceful or delivered.
func (s *Stream) Disconnect() (anysock.End, error) {
	c := &s.conn
	c.Close()
	c.push()
	c.goOn()
	for !c.is(over) {
		s.wait(forEnding)
	}
	end := *c.trouble.end
	return end, end.Err
}

// Abort ends the connection at once with a reset: see Conn.Abort.
func (s *Stream) Abort() error { return s.conn.Abort() }
