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
// here. A live peer that reads nothing can leave one probe unanswered, and its
// answers can be two minutes apart, so silence needs several unanswered
// segments too (docs/notes/zero-window).

// checksPerBound is how often a connection is looked at within its bound: the
// verdict comes within the bound, at most an eighth early.
const checksPerBound = 8

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
// it.
type lostMonitor struct {
	bound   time.Duration
	watches map[*lostWatch]struct{}
	stop    chan struct{}
}

// A lostWatch is one connection's place in a monitor.
type lostWatch struct {
	c       *Conn
	monitor *lostMonitor

	// What the monitor's goroutine alone uses.
	since time.Time    // something is owed, and nothing was heard, from here on
	base  sys.Liveness // as it was then
}

// minUnanswered is how many segments must have gone out in vain.
const minUnanswered = 3

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
		lm = &lostMonitor{bound: c.opts.LostAfter, watches: make(map[*lostWatch]struct{}), stop: make(chan struct{})}
		m.byBound[lm.bound] = lm
		go lm.run()
	}
	c.watched = &lostWatch{c: c, monitor: lm}
	lm.watches[c.watched] = struct{}{}
}

// unwatchForLoss leaves; the last one out stops the monitor.
func (c *Conn) unwatchForLoss() {
	w := c.watched
	if w == nil {
		return
	}
	m := &lostMonitors
	m.Lock()
	defer m.Unlock()
	lm := w.monitor
	if _, ok := lm.watches[w]; !ok {
		return
	}
	delete(lm.watches, w)
	if len(lm.watches) == 0 {
		delete(m.byBound, lm.bound)
		close(lm.stop)
	}
}

func (m *lostMonitor) run() {
	t := time.NewTicker(max(m.bound/checksPerBound, minLostCheck))
	defer t.Stop()
	var batch []*lostWatch
	for {
		select {
		case <-m.stop:
			return
		case <-t.C:
		}
		batch = batch[:0]
		lostMonitors.Lock()
		for w := range m.watches {
			batch = append(batch, w)
		}
		lostMonitors.Unlock()
		for i, w := range batch {
			w.check(m.bound)
			batch[i] = nil
		}
	}
}

// check asks the kernel once. Lost is: something is owed, nothing was heard
// for the bound, and at least minUnanswered segments went out in vain since.
func (w *lostWatch) check(bound time.Duration) {
	l, err := w.c.kernel().Liveness()
	now := time.Now()
	if err != nil || l.Owed == 0 {
		w.since = time.Time{}
		return
	}
	if w.since.IsZero() || l.Segments != w.base.Segments {
		// Silence began no earlier than the last acknowledgement, and debt no
		// earlier than the check before this one.
		debt := w.since.IsZero()
		w.since = now.Add(-min(l.LastHeard, bound/checksPerBound))
		w.base = l
		if debt { // what went out again already was in vain
			w.base.AllRetransmits -= l.Retransmits
			w.base.Retransmits = 0
		}
		return
	}
	unanswered := l.Probes + max(l.Retransmits-min(l.Retransmits, w.base.Retransmits), l.AllRetransmits-w.base.AllRetransmits)
	// The next check would be too late.
	due := bound - bound/checksPerBound
	if l.LastHeard < due || now.Sub(w.since) < due || unanswered < minUnanswered {
		return
	}
	w.c.lose(l.LastHeard)
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
	if c.failure == nil {
		c.failure = &Error{
			Op: OpWait, Addr: c.peerName(), Kind: KindLost, Err: syscall.ETIMEDOUT,
			Hint: "nothing was heard for " + silent.Round(time.Millisecond).String() + " while data is unacknowledged: the peer or the path to it is gone",
		}
		c.failHow = Lost
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
