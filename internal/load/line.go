package load

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// This file holds a line: one of the connections of a run, made again when it
// fails, and what bounds its waits.

const (
	// redialPause is waited before a line that failed is made again; it
	// doubles up to maxRedialPause.
	redialPause    = 100 * time.Millisecond
	maxRedialPause = time.Second
	// watchesPerTimeout is how often within a timeout a line is looked at,
	// which bounds how late a timeout comes.
	watchesPerTimeout = 8
	// maxBundles bounds how many values requests without an answer become in
	// the histogram.
	maxBundles = 1 << 20
)

// A line is one of the connections of a run. Its work is done by one
// goroutine, or by two: one that sends and one that receives.
type line struct {
	r     *run
	n     int
	shard *shard
	again int   // connections before this one
	start int64 // of the stream in the pattern

	conn atomic.Pointer[anysock.Conn]
	// Requests, or pieces in bulk, of all the line's connections so far.
	sent, answered atomic.Int64
	// starts has when the unanswered requests of a closed loop began: that of
	// request j at j modulo the depth. The sender's, until sent says so.
	starts []int64
	// judged is why a connection was cut.
	judged atomic.Pointer[judgement]
	// due has room for one: something may be sent.
	due chan struct{}

	mu           sync.Mutex
	pastSent     int64 // bytes of connections that have ended
	pastReceived int64
	pastAcked    bool // all of pastSent was acknowledged
}

// A judgement is why a connection was cut.
type judgement struct {
	c       *anysock.Conn
	verdict verdict
}

type verdict int

// The reasons; a later one counts in place of an earlier.
const (
	notCut  verdict = iota
	enough          // what was wanted has been done
	timeout         // nothing came within the timeout
	tooLate         // the run is over, and so is the time for answers
)

func newLine(r *run, n int) *line {
	l := &line{r: r, n: n, shard: r.shards[n%len(r.shards)], due: make(chan struct{}, 1), pastAcked: true, start: streamStart(n, 0)}
	if r.work.Mode == Echo && r.work.Rate == 0 {
		l.starts = make([]int64, r.work.Depth)
	}
	return l
}

// startOf is when request j of the line began, or was due.
func (l *line) startOf(j int64) int64 {
	if l.r.work.Rate > 0 {
		return l.r.schedule.lineAt(l.n, j)
	}
	return l.starts[j%int64(len(l.starts))]
}

// verdict is why c was cut.
func (l *line) verdict(c *anysock.Conn) verdict {
	if j := l.judged.Load(); j != nil && j.c == c {
		return j.verdict
	}
	return notCut
}

// wake lets the sender look again.
func (l *line) wake() {
	select {
	case l.due <- struct{}{}:
	default:
	}
}

// dial makes the line's connection.
func (l *line) dial(ctx context.Context) (*anysock.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.r.work.Timeout))
	defer cancel()
	began := l.r.now()
	c, err := l.r.Dial(ctx)
	if err != nil {
		return nil, err
	}
	l.shard.connected(l.r.now() - began)
	l.r.made.Add(1)
	l.conn.Store(c)
	return c, nil
}

// run is the line's goroutine.
func (l *line) run() {
	if l.r.work.Mode == Connect {
		l.calls()
		return
	}
	c := l.conn.Load()
	pause := redialPause
	for {
		began := l.answered.Load()
		err := l.serve(c)
		l.end(c, err)
		if err == nil || l.r.isOver() {
			break
		}
		if l.answered.Load() > began {
			pause = redialPause
		}
		if c = l.redial(&pause); c == nil {
			break
		}
	}
	l.missed()
}

// serve does the line's part of the work on a connection: nil when that is
// done.
func (l *line) serve(c *anysock.Conn) error {
	w := &l.r.work
	switch {
	case w.Mode == Up:
		return l.up(c)
	case w.Mode == Down:
		return l.down(c)
	case w.Mode == Both:
		return l.both(c)
	case w.Rate == 0 && w.Depth*w.Size <= maxUnread:
		return l.pingPong(c)
	}
	return l.exchange(c)
}

// redial makes the connection again, after a pause, as often as it takes; nil
// when the run is over.
func (l *line) redial(pause *time.Duration) *anysock.Conn {
	for {
		l.r.pause(*pause)
		*pause = min(2**pause, maxRedialPause)
		if l.r.isOver() {
			return nil
		}
		c, err := l.dial(l.r.working)
		if err == nil {
			l.again++
			l.start = streamStart(l.n, l.again)
			return c
		}
		if l.r.working.Err() != nil {
			return nil
		}
		l.shard.fail(err, 0)
	}
}

// end ends a connection after serve: in order if all went well.
func (l *line) end(c *anysock.Conn, err error) {
	if err == nil {
		l.disconnect(c)
		l.retire(c)
		return
	}
	if errors.Is(err, io.EOF) {
		err = &EndedError{peerName(c)}
	}
	l.lose(err, isCut(err), l.verdict(c) == tooLate && l.r.interrupted)
	_ = c.Abort() // it has failed; where there is no abort it closes
	l.retire(c)
}

// lose counts a connection that has failed, and what it owed. silent says that
// those requests had to wait until now; forgiven, that nobody waits for the
// answers any more, which is no failure.
func (l *line) lose(err error, silent, forgiven bool) {
	owed := l.sent.Load() - l.answered.Load()
	if l.r.work.Mode.Bulk() {
		owed = 0
	}
	if silent && owed > 0 {
		l.waited(l.answered.Load(), l.sent.Load())
	}
	if !forgiven {
		l.shard.fail(err, owed)
	}
	l.answered.Add(owed) // the numbers go on
}

// waited counts requests, from the first to before the last, that have waited
// until now and get no answer.
func (l *line) waited(first, last int64) {
	s, now := l.shard, l.r.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	// Very many are counted in bundles, each with the time of one of them.
	bundle := max(1, (last-first)/maxBundles)
	for ; first < last; first += bundle {
		if start := l.startOf(first); start >= l.r.from {
			n := min(bundle, last-first)
			s.unanswered += n
			record(s.latency, now-start, n)
		}
	}
}

// missed counts what was due in an open loop and never sent.
func (l *line) missed() {
	if l.r.work.Rate == 0 {
		return
	}
	first := max(l.sent.Load(), l.r.schedule.lineBefore(l.n, l.r.from))
	last := l.r.schedule.lineBefore(l.n, l.r.until.Load())
	if first >= last {
		return
	}
	l.waited(first, last)
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	l.shard.unsent += last - first
}

// disconnect ends a connection in order, within the timeout.
func (l *line) disconnect(c *anysock.Conn) {
	_ = c.SetDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(l.r.work.Timeout))
	defer cancel()
	if _, err := c.Disconnect(ctx); err != nil {
		if c.End().How != anysock.AbortedByUs { // by whoever cut the run
			l.shard.fail(err, 0)
		}
		_ = c.Abort() // as in end
	}
}

// retire counts an ended connection's bytes and its ending.
func (l *line) retire(c *anysock.Conn) {
	end := c.End()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn.Store(nil)
	if l.r.work.Mode.Bulk() {
		l.shard.lastly(l.r.now())
	}
	l.pastSent += end.Sent - end.Unacked
	l.pastReceived += end.Received - end.Drained
	l.pastAcked = l.pastAcked && end.AckedBy != anysock.AckedNone
	l.shard.ended(end.How)
}

// moved is how many bytes the line has moved, and whether sent is what was
// acknowledged.
func (l *line) moved() (sent, received int64, acked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent, received, acked = l.pastSent, l.pastReceived, l.pastAcked
	if c := l.conn.Load(); c != nil {
		received += c.Received()
		n, err := int64(0), error(nil)
		if l.r.work.Mode != Down {
			n, err = acknowledged(c)
		}
		sent, acked = sent+n, acked && err == nil
	}
	return sent, received, acked
}

// acknowledged is how many bytes of c are. Two figures make it, and what is
// sent between looking at them is an error, so the best of some tries counts.
func acknowledged(c *anysock.Conn) (int64, error) {
	const tries, exact = 8, 1 << 20
	best, least := int64(0), int64(math.MaxInt64)
	for range tries {
		sent := c.Sent()
		unacked, err := c.Unacked()
		if err != nil {
			return sent, err
		}
		if moved := c.Sent() - sent; moved < least {
			best, least = sent-unacked, moved
		}
		if least <= exact {
			break
		}
	}
	return best, nil
}

// cut makes the reads and writes of the line's connection fail.
func (l *line) cut(c *anysock.Conn, why verdict) {
	for {
		have := l.judged.Load()
		if have != nil && have.c == c && have.verdict >= why {
			return
		}
		if l.judged.CompareAndSwap(have, &judgement{c, why}) {
			break
		}
	}
	_ = c.SetDeadline(time.Unix(1, 0)) // fails only if it is closed
}

// cutLines cuts every line.
func (r *run) cutLines(why verdict) {
	if r.loops != nil {
		r.loops.cut(why)
		return
	}
	for _, l := range r.lines {
		if c := l.conn.Load(); c != nil {
			l.cut(c, why)
		}
	}
}

// abortLines aborts every line.
func (r *run) abortLines() {
	if r.loops != nil {
		r.loops.abort()
		return
	}
	for _, l := range r.lines {
		if c := l.conn.Load(); c != nil {
			_ = c.Abort() // where there is none it closes
		}
	}
}

// busy reports whether something is owed to the line.
func (l *line) busy() bool {
	return l.r.work.Mode.Bulk() || l.sent.Load() > l.answered.Load()
}

// watch cuts lines that wait for longer than the timeout, until quit is closed.
func (r *run) watch(quit <-chan struct{}) {
	limit := time.Duration(r.work.Timeout)
	tick := time.NewTicker(max(limit/watchesPerTimeout, time.Millisecond))
	defer tick.Stop()
	type seen struct {
		c     *anysock.Conn
		bytes int64
		since time.Time
	}
	last := make([]seen, len(r.lines))
	for {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		now := time.Now()
		for i, l := range r.lines {
			c := l.conn.Load()
			if c == nil || !l.busy() {
				last[i] = seen{}
				continue
			}
			bytes := c.Received()
			if r.work.Mode.Bulk() {
				bytes += c.Sent()
			}
			switch {
			case last[i].c != c || last[i].bytes != bytes:
				last[i] = seen{c, bytes, now}
			case now.Sub(last[i].since) >= limit:
				l.cut(c, timeout)
			}
		}
	}
}

// isCut reports whether err says that the line was cut.
func isCut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// peerName is a connection's peer, for errors.
func peerName(c *anysock.Conn) string {
	addr := c.RemoteAddr()
	if addr == nil {
		return "the peer"
	}
	return addr.Network() + ":" + addr.String()
}
