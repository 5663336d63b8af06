//go:build linux

// user-timeout: TCP_USER_TIMEOUT kills a live peer whose window is closed.
//
// The peer answers every window probe; it only does not read. The timeout counts from the first probe and
// does not care about answers: a paused reader is taken for a lost one. No reset is sent: the peer learns of
// it only by what it sends itself, be it the window update of its next read.
package main

import (
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("user-timeout", run) }

const timeout = 2 * time.Second

func run(r *fact.Report) {
	small := r.Option(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
	fd, peer := r.TCPPair(small)
	r.Settle(fd, peer)
	control, _ := r.TCPPair(small)
	r.Set(fd, syscall.IPPROTO_TCP, fact.TCPUserTimeout, int(timeout.Milliseconds()))
	start := time.Now()
	fact.Fill(fd, 64<<10, 256<<10)
	fact.Fill(control, 64<<10, 256<<10)
	r.Expect("the window is closed", true, fact.Until(func() bool { return r.TCPInfo(fd).SndWnd == 0 }))
	before := r.TCPInfo(fd)
	last := before
	r.Expect("the connection ends", true, fact.Until(func() bool {
		now := r.TCPInfo(fd)
		if now.State == "ESTABLISHED" {
			last = now
		}
		return now.State != "ESTABLISHED"
	}))
	r.Within("after ms", int(timeout.Milliseconds())-100, int(timeout.Milliseconds())+1500, int(time.Since(start).Milliseconds()))
	r.AtLeast("answers of the peer to probes until then", 2, last.SegsIn-before.SegsIn)
	r.Figure("last look before the end: %v", last)
	r.Expect("state, error", "CLOSE, ETIMEDOUT", fact.Join(r.State(fd), fact.Name(fact.SocketError(fd))))
	r.Expect("the same connection without the option", "ESTABLISHED", r.State(control))

	r.Step("the peer")
	r.Expect("state, events", "ESTABLISHED, IN|OUT", fact.Join(r.State(peer), fact.Poll(peer)))
	n, end := fact.Drain(peer)
	r.AtLeast("bytes it reads", 1000, n)
	r.Expect("and then, its window update having met nobody", "ECONNRESET", end)
}
