package anysock

import (
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// This file notices a TCP peer, or a path, that went silent while something
// of ours is unacknowledged. Keep-alive covers the idle connection only, and
// TCP_USER_TIMEOUT also kills a live peer whose window is closed
// (docs/notes/user-timeout), so the age of the last acknowledgement is judged
// here (sys.Silence).

// minLostCheck bounds how often the kernel is asked.
const minLostCheck = 50 * time.Millisecond

// lostMonitors has one monitor per distinct bound, as long as it has
// connections.
var lostMonitors struct {
	sync.Mutex
	byBound map[time.Duration]*lostMonitor
}

// A lostMonitor looks at all connections with the same bound. Its goroutine
// runs while there are any, and is owned by them: the last one to leave stops
// it. What it remembers is of those that are owed something.
type lostMonitor struct {
	bound time.Duration
	conns []*Conn // each has its place in it
	stop  chan struct{}
}

// watchForLoss enters c if its carrier can tell.
func (c *Conn) watchForLoss() {
	fd := c.kernel()
	if c.opts.LostAfter < 0 || fd == nil || !c.caps.Has(CapCloseAck) {
		return
	}
	m := &lostMonitors
	m.Lock()
	defer m.Unlock()
	lm := m.byBound[c.opts.LostAfter]
	if lm == nil {
		if m.byBound == nil {
			m.byBound = make(map[time.Duration]*lostMonitor)
		}
		lm = &lostMonitor{bound: c.opts.LostAfter, stop: make(chan struct{})}
		m.byBound[lm.bound] = lm
		go lm.run()
	}
	c.watched, c.place = lm, len(lm.conns)
	lm.conns = append(lm.conns, c)
}

// unwatchForLoss leaves; the last one out stops the monitor.
func (c *Conn) unwatchForLoss() {
	m := &lostMonitors
	m.Lock()
	defer m.Unlock()
	lm := c.watched
	if lm == nil {
		return
	}
	c.watched = nil
	last := len(lm.conns) - 1
	moved := lm.conns[last]
	lm.conns[c.place], moved.place = moved, c.place
	lm.conns[last] = nil
	lm.conns = lm.conns[:last]
	switch {
	case last == 0:
		delete(m.byBound, lm.bound)
		close(lm.stop)
	case cap(lm.conns) > minLostRoom && last < cap(lm.conns)/4:
		lm.conns = append(make([]*Conn, 0, 2*last), lm.conns...)
	}
}

// minLostRoom is how many places a monitor keeps, however few it uses.
const minLostRoom = 64

func (m *lostMonitor) run() {
	t := time.NewTicker(max(m.bound/sys.ChecksPerBound, minLostCheck))
	defer t.Stop()
	debts := make(map[*Conn]*sys.Silence)
	var batch []*Conn
	for {
		select {
		case <-m.stop:
			return
		case <-t.C:
		}
		lostMonitors.Lock()
		batch = append(batch[:0], m.conns...)
		lostMonitors.Unlock()
		for _, c := range batch {
			m.check(c, debts)
		}
		clear(batch)
		for c := range debts {
			if c.is(flagEnded) { // it has left
				delete(debts, c)
			}
		}
	}
}

// check asks the kernel once.
func (m *lostMonitor) check(c *Conn, debts map[*Conn]*sys.Silence) {
	l, err := c.kernel().Liveness()
	if err != nil || l.Owed == 0 {
		delete(debts, c)
		return
	}
	s := debts[c]
	if s == nil {
		s = new(sys.Silence)
		debts[c] = s
	}
	if s.Lost(l, time.Now(), m.bound) {
		c.lose(l.LastHeard)
	}
}

// The kernel's retransmissions and window probes grow two minutes apart; this
// many within the bound make the verdict come in time. Kernels before 6.15
// cannot be told, and there the verdict on a connection whose window was
// closed for long takes up to six minutes.
const probesPerBound = 4

const (
	minRetransmitCap = time.Second       // what TCP_RTO_MAX_MS takes
	maxRetransmitCap = 120 * time.Second // the kernel's own
)

// retransmitCap is the option's value in milliseconds for a bound.
func retransmitCap(bound time.Duration) int {
	return int(min(max(bound/probesPerBound, minRetransmitCap), maxRetransmitCap) / time.Millisecond)
}

// liftRetransmitCap gives a connection that is closed with something owed the
// kernel's full patience: with the cap the kernel would give up the closed
// socket as soon as its interval reaches it (docs/notes/lost-peer).
func (c *Conn) liftRetransmitCap() {
	if fd := c.kernel(); fd != nil && fd.Family().Inet() && c.opts.LostAfter > 0 {
		_ = fd.SetInt(sys.MaxRetransmit, int(maxRetransmitCap/time.Millisecond)) // unsupported: nothing to lift
	}
}

// lose ends c because the peer is silent, and wakes its callers.
func (c *Conn) lose(silent time.Duration) {
	c.mu.Lock()
	if k := c.known(); k.failure == nil {
		k.failure = &Error{
			Op: OpWait, Addr: c.peerName(), Kind: KindLost, Err: syscall.ETIMEDOUT,
			Hint: "nothing was heard for " + silent.Round(time.Millisecond).String() + " while data is unacknowledged: the peer or the path to it is gone",
		}
		k.failHow = Lost
	}
	c.mu.Unlock()
	c.set(flagFailed)
	c.turnAway()
	if !c.is(flagDisconnecting) {
		c.finishFailed()
		return
	}
	// A disconnect is at work, with deadlines of its own.
	c.rd.lend(longAgo)
	c.wr.lend(longAgo)
}
