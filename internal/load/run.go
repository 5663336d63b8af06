package load

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// This file holds the course of a run:
//
//	connect    every connection is made; the first that fails ends the run
//	probe      one message on the first: is the peer what the mode needs?
//	warm up    work that is not counted
//	measure    until the duration is over, enough was done, or somebody stops it
//	finish     what is under way is answered, for at most the timeout
//	end        every connection is disconnected, and its ending counted

const (
	// connectAtOnce is how many connections are being made at once.
	connectAtOnce = 64
	// stopPatience is how long answers are waited for after an interruption.
	stopPatience = time.Second
	// progressInterval is how often Config.Progress is called.
	progressInterval = time.Second
)

// Engines, in Result.Engine.
const (
	EngineGoroutines = "goroutines"
	EngineLoops      = "loops"
)

// A Config is a run to be made.
type Config struct {
	Work Work
	// Address is what Dial dials, for the Result.
	Address string
	// Dial makes a connection. The context bounds it by Work.Timeout.
	Dial func(context.Context) (*anysock.Conn, error)
	// Plain says that Dial does no more than to connect a tcp or unix socket with
	// the options that sockets have by default, so that mode connect may do it
	// on loops. It then connects to where the first connection went: a name is
	// resolved once.
	Plain bool
	// Progress is told how far the run is, once a second, on a goroutine of
	// the run; nil is nobody.
	Progress func(Progress)

	alarm  func() (alarm, error) // nil is newAlarm
	engine string                // EngineGoroutines: never on loops
}

// A Phase is a part of a run.
type Phase string

// The phases that take time.
const (
	PhaseConnect Phase = "connecting"
	PhaseWarmup  Phase = "warming up"
	PhaseMeasure Phase = "measuring"
	PhaseFinish  Phase = "finishing"
)

// A Progress is how far a run is.
type Progress struct {
	Phase       Phase
	Elapsed     time.Duration // of the phase
	Connections int           // made so far
	// Requests and Bytes (bulk, both ways) were counted so far; PerSecond is
	// how many in the last interval, in whichever of the two it is.
	Requests  int64
	Bytes     int64
	PerSecond float64
	Failures  int64
}

// A PeerError says that the peer is not what the mode needs.
type PeerError struct {
	Peer   string
	Mode   Mode
	Msg    string // what it did instead
	Silent bool   // it did nothing, within the timeout
	Err    error  // how the connection ended, if that is what it did
}

func (e *PeerError) Error() string { return e.Peer + ": " + e.Msg }

// Unwrap is how the connection ended.
func (e *PeerError) Unwrap() error { return e.Err }

// A run is one run of a Work.
type run struct {
	Config
	work    Work
	base    time.Time // now counts from here
	pattern *pattern
	chargen *pattern // down
	shards  []*shard
	lines   []*line
	made    atomic.Int64 // connections

	// Set before the lines begin.
	from     int64 // counting begins
	schedule schedule

	until   atomic.Int64  // nothing is begun then
	tickets atomic.Int64  // requests or bytes that may still be begun, if bounded
	over    chan struct{} // closed when until has passed
	broken  atomic.Pointer[runError]
	stop    context.CancelFunc // ends the run early
	working context.Context    // until the run is over
	alive   context.Context    // until nothing is waited for any more

	peer  net.Addr // of the first connection, in mode connect
	loops *loops   // nil: every line is driven by goroutines

	counting    atomic.Bool // bytes: the mark of the beginning is made
	unverified  atomic.Bool
	interrupted bool // set by phases
}

type runError struct{ err error }

// now is nanoseconds since the run began, never 0.
func (r *run) now() int64 { return int64(time.Since(r.base)) + 1 }

// Run makes a run. When ctx is done it begins no more requests, and the Result
// says so in Partial; when cut is done it aborts what is under way.
//
// The error is Work.Check's, that of the first connection that could not be
// made, or a *PeerError. What fails after that is counted in the Result.
func Run(ctx, cut context.Context, cfg Config) (*Result, error) {
	if err := cfg.Work.Check(); err != nil {
		return nil, err
	}
	r := &run{
		Config: cfg, work: cfg.Work, base: time.Now(), over: make(chan struct{}),
		pattern: newPattern(max(cfg.Work.Size, writePiece)), shards: newShards(cfg.Work),
	}
	if r.work.Mode == Down {
		r.chargen = newChargenPattern(readPiece)
	}
	for i := range r.work.Connections {
		r.lines = append(r.lines, newLine(r, i))
	}
	if r.alarm == nil {
		r.alarm = newAlarm
	}
	setup, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(cut, cancel)()
	err := r.connect(setup)
	if err == nil {
		err = r.probe(setup)
	}
	if err == nil && r.engine != EngineGoroutines {
		if r.work.Mode == Connect {
			err = r.makeCallers()
		} else {
			err = r.takeSockets()
		}
	}
	if err != nil {
		r.abandon()
		return nil, err
	}
	return r.measure(ctx, cut)
}

// connect makes the standing connections.
func (r *run) connect(ctx context.Context) error {
	if r.work.Mode == Connect {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := r.report(PhaseConnect)
	defer stop()
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	for range min(connectAtOnce, len(r.lines)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(r.lines) {
					return
				}
				if _, err := r.lines[i].dial(ctx); err != nil {
					if len(r.lines) > 1 && ctx.Err() == nil {
						err = &ConnectError{Number: i + 1, Of: len(r.lines), Err: err}
					}
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// A ConnectError says which of the connections could not be made.
type ConnectError struct {
	Number, Of int
	Err        error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connection %d of %d: %v", e.Number, e.Of, e.Err)
}

// Unwrap is why.
func (e *ConnectError) Unwrap() error { return e.Err }

// abandon aborts every connection of a run that does not begin.
func (r *run) abandon() { r.abortLines() }

// fail ends the run: the peer is not what the mode needs.
func (r *run) fail(err error) {
	r.broken.CompareAndSwap(nil, &runError{err})
	r.stop()
}

// measure is everything from the warm-up to the end.
func (r *run) measure(ctx, cut context.Context) (*Result, error) {
	ctx, r.stop = context.WithCancel(ctx)
	defer r.stop()
	var (
		endWork context.CancelFunc
		kill    context.CancelFunc
	)
	r.working, endWork = context.WithCancel(context.Background())
	defer endWork()
	r.alive, kill = context.WithCancel(context.Background())
	defer kill()
	start := r.now()
	r.from = start + int64(r.work.Warmup)
	r.until.Store(r.from + int64(r.work.limit()))
	r.tickets.Store(r.work.Requests + r.work.Bytes) // one of them is 0
	if r.work.Rate > 0 {
		r.schedule = newSchedule(start, r.work.Rate, len(r.lines))
		if r.work.Requests > 0 {
			first := r.schedule.before(r.from)
			r.until.Store(min(r.until.Load(), r.schedule.at(first+r.work.Requests)))
		}
	}

	begin := r.mark() // before anything, if there is no warm-up
	r.counting.Store(r.work.Warmup == 0)
	var work, watch sync.WaitGroup
	if r.loops != nil {
		r.loops.start(&work)
		defer r.loops.stop()
	} else {
		for _, l := range r.lines {
			work.Go(l.run)
		}
	}
	if r.work.Rate > 0 && r.loops == nil {
		a, err := r.alarm()
		if err != nil {
			r.fail(err)
		} else {
			defer a.close()
			watch.Go(func() { r.pace(a) })
		}
	}
	watched := make(chan struct{})
	if r.loops == nil {
		watch.Go(func() { r.watch(watched) })
	}
	done := make(chan struct{})
	watch.Go(func() {
		work.Wait()
		close(done)
	})

	// What was moved and used when counting began, and when it ended.
	m := r.phases(ctx, begin, done)
	close(r.over)
	endWork()
	if r.loops != nil {
		r.loops.over()
	} else if r.work.Mode == Up || r.work.Mode == Down {
		r.cutLines(enough) // nothing is owed
	}
	stopReport := r.report(PhaseFinish)
	r.finish(ctx, cut, kill, done)
	stopReport()
	close(watched)
	watch.Wait()
	if b := r.broken.Load(); b != nil {
		return nil, b.err
	}
	return r.result(m), nil
}

// A mark is what was moved and used up to an instant.
type mark struct {
	at             int64
	sent, received int64
	acknowledged   bool
	cpu            *CPU
}

func (r *run) mark() mark {
	m := mark{at: r.now(), acknowledged: true, cpu: processTime()}
	if !r.work.Mode.Bulk() {
		return m
	}
	if r.loops != nil {
		m.sent, m.received, m.acknowledged = r.loops.moved()
		return m
	}
	for _, l := range r.lines {
		sent, received, acked := l.moved()
		m.sent, m.received, m.acknowledged = m.sent+sent, m.received+received, m.acknowledged && acked
	}
	return m
}

// phases waits for the end of what is counted, and returns the marks of its
// beginning and end.
func (r *run) phases(ctx context.Context, begin mark, done <-chan struct{}) [2]mark {
	wait := func(until int64) bool {
		t := time.NewTimer(time.Duration(until - r.now()))
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-done:
		case <-ctx.Done():
			r.interrupted = true
			r.until.Store(min(r.until.Load(), r.now()))
		}
		return false
	}
	more := true
	if r.work.Warmup > 0 {
		stop := r.report(PhaseWarmup)
		more = wait(r.from)
		stop()
		begin = r.mark()
		r.counting.Store(true)
	}
	if more {
		stop := r.report(PhaseMeasure)
		wait(r.until.Load())
		stop()
	}
	return [2]mark{begin, r.mark()}
}

// finish waits until the lines have come to their ends: it cuts those that take
// too long, and aborts them when cut is done. A line's disconnect after that is
// bounded too.
func (r *run) finish(ctx, cut context.Context, kill context.CancelFunc, done <-chan struct{}) {
	patience, interrupted := time.Duration(r.work.Timeout), ctx.Done()
	if r.interrupted {
		patience, interrupted = min(patience, stopPatience), nil
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	aborted := cut.Done()
	for {
		select {
		case <-done:
			return
		case <-interrupted: // the measuring was over already
			interrupted = nil
			limit.Reset(min(patience, stopPatience))
		case <-limit.C:
			kill()
			r.cutLines(tooLate)
		case <-aborted:
			aborted = nil
			kill()
			r.cutLines(tooLate)
			r.abortLines()
		}
	}
}

// grant is how many of most requests (or bytes) may be begun now.
func (r *run) grant(now int64, most int) int {
	if now >= r.until.Load() {
		return 0
	}
	if r.work.Requests+r.work.Bytes == 0 || r.work.Rate > 0 || now < r.from || r.work.Bytes > 0 && !r.counting.Load() {
		return most
	}
	for {
		left := r.tickets.Load()
		n := min(left, int64(most))
		if n <= 0 {
			return 0
		}
		if r.tickets.CompareAndSwap(left, left-n) {
			return int(n)
		}
	}
}

// giveBack returns what was granted and not begun, of bytes.
func (r *run) giveBack(n int) {
	if n > 0 && r.work.Bytes > 0 && r.counting.Load() {
		r.tickets.Add(int64(n))
	}
}

// isOver reports whether nothing more is to be begun.
func (r *run) isOver() bool {
	return r.now() >= r.until.Load() || r.work.Requests+r.work.Bytes > 0 && r.work.Rate == 0 && r.tickets.Load() <= 0
}

// pause waits, or until the run is over.
func (r *run) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.over:
	}
}

// result is made when no line is at work any more.
func (r *run) result(m [2]mark) *Result {
	c := collect(r.shards)
	begin, end := m[0], m[1]
	res := &Result{
		Format: ResultFormat, Address: r.Address, Work: r.work, Engine: EngineGoroutines,
		Started:  r.base.Add(time.Duration(r.from)).Round(0),
		Requests: c.answered, Unanswered: c.unanswered, Unsent: c.unsent,
		Failures: c.failures, Endings: c.endings, Verified: !r.unverified.Load(),
		Latency: newDistribution(c.latency), Connect: newDistribution(c.connect), Lag: newDistribution(c.lag),
	}
	if res.Failures == nil {
		res.Failures = []Failure{}
	}
	if begin.cpu != nil && end.cpu != nil {
		res.CPU = &CPU{User: end.cpu.User - begin.cpu.User, System: end.cpu.System - begin.cpu.System}
	}
	if r.loops != nil {
		res.Engine = EngineLoops
	}
	if r.interrupted {
		res.Partial = "interrupted"
	}
	if r.work.Mode.Bulk() {
		if r.work.Bytes > 0 && end.at < r.until.Load() {
			end.at = c.last // the last connection has ended
		}
		res.BytesSent, res.BytesReceived = end.sent-begin.sent, end.received-begin.received
		res.Acknowledged = end.acknowledged && r.work.Mode != Down
		res.Seconds = time.Duration(end.at - begin.at).Seconds()
	} else {
		res.BytesSent = c.answered * int64(r.work.Size)
		res.BytesReceived = res.BytesSent
		counted := c.answered
		end := c.last
		if r.work.Requests == 0 || r.interrupted {
			counted, end = c.within, r.until.Load()
		}
		res.Seconds = time.Duration(max(end-r.from, 0)).Seconds()
		res.RequestsPerSecond = float64(counted) / max(res.Seconds, 1e-9)
		res.BytesSentPerSecond = res.RequestsPerSecond * float64(r.work.Size)
		res.BytesReceivedPerSecond = res.BytesSentPerSecond
	}
	if r.work.Mode.Bulk() && res.Seconds > 0 {
		res.BytesSentPerSecond = float64(res.BytesSent) / res.Seconds
		res.BytesReceivedPerSecond = float64(res.BytesReceived) / res.Seconds
	}
	res.host()
	return res
}

// report tells of a phase until stop is called.
func (r *run) report(phase Phase) (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go r.tell(phase, quit, done)
	return func() {
		close(quit)
		<-done
	}
}

// tell is owned by whoever called report.
func (r *run) tell(phase Phase, quit <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	began := time.Now()
	last, lastAt := r.progress(), began
	for {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		p, now := r.progress(), time.Now()
		p.Phase, p.Elapsed = phase, now.Sub(began)
		p.PerSecond = float64(p.Requests-last.Requests+p.Bytes-last.Bytes) / now.Sub(lastAt).Seconds()
		last, lastAt = p, now
		r.Progress(p)
	}
}

// progress is the counts so far.
func (r *run) progress() Progress {
	p := Progress{Connections: int(r.made.Load())}
	for _, s := range r.shards {
		s.mu.Lock()
		p.Requests += s.answered
		for _, f := range s.failures {
			p.Failures += f.Count
		}
		s.mu.Unlock()
	}
	if r.work.Mode.Bulk() {
		m := r.mark()
		p.Bytes = m.sent + m.received
	}
	return p
}
