package verify

// This file brings together what the two ends of each connection saw.

import (
	"context"
	"slices"
	"time"
)

const (
	// askBatch bounds the connections of one ask.
	askBatch = 256
	// askEvery is how long connections wait to be asked for together.
	askEvery = 200 * time.Millisecond
	// askTries is how often an ask is tried over a path that breaks.
	askTries = 5
	// settleTime is how long the server may take to hear of a connection that
	// the client has given up.
	settleTime = 500 * time.Millisecond
	// maxAside bounds the connections that are set aside to be looked for once
	// more at the end.
	maxAside = 1 << 14
)

// A collector judges connections once both ends are known.
type collector struct {
	r       *Run
	waiting []played // to be asked for
	aside   []played // given up by the client, and not known to the server
}

func newCollector(r *Run) *collector { return &collector{r: r} }

// collect judges what comes until there is no more, and then waits for the
// server's last words. When ctx is done it waits no more.
func (k *collector) collect(ctx context.Context, results <-chan played) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for results != nil {
		select {
		case p, ok := <-results:
			if !ok {
				results = nil
				continue
			}
			k.take(p)
			if len(k.waiting) >= askBatch {
				k.ask(ctx, 0)
			}
		case <-tick.C:
			k.ask(ctx, 0)
		}
	}
	// Every connection at the server has its bounds.
	limit := time.Now().Add(limitFactor*k.r.cfg.Patience + settleTime)
	for len(k.waiting) > 0 && ctx.Err() == nil && time.Now().Before(limit) {
		k.ask(ctx, time.Second)
		if len(k.waiting) > 0 {
			wait(ctx, askEvery/4)
		}
	}
	if len(k.aside) > 0 {
		wait(ctx, settleTime)
		k.waiting, k.aside = append(k.waiting, k.aside...), nil
		k.ask(ctx, 0)
	}
	if ctx.Err() != nil {
		if k.r.cfg.Server != nil {
			k.ask(context.WithoutCancel(ctx), 0) // which takes no time
		}
		k.r.report.Cut += int64(len(k.waiting) + len(k.aside))
		return
	}
	for _, p := range k.waiting {
		k.judge(p, nil, true)
	}
	for _, p := range k.aside {
		k.judge(p, nil, false)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// take notes a connection that is over at the client.
func (k *collector) take(p played) {
	switch {
	case p.out.canceled:
		k.r.report.Cut++
	case k.r.cfg.Echo, p.out.Fault == Refused:
		k.judge(p, nil, false)
	default:
		k.waiting = append(k.waiting, p)
	}
}

// ask asks for all that wait, and keeps those that are not over.
func (k *collector) ask(ctx context.Context, patience time.Duration) {
	waiting := k.waiting
	k.waiting = nil
	for part := range slices.Chunk(waiting, askBatch) {
		numbers := make([]uint64, len(part))
		for i, p := range part {
			numbers[i] = p.plan.Number
		}
		rs, err := k.outcomes(ctx, numbers, patience)
		for i, p := range part {
			switch {
			case err != nil && ctx.Err() != nil:
				k.waiting = append(k.waiting, p)
			case err != nil:
				p.out = worse(p.out, Outcome{Fault: Unknown, Saw: "could not ask the server: " + firstOf(err.Error(), maxText)})
				p.unasked = true
				k.judge(p, nil, false)
			case rs[i].State == running:
				k.waiting = append(k.waiting, p)
			case rs[i].State == over:
				k.judge(p, rs[i].Outcome, false)
			case p.needsServer():
				k.judge(p, nil, false)
			case len(k.aside) < maxAside:
				k.aside = append(k.aside, p)
			default:
				k.judge(k.aside[0], nil, false)
				k.aside = append(k.aside[1:], p)
			}
		}
	}
}

// needsServer: the client has heard from the server, so that this knows of it.
func (p played) needsServer() bool {
	return p.out.Fault == None && (p.out.Ended != "" || p.out.Finished || p.plan.Greet)
}

// worse is the outcome with the higher fault.
func worse(a, b Outcome) Outcome {
	if b.Fault > a.Fault {
		return b
	}
	return a
}

// outcomes asks the server, over the path if it is elsewhere.
func (k *collector) outcomes(ctx context.Context, numbers []uint64, patience time.Duration) (rs []reported, err error) {
	r := k.r
	if s := r.cfg.Server; s != nil {
		return s.ledger.await(ctx, r.dice.run, numbers, patience), nil
	}
	q := ask{Numbers: numbers, WaitMS: int(patience.Milliseconds())}
	for try := range askTries {
		if try > 0 {
			wait(ctx, askEvery)
		}
		if rs, err = k.askOnce(ctx, q); err == nil || ctx.Err() != nil {
			break
		}
	}
	return rs, err
}

func (k *collector) askOnce(ctx context.Context, q ask) ([]reported, error) {
	c, err := k.r.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Abort() }()
	defer context.AfterFunc(ctx, func() { _ = c.Abort() })()
	a, err := exchange(c, k.r.dice.run, q, k.r.cfg.Patience+maxAskWait)
	if err == nil && len(a.Outcomes) != len(q.Numbers) {
		err = &PeerError{What: "the server answers for another number of connections"}
	}
	for _, rep := range a.Outcomes {
		if rep.State == over && rep.Outcome == nil {
			err = &PeerError{What: "the server answers without an outcome"}
		}
	}
	return a.Outcomes, err
}

// judge settles one connection. stuck says that the server's end is not over.
func (k *collector) judge(p played, server *Outcome, stuck bool) {
	if server != nil && server.canceled {
		k.r.report.Cut++
		return
	}
	if stuck {
		p.out = worse(p.out, Outcome{Fault: Hang, Saw: "is done, and the server is not"})
	}
	v := judge(p.plan, k.r.caps, p.out, server, k.r.cfg.Echo)
	if v.finding != nil {
		v.finding.unasked = p.unasked
	}
	k.r.report.count(p, v)
	if v.finding == nil {
		return
	}
	k.r.faulty.Add(1)
	if k.r.cfg.OnFinding != nil {
		k.r.cfg.OnFinding(*v.finding)
	}
}
