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
	conn   Conn // in here, so that both are one allocation
	resume func() (struct{}, bool)
	yield  func(struct{}) bool
}

// maxBurst bounds what a coroutine receives before the others get their turn.
const maxBurst = 16

// awaits is what a coroutine may have given the loop back for.
const awaits = awaitsBytes | awaitsRoom | awaitsEnding

// start runs the handler until it waits for the first time.
func (s *Stream) start() {
	s.conn.core.starting = s
	s.resume, _ = iter.Pull(s.conn.core.coroutine)
	s.run()
}

// startCoroutine is the coroutine of the Stream that is starting. All Streams of
// a core share it: a closure of each one's own would be one more allocation that
// lives as long.
func (core *core) startCoroutine(yield func(struct{}) bool) {
	s := core.starting
	core.starting = nil
	s.serve(yield)
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
	c.core.burst = 0
	c.flags = c.flags&^awaits | running
	alive := false
	c.call(func() { _, alive = s.resume() })
	c.flags &^= running
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
func (s *Stream) wait(f flags) {
	c := &s.conn
	c.flags |= f
	c.push() // it would wait for the answer to what was not sent
	c.watch()
	if c.is(over) { // just now: nobody would come back for it
		c.flags &^= f
		return
	}
	s.yield(struct{}{})
}

// readable is called by the loop when something came.
func (s *Stream) readable(failing bool) {
	c := &s.conn
	switch {
	case c.is(awaitsBytes):
		s.run()
	case failing && c.is(awaitsRoom):
		c.breakOff(c.core.loop.TakeError(&c.node))
	case !c.is(running | byEdge):
		// Nobody wants it now.
		c.flags |= unwanted
		c.watch()
	}
}

// writable is called by the loop when everything that waited was taken, or can
// no longer be.
func (s *Stream) writable() {
	if s.conn.is(awaitsRoom) && !s.conn.is(running) {
		s.run()
	}
}

// over is called when the connection has ended.
func (s *Stream) over() {
	if s.conn.is(awaits) && !s.conn.is(running) {
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
		case !c.is(readable) || c.is(resting) || c.core.burst >= maxBurst:
			c.flags &^= unwanted
			s.wait(awaitsBytes)
			continue
		}
		n, err := c.core.loop.Recv(&c.node, p)
		c.core.burst++
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
	for c.full() {
		s.wait(awaitsRoom)
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
		s.wait(awaitsEnding)
	}
	end := *c.trouble.end
	return end, end.Err
}

// Abort ends the connection at once with a reset: see Conn.Abort.
func (s *Stream) Abort() error { return s.conn.Abort() }
