// This file holds the run: a relay between the two ends of a run of package
// verify, whose records must say of each connection what its ends did.

package losses

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/verify"
	"github.com/anysock/anysock/relay"
)

// A Leg is how one leg of the relayed connections is made.
type Leg struct {
	// Listen is the address to listen on.
	Listen string
	// Dial is the address to dial for a listener at that address; an
	// address with hops leads to it by another way.
	Dial func(ln *anysock.Listener) string
	// Caps is what both ends of the leg can do, which decides on the orders of
	// closing.
	Caps anysock.Caps
	// Hidden says that who accepts does not see the client's own address, as
	// through a proxy.
	Hidden bool
}

// The bounds of one connection, where very many take turns on a busy machine.
const (
	patience = 100 * time.Second
	late     = 50 * time.Millisecond
)

// Run makes total connections, atOnce at a time, from clients on the leg in
// over a relay to servers on the leg out. It fails the test for every byte that
// was lost and every ending that was told wrongly, by an end or by the relay.
func Run(t *testing.T, total, atOnce int, in, out Leg) {
	t.Helper()
	RunOn(t, 0, total, atOnce, in, out)
}

// RunOn is Run with the Relay's Loops.
func RunOn(t *testing.T, loops, total, atOnce int, in, out Leg) {
	t.Helper()
	servers := listen(t, out.Listen)
	far := &verify.Server{Patience: patience}
	var serving sync.WaitGroup
	ctx, stopServers := context.WithCancel(context.Background())
	serving.Go(func() {
		if err := far.Serve(ctx, servers); err != nil {
			t.Errorf("accept: %v", err)
		}
	})

	r := &relay.Relay{Target: anysock.MustParseAddress(out.Dial(servers)), Loops: loops}
	records := make(chan relay.Record, total+2)
	r.OnEnd = func(rec relay.Record) { records <- rec }
	ln := listen(t, in.Listen)
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()

	j := &journal{hidden: in.Hidden, plans: make(map[string][]verify.Plan)}
	run, err := verify.New(verify.Config{
		Address: anysock.MustParseAddress(in.Dial(ln)), Server: far,
		Count: uint64(total), AtOnce: atOnce, Seed: 1, Late: late, Patience: patience,
		Orders: possible(in.Caps & out.Caps),
		OnOpen: func(p verify.Plan, c *anysock.Conn) { j.open(c.LocalAddr().String(), p) },
		OnFinding: func(f verify.Finding) {
			t.Errorf("%v; client %+v, server %+v", f, f.Client, f.Server)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := run.Run(context.Background())
	if err != nil {
		t.Errorf("the run: %v", err)
	}
	drained, err := r.Shutdown(context.Background())
	if err != nil || drained.Cut != 0 {
		t.Errorf("drained: %+v, %v", drained, err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	stopServers()
	serving.Wait()
	far.Shutdown(context.Background())
	if t.Failed() {
		logUnwanted(t, records)
		return
	}
	if report.Connections != int64(total) || report.Losses()+report.Errors() != 0 || len(report.Downgrades) > 0 {
		t.Errorf("the report: %+v", report)
	}
	all := total + 1 // the run's first connection asks what the server is
	if st := r.Stats(); st.Accepted != int64(all) || st.Active != 0 || st.Refused != 0 {
		t.Errorf("stats: %+v", st)
	}
	if n := len(records); n != all {
		t.Fatalf("%d records of %d connections", n, all)
	}
	for range all {
		j.match(t, <-records)
	}
	j.closed(t)
	t.Logf("%d connections, %d at a time, %d MB in %.3f s: %.0f a second", total, atOnce, (report.Up+report.Down)>>20, report.Seconds, float64(total)/report.Seconds)
}

func listen(t *testing.T, address string) *anysock.Listener {
	t.Helper()
	lc := anysock.ListenConfig{Options: anysock.Options{DrainTimeout: patience}}
	ln, err := lc.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// possible are the orders whose endings the legs can express.
func possible(both anysock.Caps) []verify.Order {
	return slices.DeleteFunc(verify.Orders(), func(o verify.Order) bool {
		return o.Aborts() && !both.Has(anysock.CapAbort)
	})
}

// maxLogged bounds the records that are shown.
const maxLogged = 10

// logUnwanted shows how the relay saw some of the connections that went wrong.
func logUnwanted(t *testing.T, records <-chan relay.Record) {
	t.Helper()
	for logged := 0; logged < maxLogged && len(records) > 0; {
		if rec := <-records; rec.How != anysock.Graceful && rec.How != anysock.AbortedByPeer {
			t.Logf("the relay: %v", rec)
			logged++
		}
	}
}

// A journal is the plans of the connections that were made.
type journal struct {
	hidden bool

	mu    sync.Mutex
	plans map[string][]verify.Plan // by the client's address, which several may have had
	other int                      // records of connections without a plan
}

// name is what a client is known by on both sides.
func (j *journal) name(addr string) string {
	if j.hidden {
		return ""
	}
	return addr
}

func (j *journal) open(client string, p verify.Plan) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.plans[j.name(client)] = append(j.plans[j.name(client)], p)
}

// match finds the plan that a record may be about, and takes it out.
func (j *journal) match(t *testing.T, rec relay.Record) {
	name := j.name(rec.Inbound.Peer)
	// Those that may be either come last: their records would fit others too.
	i := slices.IndexFunc(j.plans[name], func(p verify.Plan) bool { return p.Order != verify.BothEnd && wanted(p.Order, rec) })
	if i < 0 {
		i = slices.IndexFunc(j.plans[name], func(p verify.Plan) bool { return wanted(p.Order, rec) })
	}
	switch {
	case i >= 0:
		j.plans[name] = slices.Delete(j.plans[name], i, i+1)
	case rec.How == anysock.Graceful && j.other == 0:
		j.other++
	default:
		t.Errorf("the plans %v, but %v", j.plans[name], rec)
		return
	}
	if rec.How == anysock.Graceful && (rec.ToOutbound.Bytes != rec.Inbound.Received || rec.ToInbound.Bytes != rec.Outbound.Received) {
		t.Errorf("bytes were lost: %v", rec)
	}
}

// closed requires that every plan had its record.
func (j *journal) closed(t *testing.T) {
	for name, ps := range j.plans {
		for _, p := range ps {
			t.Errorf("no record of %v from %s", p, name)
		}
	}
}

// wanted is whether the relay must have seen a connection of that order so.
func wanted(o verify.Order, rec relay.Record) bool {
	switch o {
	case verify.BothEnd:
		return rec.How == anysock.Graceful
	case verify.ClientHalfCloses, verify.ClientCloses:
		return rec.How == anysock.Graceful && rec.By == relay.Inbound
	case verify.ServerHalfCloses, verify.ServerCloses:
		return rec.How == anysock.Graceful && rec.By == relay.Outbound
	case verify.ClientAbortsSending, verify.ClientAbortsReceiving:
		return rec.How == anysock.AbortedByPeer && rec.By == relay.Inbound
	default:
		return rec.How == anysock.AbortedByPeer && rec.By == relay.Outbound
	}
}
