//go:build linux

// outq: SIOCOUTQ of a TCP socket counts what the peer's kernel has not acknowledged, the FIN included.
//
// It is write_seq - snd_una, and the FIN occupies one sequence number. 0 after shutdown therefore means
// that the peer's kernel has everything. Right after the call it still is 1, on loopback too: a peer that has
// nothing to send acknowledges the FIN only when its delayed acknowledgement is due, up to 40 ms later, unless
// its own FIN carries the acknowledgement. A reset does not set it to 0: it keeps the bytes that were not
// acknowledged, so a socket in state CLOSE still tells how much may be missing.
package main

import (
	"slices"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("outq", run) }

func run(r *fact.Report) {
	silent(r)
	loopback(r)
	bothEnds(r)
	reset(r)
}

func silent(r *fact.Report) {
	r.Step("a peer that acknowledges nothing")
	fd, peer := r.TCPPair()
	r.Deaf(peer)
	r.Expect("before", 0, r.OutQ(fd))
	r.CloseWrite(fd)
	r.Expect("after shutdown: the FIN", 1, r.OutQ(fd))
	r.Expect("state", "FIN_WAIT1", r.State(fd))
	r.Hearing(peer)
	r.Expect("state once the peer hears a retransmission", "FIN_WAIT2", r.WaitState(fd, "FIN_WAIT2"))
	r.Expect("after the acknowledgement", 0, r.OutQ(fd))

	fd, peer = r.TCPPair()
	r.Deaf(peer)
	fact.Send(fd, 1000)
	r.Expect("1000 bytes in flight", 1000, r.OutQ(fd))
	r.CloseWrite(fd)
	r.Expect("and the FIN", 1001, r.OutQ(fd))
}

func loopback(r *fact.Report) {
	r.Step("loopback: is it 0 right after the call, and when is it")
	nothing := func(fd, peer int) {}
	data := func(fd, peer int) { fact.Send(fd, 1000) }
	exchange := func(fd, peer int) {
		fact.Send(fd, 1000)
		fact.Recv(peer, 1000)
		fact.Send(peer, 1000)
		fact.Recv(fd, 1000)
	}
	stays := func(peer int) {}
	ends := func(peer int) { r.CloseWrite(peer) }
	delay(r, "nothing sent before", nothing, stays)
	delay(r, "1000 bytes sent before", data, stays)
	delay(r, "a request and a reply before", exchange, stays)
	delay(r, "a request and a reply before, and the peer ends too", exchange, ends)
}

// delay measures the time from shutdown to SIOCOUTQ = 0 on connections of one history.
func delay(r *fact.Report, what string, before func(fd, peer int), after func(peer int)) {
	const rounds = 21
	var atOnce, never int
	var waits []time.Duration
	for range rounds {
		fd, peer := r.TCPPair()
		before(fd, peer)
		start := time.Now()
		r.CloseWrite(fd)
		if r.OutQ(fd) == 0 {
			atOnce++
		}
		after(peer)
		if !fact.Until(func() bool { return r.OutQ(fd) == 0 }) {
			never++
		}
		waits = append(waits, time.Since(start).Round(10*time.Microsecond))
		r.Close(fd)
		r.Close(peer)
	}
	slices.Sort(waits)
	r.Figure("%s: 0 at once in %d of %d; after %v to %v, median %v", what, atOnce, rounds, waits[0], waits[rounds-1], waits[rounds/2])
	r.Expect(what+": rounds that never reached 0", 0, never)
}

func bothEnds(r *fact.Report) {
	r.Step("both ends in order, descriptors open")
	active, passive := r.TCPPair()
	fact.Send(active, 1000)
	fact.Send(passive, 1000)
	r.CloseWrite(active)
	r.WaitState(passive, "CLOSE_WAIT")
	r.CloseWrite(passive)
	r.Expect("active closer's state, TIME_WAIT being kept without a socket", "CLOSE", r.WaitState(active, "CLOSE"))
	r.Expect("active closer", 0, r.OutQ(active))
	r.Expect("passive closer's state", "CLOSE", r.WaitState(passive, "CLOSE"))
	r.Expect("passive closer", 0, r.OutQ(passive))
	r.Expect("active closer reads", "1000 bytes, 0 bytes", fact.Join(fact.Recv(active, 2000), fact.Recv(active, 2000)))
}

func reset(r *fact.Report) {
	r.Step("a reset while bytes are not acknowledged")
	fd, peer := r.TCPPair()
	r.Deaf(peer)
	fact.Send(fd, 1000)
	r.Abort(peer)
	r.Expect("state", "CLOSE", r.WaitState(fd, "CLOSE"))
	r.Expect("not acknowledged", 1000, r.OutQ(fd))
}
