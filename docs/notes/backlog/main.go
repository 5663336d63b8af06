//go:build linux

// backlog: listen(n) admits n+1 connections before accept, on tcp and on unix.
//
// One connection more stays in SYN_SENT (tcp) or gets EAGAIN (unix, non-blocking). Calling listen again on
// the listening socket changes the backlog: with 0 new connections wait outside while those that are queued
// stay acceptable. It never admits none: one is taken whenever the queue is empty.
package main

import (
	"fmt"
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("backlog", run) }

func run(r *fact.Report) {
	for _, n := range []int{0, 1, 3, 10} {
		fd, addr := r.ListenTCP(n)
		r.Expect(fmt.Sprintf("tcp, listen(%d): admitted", n), n+1, admitted(r, r.TCP, addr, n+3))
		r.Close(fd)
		ufd, uaddr := r.ListenUnix(n)
		r.Expect(fmt.Sprintf("unix, listen(%d): admitted", n), n+1, admitted(r, r.Unix, uaddr, n+3))
		r.Close(ufd)
	}
	tcp, addr := r.ListenTCP(10)
	shrink(r, "tcp", tcp, r.TCP, addr)
	unix, uaddr := r.ListenUnix(10)
	shrink(r, "unix", unix, r.Unix, uaddr)
}

// admitted counts how many of the attempts, one after the other, are connected within Quiet.
func admitted(r *fact.Report, socket func() int, addr syscall.Sockaddr, attempts int) (count int) {
	for range attempts {
		fd := socket()
		err := syscall.Connect(fd, addr)
		if err == syscall.EINPROGRESS && fact.Wait(fd, fact.Out, fact.Quiet) == "OUT" {
			err = fact.SocketError(fd)
		}
		if err == nil {
			count++
			continue // stays open, and queued
		}
		r.Close(fd)
	}
	return count
}

func shrink(r *fact.Report, network string, listener int, socket func() int, addr syscall.Sockaddr) {
	r.Step("%s: listen(10), then listen(0) on the same socket with 4 queued", network)
	r.Expect("queued", 4, admitted(r, socket, addr, 4))
	r.Must("listen again", syscall.Listen(listener, 0))
	r.Expect("admitted afterwards", 0, admitted(r, socket, addr, 2))
	taken := 0
	for fact.Wait(listener, fact.In, fact.Quiet) == "IN" && taken < 10 {
		r.Close(r.Accept(listener))
		taken++
	}
	r.Expect("accepted", 4, taken)
	r.Expect("admitted once the queue is empty", 1, admitted(r, socket, addr, 3))
	r.Close(listener)
}
