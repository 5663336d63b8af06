package loop

import "github.com/anysock/anysock"

// A Handler is what a Server does with its connections. Either Data or Serve
// must be set; the other functions may be nil. All of them run on the
// connection's loop, one at a time, and must not block (see Server.Blocked). One
// that panics has its connection aborted, the others live on, and the panic is
// the cause in End.Err: a *PanicError.
type Handler struct {
	// Open is told of a new connection, before anything else.
	Open func(c *Conn)
	// Data is given the bytes that came: at least one, in order, only until it
	// returns, because the next connection's bytes go into the same buffer.
	// What it writes goes out when it has returned, in as few pieces as there
	// can be.
	Data func(c *Conn, p []byte)
	// End is told that the peer has ended its direction in order; nothing more
	// comes. The connection stays open for writing: Close ends it. A nil End
	// closes.
	End func(c *Conn)
	// Sent is told that everything that had to wait was taken by the kernel:
	// after a Write that said ErrFull, there is room again.
	Sent func(c *Conn)
	// Serve handles the connection with code that blocks, as a coroutine. When
	// it returns nil the connection is closed in order, after an error it is
	// aborted, with that error as the cause.
	Serve func(s *Stream) error
	// Ended is told of the ending, once, after everything else. The connection
	// is closed by then.
	Ended func(c *Conn, end anysock.End)
}
