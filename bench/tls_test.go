package bench

// This file compares TLS through Conn with crypto/tls used bare: the throughput
// of 64 KiB writes, and what an idle connection costs. Both ends are of the
// same kind and in this process.

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	_ "github.com/anysock/anysock/transport/tls"
)

var (
	tlsMegabytes = flag.Int("tlsmegabytes", 64, "how much BenchmarkTLS moves for each side in a slice, in 1e6 bytes")
	tlsIdle      = flag.Int("tlsidle", 2000, "how many idle connections BenchmarkTLSIdle makes")
)

// tlsWrite is how much is written at once.
const tlsWrite = 64 << 10

// A tlsMaker makes connected pairs until stop.
type tlsMaker struct {
	pair func() (client, server net.Conn)
	end  func(net.Conn)
	stop func()
}

// A tlsKind is one of the two things to compare.
type tlsKind struct {
	name string
	make func(tb testing.TB) tlsMaker
}

// tlsKinds are crypto/tls over package net, and Conn, with every option at its
// default.
func tlsKinds(tb testing.TB) (bare, conn tlsKind) {
	tb.Helper()
	ca := testcert.New(tb)
	cert := ca.Server(tb)
	ctx := context.Background()
	bare = tlsKind{"crypto/tls", func(tb testing.TB) tlsMaker {
		tb.Helper()
		ln, err := listenConfig().Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		server := &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
		client := &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
		return tlsMaker{func() (net.Conn, net.Conn) {
			shaken := make(chan error, 1)
			accepted := make(chan *tls.Conn, 1)
			go func() {
				nc, err := ln.Accept()
				if err != nil {
					shaken <- err
					return
				}
				s := tls.Server(nc, server)
				accepted <- s
				shaken <- s.HandshakeContext(ctx)
			}()
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
			if err != nil {
				tb.Fatal(err)
			}
			c := tls.Client(nc, client)
			if err := c.HandshakeContext(ctx); err != nil {
				tb.Fatal(err)
			}
			if err := <-shaken; err != nil {
				tb.Fatal(err)
			}
			return c, <-accepted
		}, func(c net.Conn) { _ = c.Close() }, func() { _ = ln.Close() }}
	}}
	conn = tlsKind{"Conn", func(tb testing.TB) tlsMaker {
		tb.Helper()
		ln, err := anysock.Listen(ctx, "tls://127.0.0.1:0?cert=file:"+cert.CertFile+"&key=file:"+cert.KeyFile)
		if err != nil {
			tb.Fatal(err)
		}
		address, err := anysock.ParseAddress("tls://" + ln.Addr().String() + "?ca=file:" + ca.File)
		if err != nil {
			tb.Fatal(err)
		}
		return tlsMaker{func() (net.Conn, net.Conn) {
			c, err := new(anysock.Dialer).DialAddress(ctx, address)
			if err != nil {
				tb.Fatal(err)
			}
			s, err := ln.AcceptContext(ctx)
			if err != nil {
				tb.Fatal(err)
			}
			return c, s
		}, func(c net.Conn) { _ = c.(*anysock.Conn).Abort() }, func() { _ = ln.Close() }}
	}}
	return bare, conn
}

// A tlsSlot moves bytes from one end to the other.
type tlsSlot struct {
	from, to net.Conn
	close    func()
}

func (s tlsSlot) stop() { s.close() }

// slice is the time for -tlsmegabytes, in gigabytes of work.
func (s tlsSlot) slice(tb testing.TB) sample {
	tb.Helper()
	total := *tlsMegabytes * 1e6
	began := time.Now()
	pour(tb, s.from, s.to, total, tlsWrite)
	return sample{cpu: time.Since(began), work: float64(total) / 1e9}
}

// side is one kind, warmed up: past the small records that crypto/tls begins
// with.
func (k tlsKind) side() side {
	return side{k.name, func(tb testing.TB) slot {
		tb.Helper()
		m := k.make(tb)
		c, s := m.pair()
		slot := tlsSlot{c, s, func() {
			m.end(c)
			m.end(s)
			m.stop()
		}}
		slot.slice(tb)
		return slot
	}}
}

// BenchmarkTLS is for -benchtime 1x: it decides itself how much to do.
func BenchmarkTLS(b *testing.B) {
	for b.Loop() {
		bare, conn := tlsKinds(b)
		subject := &comparison{base: bare.side(), subject: conn.side()}
		noise := &comparison{base: bare.side(), subject: bare.side()}
		comparePairs(b, subject, noise)
		report{
			title: "One TLS connection, 64 KiB writes, both ends in one process", unit: "s per GB, by the clock", scale: 1, target: 1.10,
			methods: "Here CPU is the time by the clock.",
		}.publish(b, subject, noise)
	}
}

// BenchmarkTLSIdle is what a pair of idle ends costs, in bytes of heap and
// stacks, with a goroutine on each that is blocked in Read after it has read
// once.
func BenchmarkTLSIdle(b *testing.B) {
	for b.Loop() {
		bare, conn := tlsKinds(b)
		// A run before, for what is made once and for the stacks that the runtime
		// keeps: without it the first has to pay for them.
		_, _ = bare.idleCost(b, *tlsIdle), conn.idleCost(b, *tlsIdle)
		base, ours := bare.idleCost(b, *tlsIdle), conn.idleCost(b, *tlsIdle)
		fmt.Printf("\nidle pair of TLS ends with a reader each: %s %.0f bytes, %s %.0f (%.2f)\n", bare.name, base, conn.name, ours, ours/base)
		b.ReportMetric(base, "B/bare-pair")
		b.ReportMetric(ours, "B/conn-pair")
		b.ReportMetric(ours/base, "ratio")
		b.ReportMetric(0, "ns/op")
	}
}

func (k tlsKind) idleCost(tb testing.TB, n int) float64 {
	tb.Helper()
	m := k.make(tb)
	defer m.stop()
	before := memoryInUse()
	ends := make([]net.Conn, 0, 2*n)
	var readers, once sync.WaitGroup
	for range n {
		c, s := m.pair()
		ends = append(ends, c, s)
		once.Add(2)
		for _, end := range []net.Conn{c, s} {
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
		m.end(end)
	}
	readers.Wait()
	return float64(used) / float64(n)
}
