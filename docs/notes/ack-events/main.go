//go:build linux

// ack-events: which acknowledgements wake an edge-triggered epoll.
//
// An acknowledgement of data wakes nobody, unless a writer has met a full buffer. The acknowledgement of
// our FIN does: the active closer gets OUT, the passive closer IN|OUT|RDHUP|HUP. So SIOCOUTQ = 0 after shutdown
// can be waited for without polling; "everything so far is acknowledged" in the middle of a stream cannot.
// shutdown itself raises an event too, so one must look at SIOCOUTQ and not at the event.
package main

import "github.com/anysock/anysock/docs/notes/fact"

func main() { fact.Main("ack-events", run) }

func run(r *fact.Report) {
	data(r)
	fullBuffer(r)
	active(r)
	passive(r)
}

func data(r *fact.Report) {
	r.Step("acknowledgement of data")
	fd, peer := r.TCPPair()
	events := r.Edges(fd)
	r.Deaf(peer)
	fact.Send(fd, 1000)
	r.Expect("not acknowledged", 1000, r.OutQ(fd))
	r.Hearing(peer)
	r.Expect("acknowledged after a retransmission", true, fact.Until(func() bool { return r.OutQ(fd) == 0 }))
	r.Expect("event", "nothing", events.Next(fact.Quiet))
}

func fullBuffer(r *fact.Report) {
	r.Step("acknowledgement of data after a writer met a full buffer")
	fd, peer := r.TCPPair()
	events := r.Edges(fd)
	r.AtLeast("bytes until the buffer was full", 100_000, fact.Fill(fd, 64<<10, 64<<20))
	r.Expect("event before the peer reads", "nothing", events.Next(fact.Quiet))
	fact.Drain(peer)
	r.Expect("event", "OUT", events.Next(fact.Patience))
}

func active(r *fact.Report) {
	r.Step("acknowledgement of the FIN, active closer")
	fd, peer := r.TCPPair()
	events := r.Edges(fd)
	r.Deaf(peer)
	r.CloseWrite(fd)
	r.Expect("event of the call itself", "OUT", events.Next(fact.Patience))
	r.Expect("SIOCOUTQ at that event", 1, r.OutQ(fd))
	r.Hearing(peer)
	r.Expect("event of the acknowledgement", "OUT", events.Next(fact.Patience))
	r.Expect("SIOCOUTQ, state", "0, FIN_WAIT2", fact.Join(r.OutQ(fd), r.State(fd)))
}

func passive(r *fact.Report) {
	r.Step("acknowledgement of the FIN, passive closer")
	fd, peer := r.TCPPair()
	r.CloseWrite(peer)
	r.WaitState(fd, "CLOSE_WAIT")
	events := r.Edges(fd)
	r.Deaf(peer)
	r.CloseWrite(fd)
	r.Expect("event of the call itself", "IN|OUT|RDHUP|HUP", events.Next(fact.Patience))
	r.Expect("SIOCOUTQ, state at that event", "1, LAST_ACK", fact.Join(r.OutQ(fd), r.State(fd)))
	r.Hearing(peer)
	r.Expect("event of the acknowledgement", "IN|OUT|RDHUP|HUP", events.Next(fact.Patience))
	r.Expect("SIOCOUTQ, state", "0, CLOSE", fact.Join(r.OutQ(fd), r.State(fd)))
}
