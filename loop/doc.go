// Package loop serves very many stream connections, on tcp and unix, with
// event loops: as many as there are processors, each with a listening socket
// of its own, and no goroutine and no buffer for a connection that is idle.
//
// It is for servers with thousands of connections, or with so many messages
// that the scheduler shows. The price is a rule: nothing that a handler does
// may block. Who cannot keep it is served well by package anysock and a
// goroutine per connection.
//
// There are two ways to write a handler. As callbacks: Data is called with the
// bytes that came, End when the peer has ended its direction. Or as code that
// reads and writes as if it blocked (Handler.Serve): it runs as a coroutine of
// its connection's loop, and whenever it waits, the loop goes on with others.
//
//	srv := loop.Server{Handler: loop.Handler{
//		Data: func(c *loop.Conn, p []byte) { c.Write(p) },
//	}}
//	lns, err := srv.Listen(ctx, "tcp://:3005")
//	...
//	err = srv.Serve(ctx, lns...)
//
// # Endings
//
// They mean what they mean for an anysock.Conn. Every connection has one
// ending, told once, as an anysock.End: graceful where the peer's end was seen
// and all of ours was acknowledged; an error where the connection was reset,
// cut or lost. Close ends ours after everything written has gone out, discards
// what still comes within the bounds of Options, and waits for acknowledgement:
// all on the loop. Abort lets the peer see a reset. After the peer's end the
// other direction lives until the handler closes it.
//
// # Bounds
//
// What a connection has written and the kernel does not take waits in a queue
// of at most Server.WriteBuffer bytes and one Write; from then on nothing more
// is received from that peer until the queue is empty, so a peer that does not
// read holds up nobody but itself. Everything received goes through one buffer
// of the loop, at most 64 KiB at a time.
//
// # Threads
//
// A connection belongs to one loop, whose handlers never run at the same time.
// The methods of Conn and Stream may be called from its handlers only, except
// Conn.Post, which reaches the loop from anywhere.
package loop
