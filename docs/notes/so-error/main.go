//go:build linux

// so-error: a reset is reported once.
//
// The pending error of a socket is handed out by whichever call asks first, getsockopt(SO_ERROR), a read,
// a peek or a write, and is gone afterwards. The next read returns 0 bytes, as at an end of file that the
// peer never sent. What was queued before the reset stays readable, and comes before the error.
// poll and epoll consume nothing: ERR is set until the error is handed out, HUP stays.
package main

import (
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("so-error", run) }

func run(r *fact.Report) {
	soError(r)
	firstCaller(r)
	queued(r)
	afterFin(r)
}

// resetBy returns a socket whose peer has sent some bytes and then a reset.
func resetBy(r *fact.Report, queued int) int {
	fd, peer := r.TCPPair()
	if queued > 0 {
		fact.Send(peer, queued)
	}
	r.Abort(peer)
	r.WaitState(fd, "CLOSE")
	return fd
}

func soError(r *fact.Report) {
	r.Step("SO_ERROR reads the reset first")
	fd := resetBy(r, 0)
	r.Expect("poll", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(fd))
	r.Expect("poll once more", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(fd))
	r.Expect("SO_ERROR", "ECONNRESET", fact.Name(fact.SocketError(fd)))
	r.Expect("SO_ERROR again", "nil", fact.Name(fact.SocketError(fd)))
	r.Expect("poll", "IN|OUT|RDHUP|HUP", fact.Poll(fd))
	r.Expect("read: a false end of file", "0 bytes", fact.Recv(fd, 10))
	r.Expect("state, where a real end would leave CLOSE_WAIT", "CLOSE", r.State(fd))
	r.Expect("write", "EPIPE", fact.Send(fd, 1))
}

func firstCaller(r *fact.Report) {
	r.Step("read first")
	fd := resetBy(r, 0)
	r.Expect("read", "ECONNRESET", fact.Recv(fd, 10))
	r.Expect("read again: a false end of file", "0 bytes", fact.Recv(fd, 10))

	r.Step("peek first")
	fd = resetBy(r, 0)
	_, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	r.Expect("peek", "ECONNRESET", fact.Name(err))
	r.Expect("read: a false end of file", "0 bytes", fact.Recv(fd, 10))

	r.Step("write first")
	fd = resetBy(r, 0)
	r.Expect("write", "ECONNRESET", fact.Send(fd, 1))
	r.Expect("read: a false end of file", "0 bytes", fact.Recv(fd, 10))
	r.Expect("write again", "EPIPE", fact.Send(fd, 1))

	r.Step("shutdown first")
	fd = resetBy(r, 0)
	r.Expect("shutdown", "ENOTCONN", fact.Name(syscall.Shutdown(fd, syscall.SHUT_WR)))
	r.Expect("read", "ECONNRESET", fact.Recv(fd, 10))
}

func queued(r *fact.Report) {
	r.Step("5 bytes were queued before the reset")
	fd := resetBy(r, 5)
	r.Expect("poll", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(fd))
	r.Expect("read", "5 bytes", fact.Recv(fd, 10))
	r.Expect("read", "ECONNRESET", fact.Recv(fd, 10))
	r.Expect("read", "0 bytes", fact.Recv(fd, 10))

	r.Step("the same, and a write notices the reset first")
	fd = resetBy(r, 5)
	r.Expect("write", "ECONNRESET", fact.Send(fd, 1))
	r.Expect("read", "5 bytes", fact.Recv(fd, 10))
	r.Expect("read: a truncated message that looks complete", "0 bytes", fact.Recv(fd, 10))
}

func afterFin(r *fact.Report) {
	afterEnd := func() int {
		fd, peer := r.TCPPair()
		r.CloseWrite(peer)
		r.WaitState(fd, "CLOSE_WAIT")
		r.Abort(peer)
		r.WaitState(fd, "CLOSE")
		return fd
	}
	r.Step("the peer's end came first, then its reset")
	fd := afterEnd()
	r.Expect("poll", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(fd))
	r.Expect("read, the end", "0 bytes", fact.Recv(fd, 10))
	r.Expect("read again, which does not take the error", "0 bytes", fact.Recv(fd, 10))
	r.Expect("SO_ERROR", "EPIPE", fact.Name(fact.SocketError(fd)))
	r.Expect("poll", "IN|OUT|RDHUP|HUP", fact.Poll(fd))

	r.Step("the same, and a write is first")
	fd = afterEnd()
	r.Expect("write", "EPIPE", fact.Send(fd, 1))
	r.Expect("SO_ERROR", "nil", fact.Name(fact.SocketError(fd)))
}
