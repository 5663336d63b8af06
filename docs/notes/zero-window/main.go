//go:build linux

// zero-window: what TCP_INFO shows of a peer that does not read and of a peer that is gone, and a test
// that tells them apart.
//
// A closed window is probed at growing intervals (0.2 s doubling to 120 s). A live peer answers a probe at
// once, so tcpi_probes is 0 again and tcpi_last_ack_recv falls to 0; between probes the age grows as far as
// the interval, and it alone says nothing. One unanswered probe says nothing either: a peer answers at most
// one out-of-window segment in 500 ms (net.ipv4.tcp_invalid_ratelimit), so the second probe of a live peer
// goes unanswered. With the peer gone tcpi_probes grows, or, with data in flight, tcpi_retransmits.
// Where the peer has shrunk its window below what is in flight, both stay 0 whether it lives or not, and
// only tcpi_total_retrans moves.
//
// The test that holds in all of these: something is owed, nothing was heard for the bound, and since it was
// last heard at least three segments that ask for an answer went out.
package main

import (
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

// The run is short, so the bound for silence is too; the library's is a minute.
const (
	length     = 11 * time.Second
	interval   = 100 * time.Millisecond
	silent     = 5 * time.Second
	unanswered = 3
)

func main() { fact.Main("zero-window", run) }

func run(r *fact.Report) {
	here, there := r.Namespace(), r.Namespace()
	here.Join(there)

	// A loopback buffer of 8 KiB closes its window at once.
	small := r.Option(syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
	paused, pausedPeer := r.TCPPair(small)
	deaf, deafPeer := r.TCPPair(small)
	shrunk, shrunkPeer := r.TCPPair()
	shrunkDeaf, shrunkDeafPeer := r.TCPPair()
	downClosed, downClosedPeer := here.PairTo(there, small)
	downOpen, downOpenPeer := here.PairTo(there)
	for fd, peer := range map[int]int{
		paused: pausedPeer, deaf: deafPeer, shrunk: shrunkPeer,
		shrunkDeaf: shrunkDeafPeer, downClosed: downClosedPeer, downOpen: downOpenPeer,
	} {
		r.Settle(fd, peer)
	}

	for _, fd := range []int{paused, deaf, downClosed} {
		fact.Fill(fd, 64<<10, 256<<10)
	}
	for fd, peer := range map[int]int{shrunk: shrunkPeer, shrunkDeaf: shrunkDeafPeer} {
		fact.Fill(fd, 1000, 30_000)
		r.Set(peer, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) // the window was 64 KiB; now the next segment finds no room
		fact.Fill(fd, 1000, 30_000)
	}
	closed := fact.Until(func() bool {
		return r.TCPInfo(paused).SndWnd == 0 && r.TCPInfo(deaf).SndWnd == 0 && r.TCPInfo(downClosed).SndWnd == 0 &&
			r.TCPInfo(shrunk).SndWnd == 0 && r.TCPInfo(shrunkDeaf).SndWnd == 0
	})
	r.Expect("the windows are closed", true, closed)

	r.Deaf(deafPeer)
	r.Deaf(shrunkDeafPeer)
	there.IP("link set v2 down")
	fact.Send(downOpen, 1000)

	conns := []*watched{
		{what: "live, not reading", fd: paused},
		{what: "live, window shrunk below what is in flight", fd: shrunk},
		{what: "silent path, window closed", fd: deaf, gone: true},
		{what: "silent path, window shrunk", fd: shrunkDeaf, gone: true},
		{what: "link down, window closed", fd: downClosed, gone: true},
		{what: "link down, data in flight", fd: downOpen, gone: true},
	}
	watch(r, conns)
	for _, c := range conns {
		c.print(r)
	}
	judge(r, conns)
}

// watched is one connection, its samples and the test's state.
type watched struct {
	what string
	fd   int
	gone bool // what the test must find out

	first   fact.TCPInfo
	last    fact.TCPInfo
	heard   fact.TCPInfo // the sample that last showed something received
	rows    []string
	maxAge  int
	maxOpen int           // most unanswered at once
	lostAt  time.Duration // when the test first said lost; 0 never
}

// watch samples all connections for the length of the run.
func watch(r *fact.Report, conns []*watched) {
	start := time.Now()
	for _, c := range conns {
		c.first = r.TCPInfo(c.fd)
		c.heard, c.last = c.first, c.first
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for sample := 1; ; sample++ {
		<-tick.C
		age := time.Since(start)
		for _, c := range conns {
			c.sample(r.TCPInfo(c.fd), age)
			if sample == 5 || sample%20 == 0 {
				c.rows = append(c.rows, age.Round(interval).String()+": "+c.last.String())
			}
		}
		if age >= length {
			return
		}
	}
}

// sample applies the test to one more sample.
func (c *watched) sample(now fact.TCPInfo, age time.Duration) {
	c.last = now
	if now.SegsIn != c.heard.SegsIn {
		c.heard = now
	}
	c.maxAge = max(c.maxAge, now.LastAckRecv)
	c.maxOpen = max(c.maxOpen, c.unanswered())
	owed := now.Unacked > 0 || now.NotSent > 0
	silence := time.Duration(min(now.LastAckRecv, now.LastDataRecv)) * time.Millisecond
	if c.lostAt == 0 && owed && silence >= silent && c.unanswered() >= unanswered {
		c.lostAt = age
	}
}

// unanswered counts what was sent since the peer was last heard and asks for an answer. A retransmission
// that the own interface refuses is missing from tcpi_total_retrans, hence the larger of the two counters.
func (c *watched) unanswered() int {
	again := max(c.last.TotalRetrans-c.heard.TotalRetrans, c.last.Retransmits-c.heard.Retransmits)
	return c.last.Probes + max(0, again)
}

func (c *watched) print(r *fact.Report) {
	r.Step("%s", c.what)
	for _, row := range c.rows {
		r.Figure("%s", row)
	}
	verdict := "never found lost"
	if c.lostAt > 0 {
		verdict = "found lost after " + c.lostAt.Round(interval).String()
	}
	r.Figure("largest age of the last acknowledgement %d ms; most unanswered at once %d; %s", c.maxAge, c.maxOpen, verdict)
}

func judge(r *fact.Report, conns []*watched) {
	paused, shrunk, deaf, shrunkDeaf, downClosed, downOpen := conns[0], conns[1], conns[2], conns[3], conns[4], conns[5]

	r.Step("a live peer that does not read")
	r.AtLeast("largest age of the last acknowledgement, ms", 3000, paused.maxAge)
	r.Expect("the age stays below the length of the run", true, paused.maxAge < int(length.Milliseconds())*2/3)
	r.Within("most probes unanswered at once", 0, 1, paused.maxOpen)
	r.Expect("probes unanswered at the end", 0, paused.last.Probes)
	r.AtLeast("doublings of the interval although every probe is answered", 4, paused.last.Backoff)

	r.Step("a live peer with a shrunk window")
	r.AtLeast("segments in flight under a closed window", 1, shrunk.last.Unacked)
	r.Expect("probes, retransmits", "0, 0", fact.Join(shrunk.last.Probes, shrunk.last.Retransmits))
	r.AtLeast("retransmissions, each answered", 3, shrunk.last.TotalRetrans-shrunk.first.TotalRetrans)
	r.Within("most unanswered at once", 0, 1, shrunk.maxOpen)

	r.Step("a peer that is gone")
	for _, c := range []*watched{deaf, downClosed} {
		r.AtLeast(c.what+": probes unanswered", unanswered, c.last.Probes)
	}
	r.AtLeast(downOpen.what+": retransmits", unanswered, downOpen.last.Retransmits)
	r.Expect(shrunkDeaf.what+": probes, retransmits", "0, 0", fact.Join(shrunkDeaf.last.Probes, shrunkDeaf.last.Retransmits))
	r.AtLeast(shrunkDeaf.what+": rise of total_retrans", unanswered, shrunkDeaf.last.TotalRetrans-shrunkDeaf.first.TotalRetrans)
	for _, c := range conns[2:] {
		r.AtLeast(c.what+": age of the last acknowledgement, ms", int(length.Milliseconds())-500, c.last.LastAckRecv)
	}

	r.Step("the test: owed, nothing heard for %v, at least %d unanswered", silent, unanswered)
	for _, c := range conns {
		r.Expect(c.what+": found lost", c.gone, c.lostAt > 0)
		r.Expect(c.what+": connection still up", "ESTABLISHED", r.State(c.fd))
	}
}
