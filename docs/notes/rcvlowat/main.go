//go:build linux

// rcvlowat: SO_RCVLOWAT is a hint.
//
// TCP clamps it to half the receive buffer (half of net.ipv4.tcp_rmem's maximum where the buffer tunes
// itself). Below the mark poll and epoll say nothing, but a non-blocking read returns what is there, and an
// end wakes early. Lowering the mark under what is queued raises an event, on edge-triggered epoll too.
// On unix sockets the option is stored, a blocking read honours it, and poll and epoll ignore it.
package main

import (
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("rcvlowat", run) }

func run(r *fact.Report) {
	clamp(r)
	below(r)
	wake(r)
	unix(r)
}

func mark(r *fact.Report, fd, bytes int) int {
	r.Set(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	return r.Get(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT)
}

func clamp(r *fact.Report) {
	r.Step("the clamp")
	fd := r.TCP()
	r.Expect("default", 1, r.Get(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT))
	r.Expect("0", 1, mark(r, fd, 0))
	const all = 1<<31 - 1
	r.Figure("no buffer set: the largest mark is %d, the buffer grows to %d", mark(r, fd, all), r.Get(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF))
	r.Set(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10)
	buffer := r.Get(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	r.Expect("SO_RCVBUF 32768 reads back, doubled, as", 64<<10, buffer)
	r.Expect("the largest mark then", buffer/2, mark(r, fd, all))
	fd = r.Unix()
	r.Expect("unix: no clamp; a negative mark is the largest", fact.Join(all, all), fact.Join(mark(r, fd, all), mark(r, fd, -1)))
}

func below(r *fact.Report) {
	r.Step("below the mark")
	fd, peer := r.TCPPair()
	mark(r, fd, 100)
	events := r.Edges(fd)
	fact.Send(peer, 10)
	r.Expect("10 bytes are queued", true, fact.Until(func() bool { return r.InQ(fd) == 10 }))
	r.Expect("poll", "OUT", fact.Poll(fd))
	r.Expect("edge-triggered event", "nothing", events.Next(fact.Quiet))
	r.Expect("non-blocking read", "10 bytes", fact.Recv(fd, 1000))

	fact.Send(peer, 99)
	r.Expect("99 more: event", "nothing", events.Next(fact.Quiet))
	fact.Send(peer, 1)
	r.Expect("1 more, at the mark: event", "IN|OUT", events.Next(fact.Patience))
	fact.Recv(fd, 1000)

	fact.Send(peer, 10)
	r.Expect("10 more: event", "nothing", events.Next(fact.Quiet))
	r.CloseWrite(peer)
	r.Expect("the peer ends: event", "IN|OUT|RDHUP", events.Next(fact.Patience))
	r.Expect("read", "10 bytes, 0 bytes", fact.Join(fact.Recv(fd, 1000), fact.Recv(fd, 1000)))
}

func wake(r *fact.Report) {
	r.Step("lowering the mark while data is queued")
	fd, peer := r.TCPPair()
	mark(r, fd, 100)
	events := r.Edges(fd)
	fact.Send(peer, 10)
	r.Expect("10 bytes are queued", true, fact.Until(func() bool { return r.InQ(fd) == 10 }))
	r.Expect("event", "nothing", events.Next(fact.Quiet))
	mark(r, fd, 50)
	r.Expect("mark 50: event", "nothing", events.Next(fact.Quiet))
	mark(r, fd, 10)
	r.Expect("mark 10: event", "IN|OUT", events.Next(fact.Patience))
	mark(r, fd, 100)
	r.Expect("mark 100 again: poll", "OUT", fact.Poll(fd))
}

func unix(r *fact.Report) {
	r.Step("unix")
	a, b := r.UnixPair()
	r.Expect("mark", 100, mark(r, b, 100))
	events := r.Edges(b)
	fact.Send(a, 10)
	r.Expect("below the mark: poll", "IN|OUT", fact.Poll(b))
	r.Expect("below the mark: event", "IN|OUT", events.Next(fact.Patience))
	r.Expect("non-blocking read", "10 bytes", fact.Recv(b, 1000))

	r.Must("make the socket blocking", syscall.SetNonblock(b, false))
	fact.Send(a, 10)
	read := make(chan string)
	go func() {
		n, err := syscall.Read(b, make([]byte, 1000))
		read <- fact.Result(n, err)
	}()
	early := "nothing"
	select {
	case early = <-read:
	case <-time.After(fact.Quiet):
	}
	r.Expect("blocking read, 10 bytes queued", "nothing", early)
	fact.Send(a, 90)
	r.Expect("blocking read, 90 more", "100 bytes", <-read)
}
