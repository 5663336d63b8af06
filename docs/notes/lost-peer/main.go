//go:build linux

// lost-peer: what the kernel itself does about a silent peer.
//
// Keep-alive probes only an idle connection: while anything is owed, in flight or held back by a closed
// window, it stays silent. Then the retransmission and window-probe timers count instead, up to
// net.ipv4.tcp_retries2 (15) at intervals that double to 120 s: a quarter of an hour and more.
// TCP_RTO_MAX_MS (since 6.15) caps the interval and so the whole time, for both timers, and an answered
// probe starts the count anew: a peer that does not read is never cut. Only after close it is: a socket
// without a descriptor gives up as soon as the interval reaches the cap, so the cap must go before close.
// And where a peer has shrunk its window below what is in flight, the kernel waits for twice the cap only.
//
// The option -long runs 75 s and shows 4 s as the cap with the default of 15 retries.
package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

const (
	retries = 5 // in place of 15
	rtoMax  = 1 // seconds, in place of 120
	// 0.2 + 0.4 + 0.8 s, then at the cap: five unanswered probes or retransmissions and the wait for the
	// last of them. Data in flight takes one timeout more, since a tail loss probe comes first.
	expected = 4400 * time.Millisecond
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-long" {
		fact.Bound = 100 * time.Second
		fact.Main("lost-peer", long)
	}
	fact.Main("lost-peer", run)
}

func run(r *fact.Report) {
	ns := r.Namespace()
	ns.Sysctl("net/ipv4/tcp_retries2", fmt.Sprint(retries))
	ns.Do(func() {
		limits(r)
		silence(r)
		closed(r)
	})
}

func limits(r *fact.Report) {
	r.Step("the option")
	fd := r.TCP()
	set := func(ms int) string {
		return fact.Name(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, fact.TCPRTOMaxMS, ms))
	}
	if set(1000) == "ENOPROTOOPT" {
		r.Skip("TCP_RTO_MAX_MS needs Linux 6.15")
	}
	r.Expect("TCP_RTO_MAX_MS 120000, 1000, 999, 120001", "nil, nil, EINVAL, EINVAL",
		fact.Join(set(120000), set(1000), set(999), set(120001)))
	r.Close(fd)
}

// conn is one connection whose end is awaited.
type conn struct {
	what string
	fd   int
	gone time.Duration // when it was no longer established; 0 never
}

// silence runs all cases side by side and prints when each connection ended.
func silence(r *fact.Report) {
	small := r.Option(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
	capped := r.Option(syscall.IPPROTO_TCP, fact.TCPRTOMaxMS, rtoMax*1000)
	keepAlive := func(fd int) {
		r.Set(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
		r.Set(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 1)
		r.Set(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 1)
		r.Set(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 2)
	}
	paused, pausedPeer := r.TCPPair(small, capped)
	r.Settle(paused, pausedPeer)
	fill(r, paused)
	before := r.TCPInfo(paused).SegsIn
	conns := []*conn{
		{what: "keep-alive 1 s, 1 s, 2; idle", fd: silent(r, 0)},
		{what: "keep-alive; data in flight", fd: silent(r, 1000)},
		{what: "keep-alive; closed window", fd: silent(r, -1, small)},
		{what: "cap 1 s; data in flight", fd: silent(r, 1000, capped)},
		{what: "cap 1 s; closed window", fd: silent(r, -1, capped, small)},
		{what: "cap 1 s; closed window, live peer", fd: paused},
		{what: "cap 1 s; window shrunk below what is in flight", fd: shrunk(r, true, capped)},
		{what: "cap 1 s; window shrunk, live peer", fd: shrunk(r, false, capped)},
	}
	for _, c := range conns[:3] {
		keepAlive(c.fd) // on our side alone: the peer's own probes would go unanswered and end in a reset
	}
	await(conns, r, 8*time.Second)

	r.Step("a silent peer, watched for 8 s, net.ipv4.tcp_retries2 = %d", retries)
	for i, want := range []time.Duration{3 * time.Second, 0, 0, expected, expected, 0, 3 * time.Second, 0} {
		c := conns[i]
		if want == 0 {
			r.Expect(c.what+": still up after 8 s", "ESTABLISHED", r.State(c.fd))
			continue
		}
		r.Within(c.what+": ended after ms", int(want.Milliseconds())-500, int(want.Milliseconds())+2000, int(c.gone.Milliseconds()))
		r.Expect(c.what+": error", "ETIMEDOUT", fact.Name(fact.SocketError(c.fd)))
	}
	info := r.TCPInfo(paused)
	r.Figure("live peer: %v", info)
	r.AtLeast("live peer: probes answered", retries+1, info.SegsIn-before)
	r.Within("live peer: unanswered", 0, 1, info.Probes)
}

// silent makes a connection whose peer stops hearing: after sent bytes were given to it, or, with -1,
// after its window has closed.
func silent(r *fact.Report, sent int, configure ...func(fd int)) int {
	fd, peer := r.TCPPair(configure...)
	r.Settle(fd, peer)
	if sent < 0 {
		fill(r, fd)
	}
	r.Deaf(peer)
	if sent > 0 {
		fact.Send(fd, sent)
	}
	return fd
}

// shrunk makes a connection whose peer takes its window back while data is in flight, and then, if asked,
// stops hearing.
func shrunk(r *fact.Report, deaf bool, configure ...func(fd int)) int {
	fd, peer := r.TCPPair(configure...)
	r.Settle(fd, peer)
	fact.Fill(fd, 1000, 30_000)
	r.Set(peer, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1)
	fill(r, fd)
	if deaf {
		r.Deaf(peer)
	}
	return fd
}

func fill(r *fact.Report, fd int) {
	fact.Fill(fd, 64<<10, 256<<10)
	r.Expect("the window is closed", true, fact.Until(func() bool { return r.TCPInfo(fd).SndWnd == 0 }))
}

// await notes when each connection leaves ESTABLISHED, within the time given.
func await(conns []*conn, r *fact.Report, within time.Duration) {
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for age := time.Duration(0); age < within; age = time.Since(start) {
		<-tick.C
		for _, c := range conns {
			if c.gone == 0 && r.State(c.fd) != "ESTABLISHED" {
				c.gone = time.Since(start).Round(50 * time.Millisecond)
			}
		}
	}
}

// closed closes connections towards a peer that reads only later, and counts what it gets.
func closed(r *fact.Report) {
	small := r.Option(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
	capped := r.Option(syscall.IPPROTO_TCP, fact.TCPRTOMaxMS, rtoMax*1000)
	const size = 256 << 10
	cut, cutPeer := r.TCPPair(small, capped)
	kept, keptPeer := r.TCPPair(small, capped)
	fill(r, cut)
	fill(r, kept)
	r.Set(kept, syscall.IPPROTO_TCP, fact.TCPRTOMaxMS, 120_000)
	r.Close(cut)
	r.Close(kept)
	fact.Wait(cutPeer, fact.RdHup, fact.Patience) // the reset, where there is one

	r.Step("close of %d bytes towards a live peer that reads %v later", size, fact.Patience)
	n, last := fact.Drain(cutPeer)
	r.Expect("capped at 1 s: the peer's last read", "ECONNRESET", last)
	r.Within("capped at 1 s: bytes the peer could read", 0, size/2, n)
	n, last = fact.Drain(keptPeer)
	r.Expect("cap lifted before close: bytes, last read", fact.Join(size, "0 bytes"), fact.Join(n, last))
}

// long shows the values that suit a bound of one minute.
func long(r *fact.Report) {
	ns := r.Namespace()
	ns.Do(func() {
		small := r.Option(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		capped := r.Option(syscall.IPPROTO_TCP, fact.TCPRTOMaxMS, 4000)
		paused, _ := r.TCPPair(small, capped)
		fill(r, paused)
		conns := []*conn{
			{what: "data in flight", fd: silent(r, 1000, capped)},
			{what: "closed window", fd: silent(r, -1, capped, small)},
			{what: "closed window, live peer", fd: paused},
		}
		await(conns, r, 75*time.Second)
		r.Step("cap 4 s, net.ipv4.tcp_retries2 = 15, watched for 75 s")
		for _, c := range conns {
			if c.gone == 0 {
				r.Figure("%s: still up", c.what)
				continue
			}
			r.Figure("%s: ended after %v", c.what, c.gone)
		}
		r.Within("data in flight: ended after ms", 45_000, 60_000, int(conns[0].gone.Milliseconds()))
		r.Within("closed window: ended after ms", 45_000, 65_000, int(conns[1].gone.Milliseconds()))
		r.Expect("live peer", "ESTABLISHED", r.State(paused))
	})
}
