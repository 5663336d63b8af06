package anysock

import (
	"sync"
	"syscall"
	"time"
)

// This file notices a TCP peer, or a path, that went silent while something
// of ours is unacknowledged. Keep-alive covers the idle connection only, and
// TCP_USER_TIMEOUT also kills a live peer whose window is closed
// (docs/notes/user-timeout), so the age of the last acknowledgement is judged
// here: it counts as silence only while retransmissions or window probes stay
// unanswered (docs/notes/zero-window).

// checksPerBound is how often a connection is looked at within its bound: the
// verdict comes at most an eighth late.
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
	// owedSince is when the peer was first found silent with something owed;
	// zero if it is not. Only the monitor's goroutine uses it.
	owedSince time.Time
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

// check asks the kernel once. Lost is: something is owed, has been at every
// check for the bound, the probes are unanswered, and the last
// acknowledgement is older than the bound.
func (w *lostWatch) check(bound time.Duration) {
	fd := w.c.kernel()
	l, err := fd.Liveness()
	now := time.Now()
	if err != nil || l.Owed == 0 || !l.Unanswered {
		w.owedSince = time.Time{}
		return
	}
	// Silence began no earlier than the last acknowledgement, and no earlier
	// than when something was owed; the check before this one saw neither.
	if w.owedSince.IsZero() {
		w.owedSince = now.Add(-min(l.LastHeard, bound/checksPerBound))
		return
	}
	if l.LastHeard < bound || now.Sub(w.owedSince) < bound {
		return
	}
	w.c.lose(l.LastHeard)
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
