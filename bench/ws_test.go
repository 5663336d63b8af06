package bench

// This file compares WebSockets through Conn with the library underneath used
// bare: the throughput of 64 KiB messages, and what an idle connection costs.
// Both ends are of the same kind and in this process.

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/ws"
)

var (
	wsMegabytes = flag.Int("wsmegabytes", 64, "how much BenchmarkWebSocket moves for each side in a slice, in 1e6 bytes")
	wsCPU       = flag.Bool("wscpu", false, "BenchmarkWebSocket compares processor time, which a busy machine disturbs less than the clock")
	wsIdle      = flag.Int("wsidle", 2000, "how many idle connections BenchmarkWebSocketIdle makes")
)

// wsMessage is the size of a message.
const wsMessage = 64 << 10

// A wsPair is two connected ends.
type wsPair struct {
	client, server wsEnd
	close          func()
}

// A wsEnd sends and receives messages, or bytes.
type wsEnd interface {
	send(p []byte) error
	receive(p []byte) (int, error) // at least one byte
}

// A bareEnd is the library's connection.
type bareEnd struct {
	*websocket.Conn
	message io.Reader
}

func (e *bareEnd) send(p []byte) error {
	return e.Write(context.Background(), websocket.MessageBinary, p)
}

func (e *bareEnd) receive(p []byte) (int, error) {
	for {
		if e.message == nil {
			_, m, err := e.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			e.message = m
		}
		n, err := e.message.Read(p)
		if err != nil { // the end of the message
			e.message = nil
		}
		if n > 0 {
			return n, nil
		}
	}
}

// A connEnd is ours.
type connEnd struct{ *anysock.Conn }

func (e connEnd) send(p []byte) error {
	_, err := e.Write(p)
	return err
}

func (e connEnd) receive(p []byte) (int, error) { return e.Read(p) }

// bareWebSockets makes pairs of the library's, by its own server and dial.
func bareWebSockets(tb testing.TB) (pair func() wsPair, stop func()) {
	tb.Helper()
	ln, err := listenConfig().Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	accepted := make(chan *websocket.Conn)
	var handlers sync.WaitGroup
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(-1)
		accepted <- c // and the handler is over, so that it costs nothing
	})}
	handlers.Go(func() { _ = server.Serve(ln) })
	pair = func() wsPair {
		c, _, err := websocket.Dial(context.Background(), "ws://"+ln.Addr().String(), nil)
		if err != nil {
			tb.Fatal(err)
		}
		c.SetReadLimit(-1)
		s := <-accepted
		return wsPair{&bareEnd{Conn: c}, &bareEnd{Conn: s}, func() { _, _ = c.CloseNow(), s.CloseNow() }}
	}
	return pair, func() {
		_ = server.Close()
		handlers.Wait()
	}
}

// connWebSockets makes pairs of ours, with every option at its default.
func connWebSockets(tb testing.TB) (pair func() wsPair, stop func()) {
	tb.Helper()
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "ws://127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	pair = func() wsPair {
		c, err := anysock.Dial(ctx, "ws://"+ln.Addr().String())
		if err != nil {
			tb.Fatal(err)
		}
		s, err := ln.AcceptContext(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		return wsPair{connEnd{c}, connEnd{s}, func() { _, _ = c.Abort(), s.Abort() }}
	}
	return pair, func() { _ = ln.Close() }
}

// A wsSlot moves bytes from one end to the other.
type wsSlot struct {
	from, to wsEnd
	close    func()
}

func (s wsSlot) stop() { s.close() }

// slice is the time for -wsmegabytes, in gigabytes of work.
func (s wsSlot) slice(tb testing.TB) sample {
	tb.Helper()
	total := *wsMegabytes * 1e6
	read := make(chan error, 1)
	began, before := time.Now(), used(tb)
	go func() {
		buf := make([]byte, wsMessage)
		for left := total; left > 0; {
			n, err := s.to.receive(buf)
			if err != nil {
				read <- err
				return
			}
			left -= n
		}
		read <- nil
	}()
	buf := make([]byte, wsMessage)
	for left := total; left > 0; left -= wsMessage {
		if err := s.from.send(buf[:min(left, wsMessage)]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := <-read; err != nil {
		tb.Fatal(err)
	}
	spent := time.Since(began)
	if *wsCPU {
		spent = used(tb) - before
	}
	return sample{cpu: spent, work: float64(total) / 1e9}
}

// used is this process's processor time.
func used(tb testing.TB) time.Duration {
	tb.Helper()
	d, err := processTime()
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// wsSide is one kind, sending up (from the client, whose frames are masked) or
// down.
func wsSide(name string, kind func(testing.TB) (func() wsPair, func()), up bool) side {
	return side{name, func(tb testing.TB) slot {
		tb.Helper()
		pair, stop := kind(tb)
		p := pair()
		s := wsSlot{p.server, p.client, func() { p.close(); stop() }}
		if up {
			s.from, s.to = s.to, s.from
		}
		s.slice(tb)
		return s
	}}
}

// BenchmarkWebSocket is for -benchtime 1x: it decides itself how much to do.
func BenchmarkWebSocket(b *testing.B) {
	unit, methods := "s per GB, by the clock", "Here CPU is the time by the clock. "
	if *wsCPU {
		unit, methods = "s per GB", ""
	}
	for name, up := range map[string]bool{"up": true, "down": false} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				bare := wsSide("coder/websocket", bareWebSockets, up)
				subject := &comparison{base: bare, subject: wsSide("Conn", connWebSockets, up)}
				noise := &comparison{base: bare, subject: bare}
				comparePairs(b, subject, noise)
				report{
					title: "One WebSocket, 64 KiB messages " + name + ", both ends in one process", unit: unit, scale: 1, target: 1.10,
					methods: methods + "Up is from the client, whose frames are masked.",
				}.publish(b, subject, noise)
			}
		})
	}
}

// BenchmarkWebSocketIdle is what a pair of idle ends costs, in bytes of heap
// and stacks: the library's with one goroutine on each that is blocked in a
// read, ours without one (it reads by itself) and with one.
func BenchmarkWebSocketIdle(b *testing.B) {
	for b.Loop() {
		// A run before, for the stacks that the runtime keeps: without it the
		// first has to pay for them.
		_ = idleCost(b, bareWebSockets, true)
		bare := idleCost(b, bareWebSockets, true)
		ours := idleCost(b, connWebSockets, false)
		reading := idleCost(b, connWebSockets, true)
		fmt.Printf("\nidle pair of WebSocket ends: coder/websocket with readers %.0f bytes, Conn %.0f (%.2f), Conn with readers %.0f (%.2f)\n",
			bare, ours, ours/bare, reading, reading/bare)
		b.ReportMetric(ours/bare, "ratio")
		b.ReportMetric(reading/bare, "ratio-reading")
		b.ReportMetric(0, "ns/op")
	}
}

func idleCost(tb testing.TB, kind func(testing.TB) (func() wsPair, func()), reading bool) float64 {
	tb.Helper()
	pair, stop := kind(tb)
	defer stop()
	pair().close() // what is made once
	before := memoryInUse()
	pairs := make([]wsPair, *wsIdle)
	var readers sync.WaitGroup
	for i := range pairs {
		pairs[i] = pair()
		if reading {
			for _, end := range []wsEnd{pairs[i].client, pairs[i].server} {
				readers.Go(func() { _, _ = end.receive(make([]byte, 1)) })
			}
		}
	}
	used := memoryInUse() - before
	for _, p := range pairs {
		p.close()
	}
	readers.Wait()
	return float64(used) / float64(len(pairs))
}

// memoryInUse is heap and stacks, after what is garbage was collected; twice,
// for what finalizers and pools keep.
func memoryInUse() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

var _ net.Conn = connEnd{}
