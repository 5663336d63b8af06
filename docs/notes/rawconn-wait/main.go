//go:build linux

// rawconn-wait: a RawConn.Read that waits holds the connection's read lock (a fact of the Go runtime).
//
// A Read of another goroutine queues behind it, whatever arrives and whatever deadline it has, until the
// waiting callback returns true. Writes are free. A read deadline ends the wait. So waiting for readability
// next to a reader must not go through RawConn.Read.
package main

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("rawconn-wait", run) }

func run(r *fact.Report) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	r.Must("listen", err)
	peer, err := net.Dial("tcp", ln.Addr().String())
	r.Must("dial", err)
	accepted, err := ln.Accept()
	r.Must("accept", err)
	c := accepted.(*net.TCPConn)
	raw, err := c.SyscallConn()
	r.Must("reach the descriptor", err)

	r.Step("one goroutine waits in RawConn.Read, another calls Read")
	release := make(chan struct{})
	waiting := make(chan struct{}, 100)
	waitEnded := make(chan error, 1)
	go func() {
		waitEnded <- raw.Read(func(uintptr) bool {
			waiting <- struct{}{}
			select {
			case <-release:
				return true
			default:
				return false
			}
		})
	}()
	<-waiting
	read := make(chan string, 1)
	go func() {
		n, err := c.Read(make([]byte, 100))
		read <- fact.Result(n, err)
	}()
	send(r, peer)
	<-waiting // the wait was woken by the data and goes on
	r.Expect("Read, 10 bytes having arrived", "still blocked", outcome(read))
	_, err = c.Write(make([]byte, 10))
	r.Expect("Write", "nil", fact.Name(err))
	close(release)
	send(r, peer) // wakes the callback, which now returns true
	r.Expect("RawConn.Read", "nil", fact.Name(<-waitEnded))
	r.Expect("Read, once the wait is over", "20 bytes", <-read)

	r.Step("a deadline")
	go func() { waitEnded <- raw.Read(func(uintptr) bool { return false }) }()
	r.Must("set a deadline", c.SetReadDeadline(time.Now().Add(fact.Quiet)))
	r.Expect("ends the wait", true, errors.Is(<-waitEnded, os.ErrDeadlineExceeded))

	r.Step("a wait that holds no lock: poll(2) on the descriptor inside Control")
	r.Must("lift the deadline", c.SetReadDeadline(time.Time{}))
	polled := make(chan string, 1)
	go func() {
		var events string
		err := raw.Control(func(fd uintptr) { events = fact.Wait(int(fd), syscall.EPOLLIN, fact.Patience) })
		polled <- events + " " + fact.Name(err)
	}()
	go func() {
		n, err := c.Read(make([]byte, 100))
		read <- fact.Result(n, err)
	}()
	send(r, peer)
	r.Expect("Read", "10 bytes", <-read)
	send(r, peer) // in case Read took the bytes before poll saw them
	r.Expect("poll", "IN nil", <-polled)
}

func send(r *fact.Report, c net.Conn) {
	_, err := c.Write(make([]byte, 10))
	r.Must("write", err)
}

func outcome(read <-chan string) string {
	select {
	case s := <-read:
		return s
	case <-time.After(fact.Quiet):
		return "still blocked"
	}
}
