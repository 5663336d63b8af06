package loop_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// A side is the accepted end of a connection for code that blocks.
type side interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	CloseWrite() error
	Abort() error
	Close() error
}

// A stage is a server whose connections all play one script.
type stage struct {
	t       *testing.T
	ctx     context.Context
	network string
	addr    string
	ends    chan anysock.End // in the order in which they were told
	played  chan error       // what the script returned
}

// stages are the servers that have to behave alike.
var stages = map[string]func(st *stage, lc *anysock.ListenConfig, script func(side) error){
	"conn":      (*stage).serveConns,
	"callbacks": (*stage).serveCallbacks,
	"coroutine": (*stage).serveCoroutines,
}

// onStages runs a test on each of them, on each network.
func onStages(t *testing.T, opts anysock.Options, script func(st *stage, s side) error, test func(st *stage)) {
	t.Helper()
	onNetworks(t, networks, opts, script, test)
}

// onTCP is onStages without unix, which has no reset and no acknowledgement.
func onTCP(t *testing.T, opts anysock.Options, script func(st *stage, s side) error, test func(st *stage)) {
	t.Helper()
	onNetworks(t, networks[:2], opts, script, test)
}

func onNetworks(t *testing.T, networks []string, opts anysock.Options, script func(st *stage, s side) error, test func(st *stage)) {
	for _, network := range networks {
		for kind, serve := range stages {
			t.Run(network+"/"+kind, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
				t.Cleanup(cancel)
				st := &stage{t: t, ctx: ctx, network: network, ends: make(chan anysock.End, 100), played: make(chan error, 100)}
				serve(st, &anysock.ListenConfig{Options: opts}, func(s side) error { return script(st, s) })
				test(st)
			})
		}
	}
}

// tcp reports whether the connections have resets and acknowledgements.
func (st *stage) tcp() bool { return st.network != "unix" }

func (st *stage) at(addr net.Addr, asked string) {
	st.addr = asked
	if a, ok := addr.(*net.TCPAddr); ok {
		st.addr = "tcp://" + a.String()
	}
}

// serveConns has a goroutine for each connection.
func (st *stage) serveConns(lc *anysock.ListenConfig, script func(side) error) {
	addr := address(st.t, st.network)
	ln, err := lc.Listen(st.ctx, addr)
	if err != nil {
		st.t.Fatal(err)
	}
	st.at(ln.Addr(), addr)
	var all sync.WaitGroup
	all.Go(func() {
		for c, err := range ln.Conns(st.ctx) {
			if err != nil {
				st.t.Errorf("accepting: %v", err)
				return
			}
			all.Go(func() {
				st.played <- script(c)
				select {
				case <-c.Done():
				case <-st.ctx.Done():
					_ = c.Abort()
				}
				st.ends <- c.End()
			})
		}
	})
	st.t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
		st.noMore()
	})
}

// noMore looks that no ending was told that nobody expected.
func (st *stage) noMore() {
	if n := len(st.ends); n > 0 {
		st.t.Errorf("%d endings more: %v", n, <-st.ends)
	}
}

// serveLoops runs a Server.
func (st *stage) serveLoops(lc *anysock.ListenConfig, srv *loop.Server) {
	told := srv.Handler.Ended
	srv.Handler.Ended = func(c *loop.Conn, end anysock.End) {
		if told != nil {
			told(c, end)
		}
		st.ends <- end
	}
	addr := address(st.t, st.network)
	a, err := anysock.ParseAddress(addr)
	if err != nil {
		st.t.Fatal(err)
	}
	lns, err := lc.ListenEach(st.ctx, a, srv.Loops)
	if err != nil {
		st.t.Fatal(err)
	}
	st.at(lns[0].Addr(), addr)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(context.Background(), lns...); err != nil {
			st.t.Errorf("Serve: %v", err)
		}
	})
	st.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if d, err := srv.Shutdown(ctx); err != nil {
			st.t.Errorf("Shutdown: %+v, %v", d, err)
		}
		serving.Wait()
		st.noMore()
	})
}

func (st *stage) serveCallbacks(lc *anysock.ListenConfig, script func(side) error) {
	var players sync.WaitGroup
	st.t.Cleanup(players.Wait)
	st.serveLoops(lc, &loop.Server{Loops: 2, Handler: blockingHandler(func(b *blocking) {
		players.Go(func() { st.played <- script(b) })
	})})
}

// A pausing is a Stream as a side: what it lacks is in its Conn.
type pausing struct{ *loop.Stream }

func (p pausing) Close() error {
	p.Conn().Close()
	return nil
}

func (st *stage) serveCoroutines(lc *anysock.ListenConfig, script func(side) error) {
	st.serveLoops(lc, &loop.Server{Loops: 2, Handler: loop.Handler{Serve: func(s *loop.Stream) error {
		st.played <- script(pausing{s})
		return nil
	}}})
}

func (st *stage) dial(opts anysock.Options) *anysock.Conn {
	st.t.Helper()
	d := anysock.Dialer{Options: opts}
	c, err := d.Dial(st.ctx, st.addr)
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = c.Abort() })
	return c
}

// over waits until the script is through, and for the ending.
func (st *stage) over() (anysock.End, error) {
	st.t.Helper()
	var played error
	select {
	case played = <-st.played:
	case <-st.ctx.Done():
		st.t.Fatal("the script is not through")
	}
	select {
	case e := <-st.ends:
		return e, played
	case <-st.ctx.Done():
		st.t.Fatal("no ending was told")
	}
	panic("unreachable")
}

// An ending is what two Ends have to agree in; negative is not looked at.
type ending struct {
	how            anysock.How
	by             anysock.Side
	sent, received int64
}

func (st *stage) want(e anysock.End, want ending) {
	st.t.Helper()
	if e.How != want.how || e.By != want.by || want.sent >= 0 && e.Sent != want.sent || want.received >= 0 && e.Received != want.received {
		st.t.Errorf("the ending is %q (by %v), want %v by %v, %d sent, %d received", e, e.By, want.how, want.by, want.sent, want.received)
	}
	acked := anysock.AckedNone
	if want.how.Complete() && st.tcp() && acksKnown(st.t) {
		acked = anysock.AckedKernel
	}
	if e.AckedBy != acked {
		st.t.Errorf("acknowledged by %v, want %v: %q", e.AckedBy, acked, e)
	}
	if want.how.Complete() && (e.Unacked != 0 || e.Err != nil) {
		st.t.Errorf("%d bytes unacknowledged, error %v: %q", e.Unacked, e.Err, e)
	}
	if !want.how.Complete() && e.Err == nil {
		st.t.Errorf("no error: %q", e)
	}
	if e.Opened.IsZero() || e.Ended.Before(e.Opened) || e.Received > 0 && e.FirstReceived.IsZero() {
		st.t.Errorf("opened %v, first received %v, ended %v: %q", e.Opened, e.FirstReceived, e.Ended, e)
	}
	if want.how == anysock.Graceful && (e.ReadEnded.IsZero() || e.WriteEnded.IsZero()) {
		st.t.Errorf("their end came at %v, ours went out at %v: %q", e.ReadEnded, e.WriteEnded, e)
	}
	if e.Local == nil || e.Peer == nil {
		st.t.Errorf("from %v to %v: %q", e.Local, e.Peer, e)
	}
}

// acksKnown reports whether the platform tells what was acknowledged.
func acksKnown(t *testing.T) bool {
	t.Helper()
	a, err := anysock.ParseAddress("tcp://localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	caps, err := anysock.AddressCaps(a)
	if err != nil {
		t.Fatal(err)
	}
	return caps.Has(anysock.CapCloseAck)
}

// kindOf is the Kind of an error, KindOther if it has none.
func kindOf(err error) anysock.Kind {
	var e *anysock.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return anysock.KindOther
}

// pattern is n bytes that do not repeat at any power of two.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>8*7 ^ i>>16*13)
	}
	return p
}
