package bench

// This file compares lc over a carrier with that carrier alone: the throughput
// of 64 KiB writes, and what an idle connection costs. Both ends are Conns in
// this process.

import (
	"context"
	"flag"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	_ "github.com/anysock/anysock/lifecycle"
	_ "github.com/anysock/anysock/transport/tls"
)

var (
	lcMegabytes = flag.Int("lcmegabytes", 64, "how much BenchmarkLC moves for each side in a slice, in 1e6 bytes")
	lcCPU       = flag.Bool("lccpu", false, "BenchmarkLC compares processor time, which a busy machine disturbs less than the clock")
	lcIdle      = flag.Int("lcidle", 1000, "how many idle connections BenchmarkLCIdle makes")
)

// lcWrite is how much is written at once.
const lcWrite = 64 << 10

// lcPairs makes pairs of Conns at an address with options for each side.
func lcPairs(tb testing.TB, scheme, serving, trusting string) (pair func() (from, to *anysock.Conn), stop func()) {
	tb.Helper()
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, scheme+"://127.0.0.1:0"+serving)
	if err != nil {
		tb.Fatal(err)
	}
	return func() (from, to *anysock.Conn) {
		from, err := anysock.Dial(ctx, scheme+"://"+ln.Addr().String()+trusting)
		if err != nil {
			tb.Fatal(err)
		}
		if to, err = ln.AcceptContext(ctx); err != nil {
			tb.Fatal(err)
		}
		return from, to
	}, func() { _ = ln.Close() }
}

// An lcSlot moves bytes from one end to the other.
type lcSlot struct {
	from, to *anysock.Conn
	close    func()
}

func (s lcSlot) stop() { s.close() }

// slice is the time for -lcmegabytes, in gigabytes of work.
func (s lcSlot) slice(tb testing.TB) sample {
	tb.Helper()
	total := *lcMegabytes * 1e6
	began, used := time.Now(), lcUsed(tb)
	pour(tb, s.from, s.to, total, lcWrite)
	spent := time.Since(began)
	if *lcCPU {
		spent = lcUsed(tb) - used
	}
	return sample{cpu: spent, work: float64(total) / 1e9}
}

func lcUsed(tb testing.TB) time.Duration {
	tb.Helper()
	t, err := processTime()
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func lcSide(scheme, serving, trusting string) side {
	return side{scheme, func(tb testing.TB) slot {
		tb.Helper()
		pair, stop := lcPairs(tb, scheme, serving, trusting)
		from, to := pair()
		slot := lcSlot{from, to, func() {
			_ = from.Abort()
			_ = to.Abort()
			stop()
		}}
		slot.slice(tb)
		return slot
	}}
}

// BenchmarkLC is for -benchtime 1x: it decides itself how much to do.
func BenchmarkLC(b *testing.B) {
	ca := testcert.New(b)
	cert := ca.Server(b)
	unit, methods := "s per GB, by the clock", "Here CPU is the time by the clock. "
	if *lcCPU {
		unit, methods = "s per GB", ""
	}
	for _, c := range []struct{ bare, serving, trusting string }{
		{"tcp", "", ""},
		{"tls", "?cert=file:" + cert.CertFile + "&key=file:" + cert.KeyFile, "?ca=file:" + ca.File},
	} {
		b.Run(c.bare, func(b *testing.B) {
			for b.Loop() {
				bare := lcSide(c.bare, c.serving, c.trusting)
				subject := &comparison{base: bare, subject: lcSide("lc+"+c.bare, c.serving, c.trusting)}
				noise := &comparison{base: bare, subject: bare}
				comparePairs(b, subject, noise)
				report{
					title: "One connection over " + c.bare + " with lc and without, 64 KiB writes, both ends in one process", unit: unit, scale: 1, target: 1.15,
					methods: methods,
				}.publish(b, subject, noise)
			}
		})
	}
}

// BenchmarkLCIdle is what a pair of idle ends over tcp costs, in bytes of heap
// and stacks, with a goroutine on each that is blocked in Read after it has
// read once.
func BenchmarkLCIdle(b *testing.B) {
	for b.Loop() {
		for _, scheme := range []string{"tcp", "lc+tcp"} { // a run before, for what is made once
			_ = lcIdleCost(b, scheme, 10)
		}
		base, ours := lcIdleCost(b, "tcp", *lcIdle), lcIdleCost(b, "lc+tcp", *lcIdle)
		fmt.Printf("\nidle pair of ends with a reader each: tcp %.0f bytes, lc+tcp %.0f (%.2f)\n", base, ours, ours/base)
		b.ReportMetric(base, "B/tcp-pair")
		b.ReportMetric(ours, "B/lc-pair")
		b.ReportMetric(0, "ns/op")
	}
}

func lcIdleCost(tb testing.TB, scheme string, n int) float64 {
	tb.Helper()
	pair, stop := lcPairs(tb, scheme, "", "")
	defer stop()
	before := memoryInUse()
	ends := make([]*anysock.Conn, 0, 2*n)
	var readers, once sync.WaitGroup
	for range n {
		from, to := pair()
		ends = append(ends, from, to)
		once.Add(2)
		for _, end := range []*anysock.Conn{from, to} {
			readers.Go(func() {
				p := make([]byte, 1)
				_, err := io.ReadFull(end, p)
				once.Done()
				if err == nil {
					_, _ = end.Read(p)
				}
			})
		}
	}
	for _, end := range ends {
		if _, err := end.Write([]byte{1}); err != nil {
			tb.Fatal(err)
		}
	}
	once.Wait()
	used := memoryInUse() - before
	for _, end := range ends {
		_ = end.Abort()
	}
	readers.Wait()
	return float64(used) / float64(n)
}
