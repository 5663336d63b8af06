//go:build linux

// close-unread: close with unread data sends a reset and throws away what is not sent yet.
//
// What the peer's kernel has received stays readable there, then comes ECONNRESET; bytes still in our send
// queue are gone, although write and close said nothing. Data that arrives after close has the same effect.
// shutdown before close does not help while data is unread: what helps is to read to the peer's end.
package main

import (
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("close-unread", run) }

const size = 1 << 20

func run(r *fact.Report) {
	r.Step("a reply of 1000 bytes, fully received by the peer's kernel, then close with 100 bytes unread")
	fd, peer := request(r)
	fact.Send(fd, 1000)
	fact.Until(func() bool { return r.InQ(peer) == 1000 })
	r.Close(fd)
	r.Expect("the peer's state", "CLOSE", r.WaitState(peer, "CLOSE"))
	n, end := fact.Drain(peer)
	r.Expect("the peer reads", "1000, ECONNRESET", fact.Join(n, end))

	r.Step("a reply of %d bytes to a peer that reads later, then close with 100 bytes unread", size)
	fd, peer = request(r)
	reply(r, fd)
	r.Close(fd)
	r.Expect("the peer's state", "CLOSE", r.WaitState(peer, "CLOSE"))
	n, end = fact.Drain(peer)
	r.Expect("the peer's last read", "ECONNRESET", end)
	r.Within("bytes the peer reads", 1, size/2, n)

	r.Step("the same with shutdown before close")
	fd, peer = request(r)
	reply(r, fd)
	r.CloseWrite(fd)
	r.Close(fd)
	r.Expect("the peer's state", "CLOSE", r.WaitState(peer, "CLOSE"))
	n, end = fact.Drain(peer)
	r.Expect("the peer's last read", "ECONNRESET", end)
	r.Within("bytes the peer reads", 1, size/2, n)

	r.Step("everything read before close, and the peer sends 1 byte more")
	fd, peer = request(r)
	fact.Drain(fd)
	reply(r, fd)
	r.Close(fd)
	fact.Send(peer, 1)
	r.Expect("the peer's state", "CLOSE", r.WaitState(peer, "CLOSE"))
	n, end = fact.Drain(peer)
	r.Expect("the peer's last read", "ECONNRESET", end)
	r.Within("bytes the peer reads", 1, size/2, n)

	r.Step("everything read before close")
	fd, peer = request(r)
	fact.Drain(fd)
	reply(r, fd)
	r.Close(fd)
	n, end = fact.Drain(peer)
	r.Expect("the peer reads", fact.Join(size, "0 bytes"), fact.Join(n, end))
}

// request returns a server's connection with 100 bytes of its client queued, and the client, which can hold 64 KiB.
func request(r *fact.Report) (server, client int) {
	client, server = r.TCPPair(r.Option(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10),
		r.Option(syscall.SOL_SOCKET, syscall.SO_SNDBUF, 2*size))
	fact.Send(client, 100)
	fact.Until(func() bool { return r.InQ(server) == 100 })
	return server, client
}

func reply(r *fact.Report, fd int) {
	r.Expect("the kernel takes the whole reply", size, fact.Fill(fd, 64<<10, size))
	fact.Until(func() bool { return r.TCPInfo(fd).SndWnd == 0 })
}
