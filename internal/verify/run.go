package verify

// This file holds the run: connections, a number at a time, until they were
// enough, the time is over, or somebody asks to stop.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anysock/anysock"
)

// The defaults of a Config.
const (
	DefaultCount   = 1000
	DefaultAtOnce  = 100
	DefaultMaxSize = 256 << 10
	DefaultLate    = time.Second
)

// A Config is what a Run does.
type Config struct {
	// Address is dialed for every connection, with Dialer.
	Address anysock.Address
	Dialer  anysock.Dialer
	// Server is the far end if it is in this process; nil asks the far end for
	// what it saw, over Address.
	Server *Server
	// Echo says that the far end is a plain echo server.
	Echo bool

	// Count is how many connections to make, and Duration for how long to go
	// on; what comes first counts. 0 is no bound; both 0 is DefaultCount.
	Count    uint64
	Duration time.Duration
	// First is the number of the first connection.
	First uint64
	// AtOnce is how many connections there are at a time; 0 is DefaultAtOnce.
	AtOnce int
	// Seed decides on everything that is random.
	Seed uint64
	// MaxSize bounds a message in bytes; 0 is DefaultMaxSize, negative sends
	// empty ones.
	MaxSize int
	// Late bounds the pause between an end and the reply to it; 0 is
	// DefaultLate, negative is none.
	Late time.Duration
	// Orders are those to try; nil is all.
	Orders []Order
	// Patience is how long something that is due may take; 0 is
	// DefaultPatience.
	Patience time.Duration

	// OnFinding is told of each connection that was not as it had to be, one
	// at a time; nil is nobody.
	OnFinding func(Finding)
	// OnOpen is told of each connection once it stands, before anything is sent,
	// possibly of several at once; nil is nobody.
	OnOpen func(Plan, *anysock.Conn)
}

// A Run is one use of a Config.
type Run struct {
	cfg   Config
	dice  dice
	began time.Time

	stop   context.Context
	cancel context.CancelFunc

	next   atomic.Uint64
	active atomic.Int64
	done   atomic.Int64
	up     atomic.Int64
	down   atomic.Int64
	faulty atomic.Int64

	report Report
	caps   anysock.Caps
}

// New checks a Config. The error says which field makes no sense.
func New(cfg Config) (*Run, error) {
	if cfg.Count == 0 && cfg.Duration == 0 {
		cfg.Count = DefaultCount
	}
	if cfg.AtOnce == 0 {
		cfg.AtOnce = DefaultAtOnce
	}
	switch {
	case cfg.MaxSize == 0:
		cfg.MaxSize = DefaultMaxSize
	case cfg.MaxSize < 0:
		cfg.MaxSize = 0
	}
	switch {
	case cfg.Late == 0:
		cfg.Late = DefaultLate
	case cfg.Late < 0:
		cfg.Late = 0
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Orders == nil {
		cfg.Orders = Orders()
	}
	switch {
	case cfg.Duration < 0:
		return nil, fmt.Errorf("a duration of %s", cfg.Duration)
	case cfg.AtOnce < 0:
		return nil, fmt.Errorf("%d connections at a time", cfg.AtOnce)
	case cfg.MaxSize > MaxMessage:
		return nil, fmt.Errorf("messages of %d bytes: at most %d", cfg.MaxSize, MaxMessage)
	case cfg.Late > MaxLate:
		return nil, fmt.Errorf("late replies of %s: at most %s", cfg.Late, MaxLate)
	case cfg.Patience < 0:
		return nil, fmt.Errorf("a patience of %s", cfg.Patience)
	}
	// Who waits for the other's end in Disconnect is as patient as who reads.
	cfg.Dialer.Options.DrainTimeout = cfg.Patience
	r := &Run{cfg: cfg, began: time.Now()}
	r.stop, r.cancel = context.WithCancel(context.Background())
	r.dice = dice{
		seed: cfg.Seed, run: rand.Uint64(), max: uint64(cfg.MaxSize), late: cfg.Late, orders: cfg.Orders,
	}
	return r, nil
}

// Stop makes no more connections; those that run are finished. It does not wait.
func (r *Run) Stop() { r.cancel() }

// A Progress is how far a run has come.
type Progress struct {
	Done, Active, Faulty int64
	Up, Down             int64 // bytes
	Elapsed              time.Duration
}

// Progress says how far it has come, while Run is at work and after.
func (r *Run) Progress() Progress {
	return Progress{
		Done: r.done.Load(), Active: r.active.Load(), Faulty: r.faulty.Load(),
		Up: r.up.Load(), Down: r.down.Load(), Elapsed: time.Since(r.began),
	}
}

// Run asks the far end, makes the connections, and reports. When ctx is done
// what runs is cut, and the report is of what was done so far. The error is why
// the run could not begin: that of the first connection, or what answers there.
func (r *Run) Run(ctx context.Context) (*Report, error) {
	defer r.cancel()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	r.report.init(r.cfg, r.caps)
	if len(r.dice.orders) == 0 {
		r.report.end(r)
		return &r.report, nil
	}
	played := make(chan played, r.cfg.AtOnce)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		newCollector(r).collect(ctx, played)
	}()
	if r.cfg.Duration > 0 {
		over := time.AfterFunc(r.cfg.Duration, r.Stop)
		defer over.Stop()
	}
	var workers sync.WaitGroup
	for range r.cfg.AtOnce {
		workers.Go(func() { r.work(ctx, played) })
	}
	workers.Wait()
	close(played)
	<-collected
	r.report.end(r)
	return &r.report, nil
}

// A played is a connection that is over at the client.
type played struct {
	plan Plan
	out  Outcome

	unasked bool // the server could not be asked about it
}

// work makes one connection after the other.
func (r *Run) work(ctx context.Context, results chan<- played) {
	for {
		select {
		case <-r.stop.Done():
			return
		case <-ctx.Done():
			return
		default:
		}
		i := r.next.Add(1) - 1
		if r.cfg.Count > 0 && i >= r.cfg.Count {
			return
		}
		p := r.dice.plan(r.cfg.First + i)
		r.active.Add(1)
		o := r.connect(ctx, p)
		r.active.Add(-1)
		r.up.Add(o.Sent)
		r.down.Add(o.Received)
		results <- played{plan: p, out: o}
		r.done.Add(1)
	}
}

// connect is one connection, from the client's side.
func (r *Run) connect(ctx context.Context, p Plan) Outcome {
	c, err := r.dial(ctx)
	if err != nil {
		return Outcome{Fault: Refused, Saw: firstOf(err.Error(), maxText), canceled: ctx.Err() != nil}
	}
	defer context.AfterFunc(ctx, func() { _ = c.Abort() })()
	if r.cfg.OnOpen != nil {
		r.cfg.OnOpen(p, c)
	}
	y := newParty(c, p, Client, r.cfg.Patience)
	if r.cfg.Echo {
		return y.playEcho()
	}
	if err := y.write(p.encode(), "room for the opening"); err != nil {
		return y.over(err)
	}
	return y.play()
}

// The pause when local ports or descriptors run out, which is ours and not the
// path's: so many times, doubling.
const (
	scarceTries = 10
	scarcePause = 20 * time.Millisecond
)

// dial makes a connection, and waits for a local port where all are in use.
func (r *Run) dial(ctx context.Context) (*anysock.Conn, error) {
	for try, pause := 1, scarcePause; ; try, pause = try+1, 2*pause {
		c, err := r.cfg.Dialer.DialAddress(ctx, r.cfg.Address)
		var e *anysock.Error
		if err == nil || try == scarceTries || !errors.Is(err, syscall.EADDRNOTAVAIL) && !(errors.As(err, &e) && e.Kind == anysock.KindLimit) {
			return c, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-r.stop.Done():
			t.Stop()
			return nil, err
		case <-ctx.Done():
			t.Stop()
			return nil, err
		}
	}
}

// begin asks the far end who it is.
func (r *Run) begin(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.stop, cancel)()
	c, err := r.cfg.Dialer.DialAddress(ctx, r.cfg.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Abort() }()
	defer context.AfterFunc(ctx, func() { _ = c.Abort() })()
	r.caps = c.Caps()
	if r.cfg.Echo {
		r.dice.orders, r.report.Untried = echoOrders(r.cfg.Orders, r.caps)
		return greetEcho(c)
	}
	a, err := exchange(c, r.dice.run, ask{}, anysock.DefaultHandshake)
	if err != nil {
		return err
	}
	r.dice.orders, r.report.Untried = tryable(r.cfg.Orders, r.caps, a.Caps)
	r.caps &= a.Caps
	return nil
}
