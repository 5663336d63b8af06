// This file holds the run: very many connections through a relay, a number at a
// time, and what they lost.

package losses

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
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

// Run makes total connections, atOnce at a time, from clients on the leg in
// over a relay to servers on the leg out. It fails the test for every byte that
// was lost and every ending that was told wrongly, by an end or by the relay.
func Run(t *testing.T, total, atOnce int, in, out Leg) {
	t.Helper()
	servers := listen(t, out.Listen)
	stopServers := serveAll(t, servers)

	r := &relay.Relay{Target: anysock.MustParseAddress(out.Dial(servers))}
	records := make(chan relay.Record, total+1)
	r.OnEnd = func(rec relay.Record) { records <- rec }
	ln := listen(t, in.Listen)
	served := make(chan error, 1)
	go func() { served <- r.Serve(context.Background(), ln) }()

	p := &party{t: t, total: total, address: in.Dial(ln), hidden: in.Hidden, orders: possible(in.Caps, out.Caps), jobs: make(map[string][]job)}
	start := time.Now()
	p.run(atOnce)
	drained, err := r.Shutdown(context.Background())
	if err != nil || drained.Cut != 0 {
		t.Errorf("drained: %+v, %v", drained, err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	took := time.Since(start)
	stopServers()
	if t.Failed() {
		logUnwanted(t, records)
		return
	}
	if st := r.Stats(); st.Accepted != int64(total) || st.Active != 0 || st.Refused != 0 {
		t.Errorf("stats: %+v", st)
	}
	if n := len(records); n != total {
		t.Fatalf("%d records of %d connections", n, total)
	}
	for range total {
		p.match(<-records)
	}
	t.Logf("%d connections, %d at a time, %d MB in %v: %.0f a second", total, atOnce, p.moved.Load()>>20, took.Round(time.Millisecond), float64(total)/took.Seconds())
}

func listen(t *testing.T, address string) *anysock.Listener {
	t.Helper()
	ln, err := anysock.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
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

// serveAll plays the servers' part until stop, which waits for all of them.
func serveAll(t *testing.T, ln *anysock.Listener) (stop func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := range ln.Conns(context.Background()) {
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			wg.Go(func() {
				defer release(c)
				if err := serve(c); err != nil {
					t.Errorf("server: %v", err)
				}
			})
		}
	})
	return func() {
		ln.Close()
		wg.Wait()
	}
}

// release lets go of a connection, whatever has become of it.
func release(c *anysock.Conn) { _ = c.Abort() }

// A party is the clients.
type party struct {
	t       *testing.T
	total   int
	address string
	hidden  bool
	orders  []order
	next    atomic.Int64
	moved   atomic.Int64

	mu   sync.Mutex
	jobs map[string][]job // by the client's address, which several may have had
}

// run makes the connections and waits for all.
func (p *party) run(atOnce int) {
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for {
				i := int(p.next.Add(1)) - 1
				if i >= p.total || p.t.Failed() {
					return
				}
				p.connect(i)
			}
		})
	}
	clients.Wait()
}

// connect is one connection.
func (p *party) connect(i int) {
	j := newJob(i, p.orders)
	c, err := anysock.Dial(context.Background(), p.address)
	if err != nil {
		p.t.Errorf("job %d: %v", i, err)
		return
	}
	defer release(c)
	name := p.name(c.LocalAddr().String())
	p.mu.Lock()
	p.jobs[name] = append(p.jobs[name], j)
	p.mu.Unlock()
	if err := j.client(c); err != nil {
		p.t.Errorf("job %d %+v: client %v: %v", i, j, c.LocalAddr(), err)
	}
	p.moved.Add(c.Sent() + c.Received())
}

// name is what a client is known by on both sides.
func (p *party) name(addr string) string {
	if p.hidden {
		return ""
	}
	return addr
}

// match finds the job that a record may be about, and takes it out.
func (p *party) match(rec relay.Record) {
	name := p.name(rec.Inbound.Peer)
	i := slices.IndexFunc(p.jobs[name], func(j job) bool {
		how, by := j.want()
		return how == rec.How && by == rec.By
	})
	if i < 0 {
		p.t.Errorf("the jobs %+v, but %v", p.jobs[name], rec)
		return
	}
	p.jobs[name] = slices.Delete(p.jobs[name], i, i+1)
	if rec.How == anysock.Graceful && (rec.ToOutbound.Bytes != rec.Inbound.Received || rec.ToInbound.Bytes != rec.Outbound.Received) {
		p.t.Errorf("bytes were lost: %v", rec)
	}
}
