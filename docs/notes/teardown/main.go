//go:build linux

// teardown: close returns at once while a megabyte is unsent, and whoever then takes the network away
// throws the rest away.
//
// The kernel goes on sending after close, and after the process has ended: a namespace lives as long as a
// socket in it has something to send. It ends when the interface goes, as it does when a container is
// removed. The sender has succeeded by then; the receiver sees neither an end nor an error. Waiting for
// SIOCOUTQ = 0 before the exit is what helps.
package main

import (
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("teardown", run) }

const size = 1 << 20

func run(r *fact.Report) {
	r.Step("close, and the peer reads afterwards")
	c := connect(r)
	c.close(r)
	n, end := fact.Drain(c.peer)
	r.Expect("the peer reads", fact.Join(size, "0 bytes"), fact.Join(n, end))

	r.Step("close, and the last thread of the sender's namespace ends")
	c = connect(r)
	c.close(r)
	c.here.Leave()
	n, end = fact.Drain(c.peer)
	r.Expect("the peer reads", fact.Join(size, "0 bytes"), fact.Join(n, end))

	r.Step("close, and the sender's interface is removed")
	c = connect(r)
	held := r.InQ(c.peer)
	c.close(r)
	c.here.IP("link del v1")
	n, end = fact.Drain(c.peer)
	r.Expect("the peer reads what its kernel had", fact.Join(held, "EAGAIN"), fact.Join(n, end))
	r.Within("bytes of it", 1, size/2, n)
	r.Expect("the peer's state, events after 2 s", "ESTABLISHED, nothing",
		fact.Join(r.State(c.peer), fact.Wait(c.peer, fact.In|fact.RdHup, 2*time.Second)))

	r.Step("wait for SIOCOUTQ = 0, then close, and the interface is removed")
	c = connect(r)
	p := make([]byte, 64<<10)
	got := 0
	r.CloseWrite(c.fd)
	acknowledged := fact.Until(func() bool {
		n, _, err := syscall.Recvfrom(c.peer, p, syscall.MSG_DONTWAIT)
		if err == nil {
			got += n
		}
		return r.OutQ(c.fd) == 0
	})
	r.Expect("acknowledged", true, acknowledged)
	r.Close(c.fd)
	c.here.IP("link del v1")
	n, end = fact.Drain(c.peer)
	r.Expect("the peer reads", fact.Join(size, "0 bytes"), fact.Join(got+n, end))
}

// link is a connection between two namespaces with a full send queue.
type link struct {
	here     *fact.Namespace
	fd, peer int
}

func connect(r *fact.Report) link {
	here, there := r.Namespace(), r.Namespace()
	here.Join(there)
	fd, peer := here.PairTo(there, r.Option(syscall.SOL_SOCKET, syscall.SO_SNDBUF, 2*size))
	r.Expect("the kernel takes", size, fact.Fill(fd, 64<<10, size))
	fact.Until(func() bool { return r.TCPInfo(fd).SndWnd == 0 })
	r.Figure("%d bytes not acknowledged, %d in the peer's kernel", r.OutQ(fd), r.InQ(peer))
	return link{here, fd, peer}
}

func (c link) close(r *fact.Report) {
	start := time.Now()
	r.Close(c.fd)
	r.Within("close takes µs", 0, 50_000, int(time.Since(start).Microseconds()))
}
